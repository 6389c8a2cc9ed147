"""The programs that are compared: a small training loop written by hand, and the same training by trainhooks."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from trainhooks import DispatchTable, HookDict, StepOutput, compose, supervised, train

Batch: TypeAlias = tuple[Tensor, Tensor]
Step: TypeAlias = Callable[[nn.Module, Batch], Tensor | StepOutput[Tensor]]
Program: TypeAlias = Callable[[nn.Module, Optimizer], object]
"""Trains a fresh model with a fresh optimizer; this call is what is timed."""
Noop: TypeAlias = Callable[[object], None]

OPTIMIZERS: Final[dict[str, Callable[[nn.Module], Optimizer]]] = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
    "AdamW": lambda model: torch.optim.AdamW(model.parameters()),
}


def tiny() -> nn.Module:
    """The smallest model that is one: a step of it is nearly all overhead."""
    torch.manual_seed(0)
    return nn.Linear(8, 2)


def larger() -> nn.Module:
    """A model that computes for some milliseconds a step."""
    torch.manual_seed(0)
    wide = [layer for _ in range(3) for layer in (nn.Linear(512, 512), nn.ReLU())]
    return nn.Sequential(*wide, nn.Linear(512, 512))


def batches(count: int, size: int = 4, inputs: int = 8, outputs: int = 2) -> list[Batch]:
    """Ready batches in memory: fetching them costs next to nothing."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, inputs, generator=generator), torch.randn(size, outputs, generator=generator))
        for _ in range(count)
    ]


def bare(model: nn.Module, batch: Batch) -> Tensor:
    """A step that returns its loss."""
    x, y = batch
    return F.mse_loss(model(x), y)


whole: Final = cast("Step", supervised(F.mse_loss))
"""A step that returns a `StepOutput`: loss, weight, output and target."""


def noops(count: int) -> Sequence[Noop]:
    """Hooks that do nothing, each a function of its own."""

    def make() -> Noop:
        def noop(ctx: object) -> None:
            pass

        return noop

    return [make() for _ in range(count)]


def by_hand(data: Sequence[Batch], begin: Sequence[Noop], end: Sequence[Noop]) -> Program:
    """The loop that one writes, with the calls that one writes; without any where there is nothing to call."""

    def plain(model: nn.Module, optimizer: Optimizer) -> None:
        for x, y in data:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()

    def calling(model: nn.Module, optimizer: Optimizer) -> None:
        for index, (x, y) in enumerate(data):
            for hook in begin:
                hook(index)
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            for hook in end:
                hook(index)

    return calling if begin or end else plain


def accumulating_by_hand(data: Sequence[Batch], accumulate: int) -> Program:
    """The loop that one writes for windows of several batches, of which the data gives a whole number."""

    def program(model: nn.Module, optimizer: Optimizer) -> None:
        for index, (x, y) in enumerate(data, start=1):
            loss = F.mse_loss(model(x), y) / accumulate
            loss.backward()
            if index % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()

    return program


def by_trainhooks(data: Sequence[Batch], step: Step, table: DispatchTable, accumulate: int = 1) -> Program:
    """The same training, hooks composed beforehand."""
    return lambda model, optimizer: train(model, data, step, optimizer, epochs=1, hooks=table, accumulate=accumulate)


def table_of(begin: Sequence[Noop], end: Sequence[Noop]) -> DispatchTable:
    """One hook set for each pair of hooks."""
    return compose(*sets_of(begin, end))


def sets_of(begin: Sequence[Noop], end: Sequence[Noop]) -> list[HookDict]:
    """What a user hands over: a dict for each pair of hooks."""
    return [{"on_batch_begin": first, "on_batch_end": last} for first, last in zip(begin, end, strict=True)]
