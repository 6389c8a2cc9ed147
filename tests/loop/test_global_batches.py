"""An update is that of the whole global batch, however it is split into batches of a window and over ranks."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from tests.loop.programs import Batch, Unsized, batches, linear, sgd, squares
from tests.ranks import on_ranks
from tests.run.several import ENGINES, me, parameters_of, whole
from trainhooks import GradientsReady, OptimizerStepped, StepOutput, train
from trainhooks.hooks import lr_schedule, torch_scheduler

R = TypeVar("R")

SIZES = (1, 6, 2, 7)
"""Items of the parts of the global batch: the parts of rank 0 first, each rank's in the order of its window."""


def launched(world: int, program: Callable[[], R]) -> list[R]:
    """What `program()` returns in each of `world` processes; it can be pickled."""
    return [program()] if world == 1 else on_ranks(world, program)


def part_of_rank(accumulate: int, world: int, sizes: tuple[int, ...]) -> list[Batch]:
    """A rank's window: its share of the global batch, in as many batches as are accumulated."""
    x, y = batches(1, size=sum(sizes))[0]
    together = len(sizes) // (accumulate * world)  # fewer batches hold several parts each
    ends = [0, *list(itertools.accumulate(sizes))[together - 1 :: together]]
    spans = list(itertools.pairwise(ends))[me() * accumulate : (me() + 1) * accumulate]
    return [(x[start:end], y[start:end]) for start, end in spans]


PADDING = 100.0


def padded(part: Batch) -> Batch:
    """The part, or rows of padding where it has no items."""
    return part if len(part[0]) else (torch.full((3, 3), PADDING), torch.full((3, 2), PADDING))


def step_of(tensors: bool) -> Callable[[nn.Module, Batch], StepOutput[Tensor]]:
    """A step whose weight is a number or a tensor; padding weighs nothing, but its loss is there."""

    def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        items = (batch[1][:, 0] != PADDING).sum()
        return evolve(squares(model, batch), weight=items.float() if tensors else float(items))

    return step


def one_update(
    accumulate: int, world: int, engine: str, tensors: bool, sizes: tuple[int, ...], pads: bool = False
) -> tuple[int, list[Tensor], list[Tensor]]:
    """Updates, parameters after them, and the gradients that hooks saw."""
    model, seen, data = linear(), list[Tensor](), part_of_rank(accumulate, world, sizes)

    def look(ctx: GradientsReady) -> None:
        seen.extend(whole(ctx.gradients))

    result = train(
        model, [padded(part) if pads else part for part in data], step_of(tensors), sgd, epochs=1,
        accumulate=accumulate, hooks={"on_after_gradient_update": look}, parallel=ENGINES[engine](),
    )  # fmt: skip
    return result.at.updates, parameters_of(model), seen


def by_hand(sizes: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """The gradient of the mean over all items of the global batch, and the parameters after it."""
    model = linear()
    optimizer = sgd(model)
    squares(model, batches(1, size=sum(sizes))[0]).loss.backward()
    gradients = [one.grad.clone() for one in model.parameters() if one.grad is not None]
    optimizer.step()
    return parameters_of(model), gradients


@pytest.mark.parametrize("tensors", [False, True], ids=["numbers", "tensors"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (4, 1), (2, 1), (1, 4), (2, 2)])
def test_a_global_batch_of_unequal_parts_gives_one_update_however_it_is_split(
    accumulate: int, world: int, engine: str, tensors: bool
) -> None:
    """Keeps P47."""
    parameters, gradients = by_hand(SIZES)
    for updates, after, seen in launched(world, partial(one_update, accumulate, world, engine, tensors, SIZES)):
        assert updates == 1
        torch.testing.assert_close(after, parameters, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(seen, gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tensors", [False, True], ids=["numbers", "tensors"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pads", [False, True], ids=["empty", "padded"])
@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (0, 3, 4, 0), (0, 0, 4, 3)], ids=str)
def test_a_rank_whose_batch_has_no_items_takes_part_and_adds_nothing(
    sizes: tuple[int, ...], pads: bool, engine: str, tensors: bool
) -> None:
    """Keeps P47. The loss of an empty batch is NaN, that of padding is a number."""
    parameters, gradients = by_hand(sizes)
    accumulate = len(sizes) // 2
    for updates, after, seen in on_ranks(2, one_update, accumulate, 2, engine, tensors, sizes, pads):
        assert updates == 1
        torch.testing.assert_close(after, parameters, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(seen, gradients, rtol=1e-6, atol=1e-6)


def halving(update: int) -> float:
    return 0.5**update


BATCHES, EPOCHS = 7, 2
"""On each rank. Of windows of 2 and of 4, the last of an epoch is short."""


def scheduled(accumulate: int, sized: bool, by_torch: bool, engine: str) -> tuple[int, list[float], float]:
    """Updates, the rate of each optimizer step, and the rate that is left."""
    model, rates, optimizers = linear(), list[float](), list[torch.optim.Optimizer]()

    def note(ctx: OptimizerStepped) -> None:
        optimizers[:] = ctx.run.optimizers
        if ctx.stepped:
            rates.append(ctx.run.optimizers[0].param_groups[0]["lr"])

    schedule = torch_scheduler(lambda one: LambdaLR(one, halving), unit="updates") if by_torch else lr_schedule(halving)
    own = batches(BATCHES, seed=me())
    data: Any = own if sized else Unsized(own)
    result = train(
        model, data, squares, sgd, epochs=EPOCHS, accumulate=accumulate, parallel=ENGINES[engine](),
        hooks=[{"on_after_optimizer_step": note}, schedule],  # one of torch steps after the update
    )  # fmt: skip
    return result.at.updates, rates, optimizers[0].param_groups[0]["lr"]


@pytest.mark.parametrize(("world", "engine"), [(1, "ddp"), (2, "ddp"), (2, "fsdp")])
@pytest.mark.parametrize(("accumulate", "updates"), [(1, 14), (2, 8), (4, 4)])
def test_a_schedule_advances_once_an_update_whatever_an_update_is_made_of(
    accumulate: int, updates: int, world: int, engine: str
) -> None:
    """Keeps P49."""

    def program() -> list[tuple[int, list[float], float]]:
        kinds = itertools.product([True, False], [False, True])
        return [scheduled(accumulate, sized, by_torch, engine) for sized, by_torch in kinds]

    rates = [0.1 * halving(update) for update in range(updates)]
    ours, of_torch = (updates, rates, rates[-1]), (updates, rates, 0.1 * halving(updates))
    for done in launched(world, program):
        assert done == 2 * [ours, of_torch]
