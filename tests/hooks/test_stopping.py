"""Early stopping judges each new value once, strictly, in the direction that it was given."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.hooks.scripted import run, scores, scripted
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchEnd,
    EpochEnd,
    Evaluation,
    EvaluationEnd,
    HookDict,
    HookSet,
    MissingValueError,
    Record,
    Stopped,
    every,
    named,
    train,
)
from trainhooks.errors import DuplicateHookNameError, HookDefinitionError, RunDefinitionError
from trainhooks.hooks import Best, early_stopping, ema, swa

NAN = math.nan


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "epochs"),
    [
        ([5, 4, 3, 2, 1, 0], 1, 0.0, 6),  # it improves to the end
        ([5, 4, 4, 3, 3, 3], 2, 0.0, 6),  # equal is no improvement; two in a row
        ([5, 4, 4, 3, 9, 9], 1, 0.0, 3),
        ([5, 4, 4, 3, 9, 9], 0, 0.0, 3),  # patience 0 means 1
        ([5, 6, 7, 4, 6, 7, 8], 3, 0.0, 7),  # an improvement starts the count anew
        ([5.0, 4.5, 4.0, 3.5], 2, 0.5, 4),  # by 0.5 is not by more than 0.5, by 1.0 since the best is
        ([5.0, 4.5, 4.5, 4.5], 2, 0.5, 3),
        ([NAN, NAN, 5, 5], 2, 0.0, 2),  # NaN is no improvement, not even as the first
        ([5, NAN, 4, 4, 4], 2, 0.0, 5),
        ([-math.inf, -math.inf, 0], 1, 0.0, 2),
        ([5, None, None, None, 5, 5], 2, 0.0, 6),  # an epoch without a value does not count
        ([None, None, None, 5, 6], 1, 0.0, 5),
    ],
)
def test_it_stops_at_so_many_failures_to_improve_in_a_row(
    values: list[float | None], patience: int, min_delta: float, epochs: int
) -> None:
    def greater(value: float | None) -> float | None:
        return None if value is None else -value

    smaller_is_better = early_stopping("score", mode="min", patience=patience, min_delta=min_delta)
    greater_is_better = early_stopping("score", mode="max", patience=patience, min_delta=min_delta)
    assert run([scripted(values), smaller_is_better], len(values)).at.epochs == epochs
    assert run([scripted([*map(greater, values)]), greater_is_better], len(values)).at.epochs == epochs


def test_the_end_says_what_was_best_and_when() -> None:
    result = run([scripted([5, 3.25, 4, 4, 4]), early_stopping("score", mode="min", patience=2)])
    reason = "score was best at update 4 (3.25) and did not improve for 2 values"
    assert result.end == Stopped(reason, ("early_stopping",))
    assert result.hook_states["early_stopping"] == Best(value=3.25, updates=4, failures=2, judged=4)
    result = run([scripted([NAN]), early_stopping("score", mode="min", patience=1)])
    assert result.end == Stopped("score was never a number and did not improve for 1 value", ("early_stopping",))


def test_a_value_of_an_evaluation_is_judged_once_though_two_events_show_it() -> None:
    """The evaluation's end brings it, the epoch's end shows it again."""
    model = linear()
    result = train(
        model, batches(4), squares, sgd(model), epochs=10,
        evaluations=[Evaluation("val", batches(1), metrics=scores(5, 6, 6, 6))],
        hooks=early_stopping("val/score", mode="min", patience=3),
    )  # fmt: skip
    assert result.at.epochs == 4
    assert isinstance(result.end, Stopped)


def test_it_works_in_a_run_without_epochs() -> None:
    model = linear()
    result = train(
        model, batches(1000), squares, sgd(model), max_updates=900,
        evaluations=[Evaluation("val", batches(1), metrics=scores(5, 3, 4, 4), when=every(3, "updates"))],
        hooks=early_stopping("val/score", mode="min", patience=2),
    )  # fmt: skip
    assert result.at.updates == 12
    assert isinstance(result.end, Stopped)


def test_it_does_not_count_an_evaluation_of_something_else() -> None:
    model = linear()
    evaluations = [
        Evaluation("val", batches(1), metrics=scores(5, 6), when=every(8, "updates")),
        Evaluation("test", batches(1), when=every(1, "updates")),
    ]
    result = train(
        model, batches(1000), squares, sgd(model), max_updates=100, evaluations=evaluations,
        hooks=early_stopping("val/score", mode="min", patience=1),
    )  # fmt: skip
    assert result.at.updates == 16


def test_two_early_stoppers_keep_their_own_state() -> None:
    """Keeps P10, within a run."""
    values = [5, 4, 4, 4, 4, 4]
    hooks: list[HookSet | HookDict] = [
        scripted(values),
        named("a", early_stopping("score", mode="min", patience=3)),
        named("b", early_stopping("score", mode="max", patience=9)),
    ]
    result = run(hooks)
    assert isinstance(result.end, Stopped)
    assert result.end.by == ("a",)
    assert result.hook_states == {
        "a": Best(value=4, updates=4, failures=3, judged=5),
        "b": Best(value=5, updates=2, failures=4, judged=5),
    }


def test_two_early_stoppers_of_one_name_are_refused() -> None:
    """Keeps P10."""
    with pytest.raises(DuplicateHookNameError, match=r"named\('early_stopping_2', hook\)"):
        run([early_stopping("train/loss", mode="min"), early_stopping("train/loss", mode="max")])


def test_a_set_of_hooks_is_as_new_in_a_second_run() -> None:
    """Keeps P12."""
    hook = early_stopping("score", mode="min", patience=2)
    ends = [run([scripted([5, 4, 4, 4, 4]), hook]).at.epochs for _ in range(2)]
    assert ends == [4, 4]


def test_a_value_that_nothing_provides_is_refused_with_the_names_that_exist() -> None:
    """Keeps P03."""
    with pytest.raises(MissingValueError, match=r"'early_stopping' reads 'val/acc', .* exist: train/loss\.") as caught:
        run([early_stopping("val/acc", mode="max")])
    assert caught.value.known == ("train/loss",)


def restored(values: Sequence[float], patience: int) -> tuple[nn.Module, list[list[Tensor]]]:
    """A run that restores the best state, and the weights at each epoch's end."""
    model = nn.Sequential(linear(), nn.BatchNorm1d(2))
    seen: list[list[Tensor]] = []

    def note(ctx: EpochEnd) -> None:
        seen.append([part.clone() for part in ctx.run.model.state_dict().values()])

    hook = early_stopping("score", mode="min", patience=patience, restore_best=True)
    hooks: list[HookSet | HookDict] = [scripted(values), hook, {"on_epoch_end": note}]
    train(model, batches(2), squares, sgd(model), epochs=len(values), hooks=hooks)
    return model, seen


