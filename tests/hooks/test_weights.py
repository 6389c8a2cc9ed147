"""Averages of weights are those of PyTorch, bit for bit, and hold each update that was made once."""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.hooks.averages import average_of, everything, with_buffers
from tests.hooks.reads import Reads
from tests.hooks.windows import skips_update, two_objectives
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchBegin,
    BatchEnd,
    EndEpoch,
    Evaluation,
    EvaluationEnd,
    GradientsReady,
    HookDict,
    HookSet,
    SkipBatch,
    SkipUpdate,
    every,
    named,
    since,
    train,
    when,
)
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks import early_stopping
from trainhooks.hooks.weights import Average, ema, swa

Averaged: TypeAlias = Callable[[nn.Module], AveragedModel]


def in_three_types() -> nn.Module:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()
            self.scale = nn.Parameter(torch.ones(2, dtype=torch.float64))
            self.level = nn.Parameter(torch.tensor([3]), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return cast("Tensor", self.inner(x)) * self.scale.float()

    return Scaled()


def averaged_ema(model: nn.Module) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=cast("Any", get_ema_multi_avg_fn(0.9)))


def averaged_with_buffers(model: nn.Module) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=cast("Any", get_ema_multi_avg_fn(0.9)), use_buffers=True)


CASES: dict[str, tuple[HookSet, Averaged, Callable[[int], bool], Callable[[], nn.Module]]] = {
    "ema": (ema(0.9), averaged_ema, lambda updates: True, with_buffers),
    "ema at every third update": (ema(0.9, every=3), averaged_ema, lambda updates: updates % 3 == 0, with_buffers),
    "ema late": (ema(0.9, every=3, start=4), averaged_ema, lambda updates: updates in (4, 7, 10), with_buffers),
    "ema by a function": (ema(lambda updates: 0.9), averaged_ema, lambda updates: True, with_buffers),
    "ema in three types": (ema(0.9), averaged_ema, lambda updates: True, in_three_types),
    "swa": (swa(start=1), AveragedModel, lambda updates: True, with_buffers),
    "swa late": (swa(start=4, every=3), AveragedModel, lambda updates: updates in (4, 7, 10), with_buffers),
}


@pytest.mark.parametrize(("hook", "averaged", "averages", "make"), CASES.values(), ids=CASES)
def test_an_average_is_bit_equal_to_pytorchs(
    hook: HookSet, averaged: Averaged, averages: Callable[[int], bool], make: Callable[[], nn.Module]
) -> None:
    by_hand = make()
    optimizer = sgd(by_hand)
    expected = averaged(by_hand)
    for updates, batch in enumerate(batches(11), start=1):
        optimizer.zero_grad()
        squares(by_hand, batch).loss.backward()
        optimizer.step()
        if averages(updates):
            expected.update_parameters(by_hand)
    model = make()
    average = average_of(train(model, batches(11), squares, sgd(model), epochs=1, hooks=hook), hook.name)
    assert average.count == int(expected.n_averaged)
    assert list(average.weights) == [*dict(model.named_parameters()), *dict(model.named_buffers())]
    assert equal(list(average.weights.values()), everything(expected.module))
    assert equal(everything(model), everything(by_hand))
    assert not equal(list(average.weights.values()), everything(model))


@pytest.mark.filterwarnings("ignore:when.* can never fire in this run:RuntimeWarning")
@given(st.integers(1, 5), st.integers(0, 4), st.frozensets(st.integers(1, 9), max_size=2), st.integers(1, 3))
def test_a_trigger_gives_the_average_that_its_own_argument_gives_and_evaluations_see_it(
    n: int, start: int, skipped: frozenset[int], accumulate: int
) -> None:
    """Keeps P85."""

    def skip(ctx: GradientsReady) -> SkipUpdate | None:
        return SkipUpdate("planned") if ctx.at.batches in skipped else None

    def averaged(hook: Any) -> tuple[list[Tensor], list[dict[str, float]], int]:
        model = with_buffers()
        evaluation = Evaluation("val", batches(1, seed=7), when=every(1, "updates"))
        values: list[dict[str, float]] = []

        def note(ctx: EvaluationEnd) -> None:
            values.append(dict(ctx.metrics))

        result = train(
            model, batches(9), squares, sgd(model), epochs=1, accumulate=accumulate, evaluations=[evaluation],
            hooks=[hook, {"on_after_gradient_update": skip, "on_evaluation_end": note}],
        )  # fmt: skip
        average = average_of(result, "ema")
        return list(average.weights.values()), values, average.count

    (weights_of, values, count), expected = averaged(when(every(n, "updates"), ema(0.9))), averaged(ema(0.9, every=n))
    assert equal(weights_of, expected[0])
    assert (values, count) == expected[1:]
    late = when(since(max(start, 1), "updates"), ema(0.9))
    assert equal(averaged(late)[0], averaged(ema(0.9, start=start))[0])


