"""What may change between a checkpoint and the run that goes on from it, and what is refused."""

import gc
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.loop.programs import batches, linear, sgd, squares
from tests.run.saved import experiment, loader, run, scripted, steps
from trainhooks import (
    Answer,
    BatchEnd,
    CheckpointError,
    EndEpoch,
    EpochBegin,
    HookDict,
    HookSet,
    NoExperimentError,
    OptimizerStepped,
    ResumeError,
    RunDefinitionError,
    Save,
    StorageError,
    TrainBegin,
    Trigger,
    every,
    factory,
    load_weights,
    named,
    ordered,
    quarantine,
    train,
)
from trainhooks.hooks import (
    checkpoint,
    clip_grad_norm,
    cosine,
    early_stopping,
    lr_schedule,
    time_limit,
    value_schedule,
    warmup,
)
from trainhooks.run import reuse

TENSOR = torch.zeros(2)
EACH = checkpoint(when=every(1, "updates"), keep_last=None)


def test_a_changed_configuration_is_told_field_by_field_and_takes_effect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keeps P13."""
    model = linear()
    hyperparams = {"lr": 0.1, "depth": {"encoder": 2, "decoder": 1}}
    train(
        model, loader(), squares, sgd(model), max_updates=2, hooks=EACH,
        experiment=experiment(tmp_path, hyperparams=hyperparams),
    )  # fmt: skip
    hyperparams = {"lr": 0.1, "depth": {"encoder": 3, "decoder": 1}, "width": 8}
    with caplog.at_level(logging.INFO, "trainhooks"):
        result = train(
            model, loader(), squares, sgd(model), max_updates=5, epochs=1, resume="must",
            hooks=[EACH, {"name": "new", "on_batch_end": lambda ctx: None}],
            experiment=experiment(tmp_path, hyperparams=hyperparams),
        )  # fmt: skip
    (message,) = caplog.messages
    assert "Going on from update 2 of " in message
    assert message.endswith(
        ", with changes: epochs: None -> 1; max_updates: 2 -> 5; observers: [] -> ['new (order 0)']; "
        "hyperparams.depth.encoder: 2 -> 3; hyperparams.width: None -> 8."
    )
    assert result.at.updates == 5


def as_it_is(hook: HookSet) -> HookSet:
    return hook


def set_momentum(optimizer: Any, value: float) -> None:
    pass


def nothing(update: int) -> float:
    return 1.0


def twice(update: int) -> float:
    return 2.0


@factory
def noting(what: object, *, token: str = "") -> HookSet:
    def on_batch_end(ctx: BatchEnd) -> None: ...

    return HookSet(name="noting", on_batch_end=on_batch_end)


def test_changed_settings_of_sets_are_told_by_argument_and_take_effect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keeps P92."""

    def hooks(n: int, wrapped: Any, *more: object, token: str, when_saved: Trigger) -> list[Any]:
        return [
            checkpoint(when=when_saved, keep_last=n), lr_schedule(warmup(2, cosine(10 * n))), wrapped(noting(more)),
            named("alike", noting(TENSOR, token=token)), value_schedule(set_momentum, nothing if n == 2 else twice),
            clip_grad_norm(1.0), {"name": "plain", "on_batch_end": print},
        ]  # fmt: skip

    def again(updates: int, hooks: list[Any], **more: Any) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO, "trainhooks"):
            kept = run(tmp_path, hooks, updates=updates, epochs=None, **more).checkpoints
        assert kept
        return [one for record in caplog.records if "Going on" in (one := record.getMessage())]

    each = every(1, "updates")
    again(2, hooks(2, as_it_is, 1, token="a", when_saved=each))
    (message,) = again(2, hooks(2, as_it_is, 1, token="b", when_saved=each), resume="must")
    assert "with changes" not in message  # another secret, lambda or place is not seen
    (message,) = again(4, hooks(3, quarantine, 1, 2.5, token="a", when_saved=every(2, "updates")), resume="must")
    assert message.endswith(
        ", with changes: max_updates: 2 -> 4; checkpoint: when every(1, 'updates') -> every(2, 'updates'); "
        "checkpoint: keep_last 2 -> 3; lr_schedule: factor_of_update warmup(updates=2, then=cosine(updates=20)) -> "
        "warmup(updates=2, then=cosine(updates=30)); noting: what (1,) -> (1, 2.5); noting: quarantine() nothing -> "
        "True; value_schedule: value_of_update tests.run.test_resume_rules.nothing -> "
        "tests.run.test_resume_rules.twice."
    )
    assert caplog.records[-1].levelno == logging.INFO
    run_json = next(tmp_path.rglob("run.json")).read_text()
    assert "0x" not in run_json
    assert json.loads(run_json)["config"]["settings"]["alike"] == {
        "made by": "tests.run.test_resume_rules.noting", "what": "torch.Tensor", "token": "'***'",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (1.0, 1, None),
        ([1, {"a": 2.0}], (1, {"a": 2}), None),
        (1, True, "1 -> True"),
        ("1", 1, "'1' -> 1"),
        ([1, {"a": 2}], [1, {"a": 3}], "[1, {'a': 2}] -> [1, {'a': 3}]"),
        ("(" * 300, "(" * 301, f"'{'(' * 300}' -> '{'(' * 301}'"),
    ],
)
def test_what_is_told_of_settings_goes_by_their_equality(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, was: object, now: object, said: str | None
) -> None:
    """Keeps P92."""
    assert (noting(was) == noting(now)) is (said is None)
    run(tmp_path, [EACH, noting(was)], updates=1)
    with caplog.at_level(logging.INFO, "trainhooks"):
        run(tmp_path, [EACH, noting(now)], updates=2, resume="must")
    more = "" if said is None else f"; noting: what {said}"
    assert caplog.messages[0].endswith(f", with changes: max_updates: 1 -> 2{more}.")