def state(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


def test_the_best_state_is_restored_when_the_run_is_stopped_or_completed() -> None:
    model, seen = restored([5, 3, 4, 4, 4], 2)
    assert len(seen) == 4
    assert equal(state(model), seen[1])
    model, seen = restored([5, 3, 4, 4, 4], 99)
    assert len(seen) == 5
    assert equal(state(model), seen[1])
    assert not equal(state(model), seen[-1])


class Bank(nn.Module):
    """Remembers what it saw in a buffer that grows."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()
        self.register_buffer("seen", torch.zeros(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen = torch.cat([self.seen, x.detach()])
        return cast("Tensor", self.inner(x))


_IN_TWO = "'inner.parametrizations.weight."


def pruned(model: nn.Module) -> None:
    prune.l1_unstructured(cast("Any", model).inner, "weight", amount=1)


def parametrized(model: nn.Module) -> None:
    parametrizations.weight_norm(cast("Any", model).inner)


@pytest.mark.parametrize(
    ("change", "rest"),
    [
        (None, "'seen'"),
        (pruned, "'inner.weight', 'inner.weight_mask', 'inner.weight_orig', 'seen'"),
        (parametrized, f"{_IN_TWO}original0', {_IN_TWO}original1', 'inner.weight', 'seen'"),
    ],
    ids=["a buffer that grew", "pruned", "parametrized"],
)
def test_what_still_fits_is_restored_and_a_warning_names_the_rest(
    change: Callable[[nn.Module], None] | None, rest: str
) -> None:
    model, best = Bank(), list[Tensor]()

    def on_epoch_end(ctx: EpochEnd) -> None:
        if ctx.at.epochs == 1:
            best.append(model.inner.bias.detach().clone())
            if change is not None:
                change(model)

    hooks: list[HookSet | HookDict] = [
        scripted([1, 2, 3]),
        early_stopping("score", mode="min", restore_best=True),
        {"on_epoch_end": on_epoch_end},
    ]
    with pytest.warns(RuntimeWarning) as caught:
        result = run(hooks, 3, model)
    (warning,) = caught
    assert str(warning.message) == (
        "The weights of update 2, the best, were put back, but the model has changed its form since: "
        f"{rest} did not fit by name and shape, and the model keeps what it has there."
    )
    assert result.at.epochs == 3
    assert equal([model.inner.bias], best)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("average", [ema(0.9), swa(start=2)])
def test_what_is_restored_is_what_the_evaluation_looked_at(average: HookSet, order: int) -> None:
    """Keeps P84."""
    model, judged = nn.Sequential(linear(), nn.BatchNorm1d(2)), list[list[Tensor]]()

    def look(ctx: EvaluationEnd) -> None:
        judged.append([part.clone() for part in model.state_dict().values()])

    note: HookDict = {"on_evaluation_end": look}
    hooks: list[HookSet | HookDict] = [average, early_stopping("val/score", mode="min", restore_best=True), note]
    train(
        model, batches(3), squares, sgd(model), epochs=3, hooks=hooks[::order],
        evaluations=[Evaluation("val", batches(1), metrics=scores(5, 3, 4))],
    )  # fmt: skip
    assert equal(state(model), judged[1])


def test_a_value_of_the_epoch_judges_the_live_weights_though_evaluations_look_at_an_average() -> None:
    model, trained = linear(), list[list[Tensor]]()
    note: HookDict = {"on_epoch_end": lambda ctx: trained.append(weights(model))}
    result = train(
        model, batches(3), squares, sgd(model), epochs=3,
        hooks=[ema(0.9), early_stopping("train/loss", mode="max", restore_best=True), note],
        evaluations=[Evaluation("val", batches(1))],
    )  # fmt: skip
    best = result.hook_states["early_stopping"]
    assert isinstance(best, Best)
    assert (best.updates, best.judged) == (3, 3)
    assert equal(weights(model), trained[0])


def test_two_sets_that_leave_other_weights_at_the_end_are_refused_before_anything_moves() -> None:
    model, called = linear(), list[str]()
    begins: HookDict = {"on_train_loop_registration": lambda ctx: called.append("registration")}
    restores = early_stopping("train/loss", mode="min", restore_best=True)
    for hooks in ([ema(0.9, apply_at_end=True), restores], [restores, swa(start=1, apply_at_end=True)]):
        names = " and ".join(repr(one.name) for one in hooks)
        with pytest.raises(RunDefinitionError, match=rf"{names} each leave other weights .* drop the latter"):
            train(model, batches(3), squares, sgd(model), epochs=1, hooks=[begins, hooks])
    assert called == []


def test_a_run_that_failed_is_left_as_it_is() -> None:
    def fail(ctx: EpochEnd) -> None:
        if ctx.at.epochs == 3:
            raise ValueError("broken")

    model = linear()
    seen: list[list[Tensor]] = []
    hook = early_stopping("score", mode="min", restore_best=True)
    note: HookDict = {"on_epoch_end": [lambda ctx: seen.append(weights(model)), fail]}
    with pytest.raises(ValueError, match="broken"):
        run([scripted([5, 3, 4]), hook, note], model=model)
    assert equal(weights(model), seen[-1])
    assert not equal(weights(model), seen[1])


@pytest.mark.parametrize(
    ("values", "threshold", "epochs"),
    [
        ([5, 4, 3, 2, 1], 3.0, 3),  # the threshold is good enough
        ([5, 4, 3, 2, 1], 2.5, 4),
        ([5, NAN, 4, 3.5], 3.0, 4),
        ([1, 2, 3], 3.0, 1),
        ([5, None, 3, 3], 3.0, 3),
    ],
)
def test_it_stops_as_soon_as_a_value_is_good_enough(values: list[float | None], threshold: float, epochs: int) -> None:
    greater = [None if value is None else -value for value in values]
    smaller_is_better = early_stopping("score", mode="min", patience=99, stopping_threshold=threshold)
    greater_is_better = early_stopping("score", mode="max", patience=99, stopping_threshold=-threshold)
    assert run([scripted(values), smaller_is_better], len(values)).at.epochs == epochs
    assert run([scripted(greater), greater_is_better], len(values)).at.epochs == epochs


def test_a_value_that_is_good_enough_is_the_best_though_it_is_better_by_little() -> None:
    hook = early_stopping("score", mode="min", patience=2, min_delta=1.0, stopping_threshold=3.0, restore_best=True)
    model = linear()
    seen: list[list[Tensor]] = []
    note: HookDict = {"on_epoch_end": lambda ctx: seen.append(weights(ctx.run.model))}
    result = run([scripted([5, 3.5, 2.75, 9]), hook, note], 4, model)
    assert result.end == Stopped("score is 2.75, as good as the threshold 3", ("early_stopping",))
    best = result.hook_states["early_stopping"]
    assert isinstance(best, Best)
    assert (best.value, best.updates, best.failures) == (2.75, 6, 0)
    assert equal(weights(model), seen[2])
    assert not equal(weights(model), seen[1])


def test_values_before_the_start_are_not_judged() -> None:
    """An epoch has two updates, so the third epoch's value is the first that counts."""
    hook = early_stopping("score", mode="min", patience=2, start=5)
    result = run([scripted([1, 2, 3, 2, 2.5, 2.5, 2.5]), hook])
    assert result.hook_states["early_stopping"] == Best(value=2, updates=8, failures=2, judged=6)
    assert result.at.epochs == 6
    hook = early_stopping("score", mode="min", patience=2, start=4, stopping_threshold=1.0)
    assert run([scripted([1, 3, 3, 3]), hook]).at.epochs == 4


def test_a_value_from_before_the_start_is_not_judged_when_a_later_event_shows_it_again() -> None:
    """The evaluation comes after update 4 of 6; the epoch's end shows its value after the start."""
    model = linear()
    evaluation = Evaluation("val", batches(1), metrics=scores(1, 5, 6), when=every(4, "updates"))
    result = train(
        model, batches(6), squares, sgd(model), epochs=2, evaluations=[evaluation],
        hooks=early_stopping("val/score", mode="min", patience=1, start=5),
    )  # fmt: skip
    assert result.at.updates == 12
    assert result.hook_states["early_stopping"] == Best(value=5, updates=8, failures=1, judged=3)
    assert isinstance(result.end, Stopped)


def test_a_value_of_a_batch_is_judged_once_at_the_end_of_its_epoch() -> None:
    def rarely(ctx: BatchEnd) -> Record | None:
        return Record({"rare": 1.0}) if ctx.at.updates in (1, 5) else None

    rare: HookDict = {"on_batch_end": rarely, "provides": frozenset({"rare"})}
    result = run([rare, early_stopping("rare", mode="min", patience=1)], 9)
    assert result.hook_states["early_stopping"] == Best(value=1, updates=2, failures=1, judged=2)
    assert result.at.epochs == 3


def test_without_restore_best_nothing_is_written_or_copied() -> None:
    hook = early_stopping("score", mode="min")
    assert hook.writes == frozenset()
    assert early_stopping("score", mode="min", restore_best=True).writes == {"parameters", "buffers", "final"}
    best = run([scripted([5, 3]), hook], 2).hook_states["early_stopping"]
    assert isinstance(best, Best)
    assert best.weights is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"mode": "auto"}, r"early_stopping\('score'\) takes mode='min' if smaller is better, .*got 'auto'"),
        ({"mode": "min", "patience": -1}, "early_stopping takes patience as a whole number from 0 on, got -1"),
        ({"mode": "min", "patience": 1.5}, r"early_stopping takes patience as a whole number from 0 on, got 1\.5"),
        ({"mode": "min", "min_delta": -0.1}, r"early_stopping takes min_delta as a finite number from 0 on, got -0\.1"),
        ({"mode": "min", "min_delta": NAN}, "early_stopping takes min_delta as a finite number from 0 on, got nan"),
        ({"mode": "min", "stopping_threshold": NAN}, "takes stopping_threshold as a finite number, got nan"),
        ({"mode": "min", "stopping_threshold": "low"}, "takes stopping_threshold as a finite number, got 'low'"),
        ({"mode": "min", "start": -1}, "early_stopping takes start as a whole number from 0 on, got -1"),
        ({"mode": "min", "monitor": "*"}, r"watches one value by its name, such as 'val/loss', got '\*'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        cast("Any", early_stopping)(**{"monitor": "score", **arguments})