def test_a_decay_that_is_a_function_is_asked_with_the_update_count() -> None:
    """It is not asked for the first update, whose weights begin the average, nor where the average is not updated."""
    model, asked = linear(), list[int]()

    def decay(updates: int) -> float:
        asked.append(updates)
        return min(0.9, (1 + updates) / (10 + updates))

    by_hand, seen = list[Tensor](), list[int]()

    def follow(ctx: BatchEnd) -> None:
        if ctx.at.updates % 2:
            return
        seen.append(ctx.at.updates)
        if not by_hand:
            by_hand.extend(weights(model))
            return
        kept = min(0.9, (1 + ctx.at.updates) / (10 + ctx.at.updates))
        for average, one in zip(by_hand, weights(model), strict=True):
            average.lerp_(one, 1 - kept)

    hooks: list[HookSet | HookDict] = [ema(decay, every=2), {"on_batch_end": follow}]
    result = train(model, batches(7), squares, sgd(model), epochs=1, hooks=hooks)
    assert asked == seen == [2, 4, 6]
    assert equal(list(average_of(result, "ema").parameters.values()), by_hand)


def test_buffers_are_averaged_if_asked_for_and_whole_numbers_are_copied() -> None:
    by_hand = with_buffers()
    optimizer, expected = sgd(by_hand), averaged_with_buffers(by_hand)
    for batch in batches(5):
        optimizer.zero_grad()
        squares(by_hand, batch).loss.backward()
        optimizer.step()
        expected.update_parameters(by_hand)
    model = with_buffers()
    hook = ema(0.9, buffers="average")
    average = average_of(train(model, batches(5), squares, sgd(model), epochs=1, hooks=hook), "ema")
    wanted = dict(expected.module.named_buffers())
    assert equal([average.buffers["1.running_mean"]], [wanted["1.running_mean"]])
    assert equal([average.buffers["1.running_var"]], [wanted["1.running_var"]])
    assert float(average.buffers["1.num_batches_tracked"]) == 5
    assert not equal([average.buffers["1.running_mean"]], [dict(model.named_buffers())["1.running_mean"]])


class Changing(nn.Module):
    """One whose cache grows with its input, and which has no statistics until it was called."""

    cache: Tensor
    statistics: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()
        self.register_buffer("cache", torch.zeros(0), persistent=False)
        self.register_buffer("statistics", None)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > len(self.cache):
            self.cache = torch.arange(len(x), dtype=x.dtype)
        self.statistics = x.mean(0)
        return cast("Tensor", self.inner(x)) + self.cache[: len(x), None]


@pytest.mark.parametrize("hook", [ema(0.9), named("average", ema(0.9, buffers="average")), swa(start=1)])
def test_a_buffer_that_grows_or_appears_is_in_the_average_as_the_model_has_it(hook: HookSet) -> None:
    model = Changing()
    growing = [(x[:size], y[:size]) for (x, y), size in zip(batches(4), (1, 3, 2, 4), strict=True)]
    evaluation = Evaluation("val", [(torch.cat([x, x, x]), torch.cat([y, y, y])) for x, y in batches(1)])
    result = train(model, growing, squares, sgd(model), epochs=2, hooks=hook, evaluations=[evaluation])
    average = average_of(result, hook.name)
    assert average.count == 8
    assert average.buffers["cache"].tolist() == list(range(len(model.cache)))
    assert average.buffers.keys() == {"cache", "statistics"}