def test_another_factory_under_the_same_name_is_told_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keeps P92."""
    run(tmp_path, [EACH, noting(1), noting(2)], updates=2)
    with caplog.at_level(logging.INFO, "trainhooks"):
        run(tmp_path, [EACH, noting(1), named("noting", time_limit(60.0))], updates=3, resume="must")
    assert caplog.messages[0].endswith(
        ", with changes: max_updates: 2 -> 3; noting (2): made by tests.run.test_resume_rules.noting -> time_limit."
    )


def test_hyperparameters_with_nan_and_lists_of_mappings_are_the_same_on_a_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keeps P13."""

    def go(updates: int, units: int) -> list[str]:
        model = linear()
        hyperparams = {"lr": float("nan"), "layers": [{"units": 3}, {"units": units}, "end", 4]}
        caplog.clear()
        with caplog.at_level(logging.INFO, "trainhooks"):
            train(
                model, loader(), squares, sgd(model), max_updates=updates, hooks=EACH, resume="auto",
                experiment=experiment(tmp_path, hyperparams=hyperparams),
            )  # fmt: skip
        return caplog.messages

    go(2, 4)
    (same,) = go(2, 4)
    assert "with changes" not in same
    (changed,) = go(2, 5)
    assert changed.endswith(
        "hyperparams.layers: [{'units': 3}, {'units': 4}, 'end', 4] -> [{'units': 3}, {'units': 5}, 'end', 4]."
    )


@pytest.mark.parametrize(
    ("more", "hooks", "message"),
    [
        ({"accumulate": 2}, (), "accumulate: 1 -> 2"),
        ({"precision": "bf16-mixed"}, (), "precision: 'float32' -> 'bf16-mixed'"),
        ({"seed": 4}, (), "seed: 3 -> 4"),
        ({}, clip_grad_norm(1.0), r"hooks: \[\] -> \['clip_grad_norm"),
    ],
)
def test_what_would_make_it_another_run_is_refused(
    tmp_path: Path, more: dict[str, Any], hooks: Any, message: str
) -> None:
    """Keeps P13."""
    run(tmp_path, EACH, updates=2, seed=3)
    begun = list[object]()
    arguments: dict[str, Any] = {"seed": 3, **more}
    noting = HookSet(name="noting", on_train_loop_registration=begun.append)
    with pytest.raises(ResumeError, match=message):
        run(tmp_path, [EACH, hooks, noting], updates=4, resume="auto", **arguments)
    assert begun == []


def test_the_order_of_what_writes_is_part_of_the_run(tmp_path: Path) -> None:
    def note(ctx: OptimizerStepped) -> None:
        pass

    clip = clip_grad_norm(1.0)
    other = HookSet(name="other", writes=frozenset({"parameters"}), on_after_optimizer_step=note)
    run(tmp_path, [EACH, clip, other], updates=2)
    with pytest.raises(ResumeError, match=r"hooks: \['clip_grad_norm .*', 'other .*'\] -> \['other .*', 'clip_grad"):
        run(tmp_path, [EACH, other, clip], updates=4, resume="auto")
    with pytest.raises(ResumeError, match=r"\['other \(order 0\)'\] -> \['other \(order 3\)'\]"):
        run(tmp_path, [EACH, clip, ordered(3, other)], updates=4, resume="auto")


