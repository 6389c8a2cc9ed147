"""Averages of weights are those of PyTorch, bit for bit, and hold each update that was made once."""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.hooks.averages import average_of, everything, with_buffers
from tests.hooks.reads import Reads
from tests.hooks.windows import skips_update, two_objectives
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchBegin,
    BatchEnd,
    EndEpoch,
    HookDict,
    HookSet,
    SkipBatch,
    train,
)
from trainhooks.errors import HookDefinitionError
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


CASES: dict[str, tuple[HookSet, Averaged, Callable[[int], bool], Callable[[], nn.Module]]] = {
    "ema": (ema(0.9), averaged_ema, lambda updates: True, with_buffers),
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
        (swa, {"start": 0}, r"swa takes start as a whole number from 1 on, got 0\."),
        (swa, {"start": 1, "every": 0}, r"swa takes every as a whole number from 1 on, got 0\."),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    make: Callable[..., HookSet], arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        make(**arguments)