def test_the_average_of_a_new_parameter_begins_where_it_came_and_one_that_is_gone_leaves() -> None:
    """Pruning puts `weight_orig` and a mask in the place of `weight`; each average has its own count."""
    seen: dict[int, Tensor] = {}

    def change(ctx: BatchBegin) -> None:
        if ctx.at.updates == 3:
            prune.l1_unstructured(cast("Any", ctx.run.model)[0], "weight", amount=1)

    def note(ctx: BatchEnd) -> None:
        if ctx.at.updates > 3:
            seen[ctx.at.updates] = model.get_parameter("0.weight_orig").detach().clone()

    for hook, shares in ((ema(0.5), (0.25, 0.25, 0.5)), (swa(start=1), (1 / 3, 1 / 3, 1 / 3))):
        model = nn.Sequential(linear())
        hooks: list[HookSet | HookDict] = [hook, {"on_batch_begin": change, "on_batch_end": note}]
        result = train(model, batches(6), squares, sgd(model), epochs=1, hooks=hooks, evaluations=[
            Evaluation("val", batches(1), when=every(1, "updates"))
        ])  # fmt: skip
        average = average_of(result, hook.name)
        assert average.parameters.keys() == {"0.bias", "0.weight_orig"}
        assert average.buffers.keys() == {"0.weight_mask"}
        assert (average.count, average.late) == (6, {"0.weight_orig": 3, "0.weight_mask": 3})
        expected = sum(share * seen[updates] for share, updates in zip(shares, (4, 5, 6), strict=True))
        assert torch.allclose(average.parameters["0.weight_orig"], cast("Tensor", expected))


def test_a_model_that_changes_its_type_keeps_its_average() -> None:
    def widen(ctx: BatchBegin) -> None:
        if ctx.at.updates == 2:
            ctx.run.model.double()

    def in_its_type(model: nn.Module, batch: Any) -> Tensor:
        x, y = (one.to(next(model.parameters()).dtype) for one in batch)
        return cast("Tensor", (model(x) - y).square().mean())

    model = linear()
    hooks: list[HookSet | HookDict] = [swa(start=1), {"on_batch_begin": widen}]
    average = average_of(train(model, batches(4), in_its_type, sgd(model), epochs=1, hooks=hooks), "swa")
    assert {one.dtype for one in average.parameters.values()} == {torch.float64}
    assert (average.count, average.late) == (4, {})


def test_what_a_lazy_module_never_made_is_left_out() -> None:
    model = nn.ModuleDict({"used": linear(), "idle": nn.LazyLinear(2)})

    def step(model: nn.Module, batch: Any) -> Tensor:
        return squares(cast("Any", model)["used"], batch).loss

    used = list(model["used"].parameters())
    hooks = [ema(0.9), early_stopping("val/loss", mode="min", restore_best=True)]
    result = train(
        model, batches(3), step, torch.optim.SGD(used, 0.1), epochs=2, hooks=hooks,
        evaluations=[Evaluation("val", batches(1))],
    )  # fmt: skip
    assert average_of(result, "ema").parameters.keys() == {"used.weight", "used.bias"}


def counts(*hooks: HookSet | HookDict, accumulate: int = 1) -> tuple[int, int]:
    """How many updates a run of 7 batches made, and how many are in the average."""
    model = linear()
    result = train(model, batches(7), squares, sgd(model), epochs=1, accumulate=accumulate, hooks=[ema(0.9), *hooks])
    return result.at.updates, average_of(result, "ema").count


def test_every_update_is_in_the_average_once_however_its_window_closed() -> None:
    """A full one, a short last one, one that ends with the epoch, and one whose last batch was skipped."""
    ends: HookDict = {"on_batch_end": lambda ctx: EndEpoch("enough") if ctx.at.batch == 4 else None}

    def skip_last(ctx: BatchBegin) -> SkipBatch | None:
        return SkipBatch("last") if ctx.at.batch == 6 else None

    assert counts() == (7, 7)
    assert counts(accumulate=4) == (2, 2)
    assert counts(ends, accumulate=4) == (2, 2)
    assert counts({"on_batch_begin": skip_last, "may_skip": True}, accumulate=4) == (2, 2)