def test_a_checkpoint_of_another_model_names_what_does_not_fit(tmp_path: Path) -> None:
    run(tmp_path, EACH, updates=2)
    deeper = nn.Sequential(nn.Linear(3, 2))
    message = r"lacks '0.bias', '0.weight', and has 'bias', 'weight' that the model has not"
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path, EACH, model=deeper, updates=4, resume="auto")
    with pytest.raises(CheckpointError, match=message):
        load_weights(deeper, experiment(tmp_path))
    wider = nn.Linear(4, 2)
    with pytest.raises(CheckpointError, match="size mismatch for weight"):
        load_weights(wider, experiment(tmp_path), which=2)


@pytest.mark.parametrize(
    ("resume", "error", "message"),
    [
        ("must", ResumeError, "resume='must', but there is no whole checkpoint in "),
        (7, ResumeError, "resume=7, but .* has no whole checkpoint of that update; those of: none"),
        ("always", RunDefinitionError, "resume is 'never', 'auto' or 'must', or an update count from 0 on, got 'alw"),
        (-1, RunDefinitionError, "an update count from 0 on, got -1"),
        (True, RunDefinitionError, "got True"),
    ],
)
def test_a_place_that_is_not_there_is_refused(
    tmp_path: Path, resume: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(tmp_path, EACH, updates=2, resume=resume)
    assert not list(tmp_path.rglob("*.json"))


def test_a_run_goes_on_from_the_update_that_is_asked_for_and_replaces_what_came_after(tmp_path: Path) -> None:
    """Keeps P62."""
    run(tmp_path, EACH, updates=5)
    with pytest.raises(ResumeError, match="those of: 1, 2, 3, 4, 5"):
        run(tmp_path, EACH, updates=5, resume=9)
    begun = list[int]()

    def note(ctx: TrainBegin) -> None:
        assert ctx.resumed
        begun.append(ctx.at.updates)

    again: Any = [checkpoint(when=every(2, "updates"), keep_last=None), {"name": "note", "on_train_begin": note}]
    result = run(tmp_path, again, updates=4, resume=3)
    assert begun == [3]
    assert steps(result) == [1, 2, 3, 4]
    assert result.checkpoints[-1].attempt == 2
    assert steps(run(tmp_path, again, updates=4, resume="must")) == [1, 2, 3, 4]


def test_auto_begins_afresh_where_there_is_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, EACH, updates=2, resume="auto").at.updates == 2


def test_a_complete_run_that_goes_on_has_nothing_to_do(tmp_path: Path) -> None:
    first = run(tmp_path, EACH, updates=3)
    trained = list[int]()

    def note(ctx: BatchEnd) -> None:
        trained.append(ctx.at.updates)

    result = run(tmp_path, [EACH, {"name": "note", "on_batch_end": note}], updates=3, resume="auto")
    assert (result.at, result.metrics, result.history, trained) == (first.at, first.metrics, first.history, [])


def test_an_epoch_begins_once_in_the_runs_life(tmp_path: Path) -> None:
    begun = list[tuple[int, int]]()

    def note(ctx: EpochBegin) -> None:
        begun.append((ctx.at.epoch, ctx.at.updates))

    hooks: Any = [EACH, {"name": "note", "on_epoch_begin": note}]
    for updates in (2, 8, 9, 14):
        run(tmp_path, hooks, updates=updates, resume="auto")
    assert begun == [(0, 0), (1, 6), (2, 12)]


def test_a_checkpoint_made_as_a_run_goes_on_has_the_values_of_its_update(tmp_path: Path) -> None:
    def save(ctx: TrainBegin) -> Save | None:
        return Save("again") if ctx.resumed else None

    hooks: Any = [EACH, {"name": "saving", "on_train_begin": save}]
    first = run(tmp_path, hooks, updates=2, evaluations=[scripted([5.0, 4.0])])
    again = run(tmp_path, hooks, updates=2, evaluations=[scripted([])], resume="must")
    assert again.checkpoints[-1].tags == ("again",)
    assert again.checkpoints[-1].metrics == first.checkpoints[-1].metrics
    assert again.checkpoints[-1].metrics["val/score"] == 4.0


def test_an_epoch_that_was_ended_as_it_began_stays_ended(tmp_path: Path) -> None:
    trained = list[tuple[int, int]]()

    def end_the_second(ctx: EpochBegin) -> list[Answer]:
        return [Save("here"), EndEpoch("not this one")] if ctx.at.epoch == 1 else []

    def note(ctx: BatchEnd) -> None:
        trained.append((ctx.at.epoch, ctx.at.updates))

    hooks: Any = [{"name": "ending", "on_epoch_begin": end_the_second, "on_batch_end": note}]
    run(tmp_path, hooks, epochs=3)
    expected = [(0, n) for n in range(1, 7)] + [(2, n) for n in range(7, 13)]
    assert trained == expected
    trained.clear()
    run(tmp_path, hooks, epochs=3, resume=6)
    assert trained == expected[6:]


