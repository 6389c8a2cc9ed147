"""Small deterministic programs to train, and a recorder of everything that hooks see."""

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias, cast

import numpy
import torch
from torch import Tensor, nn

from trainhooks import EVENTS, Gradients, HookSet, Slots, StepOutput

Batch: TypeAlias = tuple[Tensor, Tensor]
Trace: TypeAlias = list[tuple[object, ...]]


def linear(seed: int = 0) -> nn.Linear:
    model = nn.Linear(3, 2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def deep() -> nn.Sequential:
    """A model with modes and randomness."""
    torch.manual_seed(3)
    last = nn.Sequential(nn.Linear(4, 2), nn.Dropout())
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), last)


def batches(count: int, size: int = 4, seed: int = 1) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((size, 3), (size, 2))
    pairs = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(count)]
    return [(x, y) for x, y in pairs]


def squares(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    x, y = batch
    output = cast("Tensor", model(x))
    return StepOutput(nn.functional.mse_loss(output, y), weight=float(len(y)), output=output, target=y)


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    return squares(model, batch).loss


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


class Dice:
    """Data that draws from every global stream."""

    def __iter__(self) -> Iterator[Batch]:
        random.random()
        numpy.random.rand()
        return iter([(torch.randn(4, 3), torch.randn(4, 2)) for _ in range(2)])


class Unsized:
    """Data that can be iterated again and does not know its length."""

    def __init__(self, data: Sequence[Batch]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.data)


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients of those that have one."""
    return [one.grad for one in parameters if one.grad is not None]


def present(given: Gradients) -> list[Tensor]:
    """What a transform is given, where no gradient is None."""
    return [cast("Tensor", one) for one in given]


def equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def listener(name: str, trace: Trace, *events: str) -> HookSet:
    """A set that notes (name, event) and changes nothing."""
    hooks = {event: _noting(name, event, trace) for event in events or EVENTS}
    return HookSet(name=name, **cast("Slots", hooks))


def _noting(name: str, event: str, trace: Trace) -> Callable[..., object]:
    def hear(ctx: object) -> None:
        trace.append((name, event))

    def replace(ctx: object, value: object) -> object:
        trace.append((name, event))
        return value

    @contextmanager
    def wrap(ctx: object) -> Generator[None]:
        trace.append((name, event, "enter"))
        try:
            yield
        finally:
            trace.append((name, event, "leave"))

    kinds: Mapping[str, Callable[..., object]] = {"on": hear, "transform": replace, "around": wrap}
    return kinds[EVENTS[event].kind]


Wrap: TypeAlias = Callable[[Any], AbstractContextManager[object]]