def test_an_update_that_was_skipped_changes_no_average() -> None:
    kept: list[tuple[int, list[Tensor]]] = []
    model = with_buffers()

    def note(ctx: BatchEnd) -> None:
        kept.append((ctx.at.updates, everything(model)))

    newest = ema(0.0)  # keeps the weights and buffers of the newest update
    hooks: list[HookSet | HookDict] = [newest, skips_update(2), {"on_batch_end": note}]
    result = train(model, batches(3), squares, sgd(model), epochs=1, hooks=hooks)
    assert [updates for updates, _ in kept] == [1, 2, 2]
    average = average_of(result, "ema")
    assert average.count == 2
    assert equal(list(average.weights.values()), kept[1][1])
    assert not equal(kept[1][1], kept[2][1])  # the buffers have moved


@pytest.mark.parametrize("skipped", [[], [0], [1]])
def test_with_several_optimizers_an_update_is_averaged_when_all_had_their_turn(skipped: list[int]) -> None:
    model = nn.ModuleList([linear(0), linear(1)])
    expected = averaged_ema(model)

    def follow(ctx: BatchEnd) -> None:
        assert ctx.updated
        expected.update_parameters(model)

    skips = [skips_update(1, index) for index in skipped]
    hooks: list[HookSet | HookDict] = [ema(0.9), *skips, {"on_batch_end": follow}]
    average = average_of(train(model, batches(5), None, two_objectives(model), epochs=1, hooks=hooks), "ema")
    assert average.count == 5
    assert equal(list(average.parameters.values()), weights(expected.module))


@pytest.mark.parametrize("hook", [ema(0.9), swa(start=2)])
def test_a_set_of_hooks_is_as_new_in_a_second_run(hook: HookSet) -> None:
    """Keeps P12."""
    averages: list[Average] = []
    for _ in range(2):
        model = with_buffers()
        averages.append(average_of(train(model, batches(4), squares, sgd(model), epochs=1, hooks=hook), hook.name))
    first, second = ([*one.weights.values()] for one in averages)
    assert equal(first, second)
    assert all(one is not other for one, other in zip(first, second, strict=True))


def test_no_value_is_read_from_a_tensor() -> None:
    counted: list[int] = []
    for hooks in ([], [ema(0.9), swa(start=2)]):
        model = with_buffers()
        with Reads() as reads:
            train(model, batches(9), squares, sgd(model), max_updates=9, hooks=hooks)
        counted.append(reads.count)
    assert counted[0] == counted[1]


def test_what_the_sets_write_is_declared() -> None:
    assert ema(0.9).writes == swa(start=1).writes == {"parameters", "buffers"}


@pytest.mark.parametrize(
    ("make", "arguments", "sentence"),
    [
        (ema, {"decay": 1.0}, r"ema takes decay as a number from 0 to below 1, got 1\.0\."),
        (ema, {"decay": -0.1}, r"ema takes decay as a number from 0 to below 1, got -0\.1\."),
        (ema, {"decay": "0.9"}, r"ema takes decay as a number from 0 to below 1, got '0\.9'\."),
        (ema, {"decay": 0.9, "every": 0}, r"ema takes every as a whole number from 1 on, got 0\."),
        (ema, {"decay": 0.9, "start": -1}, r"ema takes start as a whole number from 0 on, got -1\."),
        (ema, {"decay": 0.9, "buffers": "keep"}, r"ema takes buffers as 'copy' or 'average', got 'keep'\."),
        (ema, {"decay": 0.9, "evaluations": "val"}, r"ema takes evaluations as a collection of names, .*, got 'val'\."),
        (swa, {"start": 1, "evaluations": [1]}, r"swa takes evaluations as a collection of names, .*, got \[1\]\."),
        (swa, {"start": 0}, r"swa takes start as a whole number from 1 on, got 0\."),
        (swa, {"start": 1, "every": 0}, r"swa takes every as a whole number from 1 on, got 0\."),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    make: Callable[..., HookSet], arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        make(**arguments)


@pytest.mark.parametrize("share", [1.5, -0.5, True, torch.tensor(0.5), None])
def test_a_decay_that_gives_no_share_is_refused_by_name(share: Any) -> None:
    def my_decay(updates: int) -> float:
        return cast("float", share)

    model = linear()
    with pytest.raises(HookDefinitionError, match=r"The decay of ema is a number from 0 to 1, but .*my_decay gave"):
        train(model, batches(3), squares, sgd(model), epochs=1, hooks=ema(my_decay))