@pytest.mark.parametrize(
    "arguments",
    [
        {"hooks": checkpoint()},
        {"hooks": [early_stopping("val/loss", mode="min"), EACH]},
        {"resume": "auto"},
        {"resume": 3},
    ],
)
def test_what_needs_an_experiment_says_so(arguments: dict[str, Any]) -> None:
    model = linear()
    with pytest.raises(NoExperimentError, match=r"no experiment; write train\(..., experiment=Exp") as it:
        train(model, batches(2), squares, sgd(model), epochs=1, **arguments)
    assert isinstance(it.value, AttributeError)


def one_shots() -> list[Callable[[], Any]]:
    return [lambda: (one for one in batches(3)), lambda: iter(batches(3)), lambda: map(tuple, batches(3))]


@pytest.mark.parametrize("make", one_shots())
def test_data_that_is_used_up_cannot_go_on(tmp_path: Path, make: Callable[[], Any]) -> None:
    """Keeps P19."""
    with pytest.raises(RunDefinitionError, match=r"one-shot .* resume='auto' cannot find its place .*seeded_loader"):
        run(tmp_path, EACH, data=make(), epochs=1, resume="auto")


class Counting:
    """A hook object that keeps its own state."""

    def __init__(self) -> None:
        self.seen = 0

    def on_batch_end(self, ctx: BatchEnd) -> None:
        self.seen += 1

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]


def test_a_hook_object_is_carried_in_checkpoints_and_is_for_one_run(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    run(tmp_path, [EACH, first], updates=2)
    result = run(tmp_path, [EACH, second], updates=5, resume="must")
    assert second.seen == 5
    assert result.hook_states["Counting"] is second
    run(tmp_path, [EACH, second], updates=6, resume="must")
    assert second.seen == 6, "a new attempt of the same run puts its state back"
    run(tmp_path, [EACH, second], updates=6, resume=3)
    assert second.seen == 6, "an earlier state is put back, too"
    used = "keeps its own state and has been in a run already; make a fresh Counting"
    with pytest.raises(RunDefinitionError, match=used):
        run(tmp_path, [EACH, second], updates=6)
    with pytest.raises(RunDefinitionError, match=used):
        run(tmp_path, [EACH, named("other", second)], updates=8, resume="must")


def refused_by_its_place(folder: Path, counting: Counting) -> None:
    folder.write_text("a file, so there can be no folder")
    with pytest.raises(StorageError):
        run(folder, [EACH, counting], updates=2)


def refused_by_the_resume(folder: Path, counting: Counting) -> None:
    with pytest.raises(ResumeError):
        run(folder, [EACH, counting], updates=2, resume="must")


def not_prepared(folder: Path, counting: Counting) -> None:
    def fail(model: nn.Module) -> torch.optim.Optimizer:
        raise MemoryError

    with pytest.raises(MemoryError):
        train(linear(), batches(2), squares, fail, epochs=1, hooks=counting)


def of_another_model(folder: Path, counting: Counting) -> None:
    run(folder, [EACH, Counting()], updates=2)
    with pytest.raises(CheckpointError):
        run(folder, [EACH, counting], model=nn.Linear(3, 9), updates=4, resume="must")


@pytest.mark.parametrize("start", [refused_by_its_place, refused_by_the_resume, not_prepared, of_another_model])
def test_a_hook_object_whose_run_never_began_is_taken_by_the_next(
    tmp_path: Path, start: Callable[[Path, Counting], None]
) -> None:
    counting = Counting()
    start(tmp_path / "first", counting)
    assert counting.seen == 0
    run(tmp_path / "second", [EACH, counting], updates=2)
    assert counting.seen == 2
    with pytest.raises(RunDefinitionError, match="has been in a run already"):
        run(tmp_path / "third", [EACH, counting], updates=2)


def test_a_hook_object_is_in_a_run_once_training_began_however_it_ended_and_within_it() -> None:
    counting = Counting()

    def again(ctx: BatchEnd) -> None:
        train(linear(), batches(2), squares, sgd, epochs=1, hooks=counting)

    inner: HookDict = {"on_batch_end": again}
    for hooks in ((counting, inner), (counting,)):
        with pytest.raises(RunDefinitionError, match="has been in a run already"):
            train(linear(), batches(2), squares, sgd, epochs=1, hooks=hooks)
    assert counting.seen == 1


def test_a_hook_object_that_is_gone_is_forgotten() -> None:
    before = len(reuse._TRAINED)  # pyright: ignore[reportPrivateUsage]
    for _ in range(3):
        train(linear(), batches(1), squares, sgd, epochs=1, hooks=Counting())
    gc.collect()
    assert len(reuse._TRAINED) <= before  # pyright: ignore[reportPrivateUsage]
