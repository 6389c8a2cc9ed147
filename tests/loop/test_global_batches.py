"""An update is that of the whole global batch, however it is split into batches of a window and over ranks."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from tests.loop.programs import Batch, Unsized, batches, linear, sgd, squares, weights
from trainhooks import GradientsReady, OptimizerStepped, train
from trainhooks.hooks import lr_schedule, torch_scheduler

R = TypeVar("R")

SIZES = (1, 6, 2, 7)
"""Items of the parts of the global batch: the parts of rank 0 first, each rank's in the order of its window."""
MANY = pytest.mark.skip(reason="`train` does not support many processes yet")


def launched(world: int, program: Callable[[int], R]) -> list[R]:
    """What `program(rank)` returns in each of `world` processes; it can be pickled."""
    assert world == 1, "here goes the launcher of processes"
    return [program(0)]


def part_of_rank(rank: int, accumulate: int, world: int) -> list[Batch]:
    """A rank's window: its share of the global batch, in as many batches as are accumulated."""
    x, y = batches(1, size=sum(SIZES))[0]
    together = len(SIZES) // (accumulate * world)  # fewer batches hold several parts each
    ends = [0, *list(itertools.accumulate(SIZES))[together - 1 :: together]]
    spans = list(itertools.pairwise(ends))[rank * accumulate : (rank + 1) * accumulate]
    return [(x[start:end], y[start:end]) for start, end in spans]


def one_update(rank: int, accumulate: int, world: int) -> tuple[int, list[Tensor], list[Tensor]]:
    """Updates, parameters after them, and the gradients that hooks saw."""
    model, seen = linear(), list[Tensor]()

    def look(ctx: GradientsReady) -> None:
        seen.extend(one.clone() for one in ctx.gradients)

    result = train(
        model, part_of_rank(rank, accumulate, world), squares, sgd(model), epochs=1, accumulate=accumulate,
        hooks={"on_after_gradient_update": look},
    )  # fmt: skip
    return result.at.updates, weights(model), seen


@pytest.mark.parametrize(
    ("accumulate", "world"), [(1, 1), (4, 1), (2, 1), pytest.param(1, 4, marks=MANY), pytest.param(2, 2, marks=MANY)]
)
def test_a_global_batch_of_unequal_parts_gives_one_update_however_it_is_split(accumulate: int, world: int) -> None:
    """Keeps P47, in one process. By hand: the gradient of the mean over all items of the global batch."""
    model = linear()
    optimizer = sgd(model)
    squares(model, batches(1, size=sum(SIZES))[0]).loss.backward()
    gradients = [one.grad.clone() for one in model.parameters() if one.grad is not None]
    optimizer.step()
    for updates, parameters, seen in launched(world, partial(one_update, accumulate=accumulate, world=world)):
        assert updates == 1
        torch.testing.assert_close(parameters, weights(model), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(seen, gradients, rtol=1e-6, atol=1e-6)


def halving(update: int) -> float:
    return 0.5**update


BATCHES, EPOCHS = 7, 2
"""On each rank. Of windows of 2 and of 4, the last of an epoch is short."""


def scheduled(rank: int, accumulate: int, sized: bool, by_torch: bool) -> tuple[int, list[float], float]:
    """Updates, the rate of each optimizer step, and the rate that is left."""
    model, rates = linear(), list[float]()
    optimizer = sgd(model)

    def note(ctx: OptimizerStepped) -> None:
        if ctx.stepped:
            rates.append(ctx.run.optimizers[0].param_groups[0]["lr"])

    schedule = torch_scheduler(lambda one: LambdaLR(one, halving)) if by_torch else lr_schedule(halving)
    data: Any = batches(BATCHES, seed=rank) if sized else Unsized(batches(BATCHES, seed=rank))
    result = train(
        model, data, squares, optimizer, epochs=EPOCHS, accumulate=accumulate,
        hooks=[{"on_after_optimizer_step": note}, schedule],  # the schedule sets the next update's rate
    )  # fmt: skip
    return result.at.updates, rates, optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("by_torch", [False, True])
@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("world", [1, pytest.param(2, marks=MANY)])
@pytest.mark.parametrize(("accumulate", "updates"), [(1, 14), (2, 8), (4, 4)])
def test_a_schedule_advances_once_an_update_whatever_an_update_is_made_of(
    accumulate: int, updates: int, world: int, sized: bool, by_torch: bool
) -> None:
    """Keeps P49, in one process."""
    program = partial(scheduled, accumulate=accumulate, sized=sized, by_torch=by_torch)
    for done, rates, left in launched(world, program):
        assert done == updates
        assert rates == [0.1 * halving(update) for update in range(updates)]
        assert left == 0.1 * halving(updates)
