"""`lr_finder`: a short training with growing rates, which leaves everything as it was."""

import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, final

from attrs import field, frozen
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import TypeVar

from trainhooks.core import BatchEnd, HookSet, Rates, RatesDue, Step, Stop, named_buffers, whole_number
from trainhooks.errors import RunDefinitionError, shown
from trainhooks.loop import Streams, devices_of

from .training import train
from .validation import check_model, device_of

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)

_SMOOTHING = 0.98


@final
@frozen(kw_only=True)
class RateSearch:
    """What `lr_finder` found: one entry for each update, in order."""

    rates: tuple[float, ...]
    """The learning rate of each update."""
    losses: tuple[float, ...]
    """The loss of its batch, before the update."""
    smoothed: tuple[float, ...]
    """The exponential moving average of the losses up to it, corrected for its start; ends before a loss that is not
    finite."""
    suggestion: float | None
    """A tenth of the rate at which the smoothed loss is least; None if that is the first, so that it never fell."""


def lr_finder(
    model: nn.Module,
    data: Iterable[B],
    step: Step[B, O],
    optimizer: Optimizer,
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    updates: int = 100,
    diverges_at: float = 4.0,
) -> RateSearch:
    """Train for a few updates while the learning rate grows, and suggest a rate from how the loss falls.

    The rate grows geometrically, the same for every group of the optimizer. The search ends early when the smoothed
    loss is more than `diverges_at` times its least, or a loss is not finite; for this the loss is read from its device
    once an update. Afterwards model, optimizer, gradients, modes and the global random streams are bit for bit what
    they were; the data was iterated. To see it: `plt.semilogx(found.rates, found.losses)`.

    Args:
        model: Trained where its parameters are, and put back. A copy of its state is kept there meanwhile.
        data: Batches, iterated anew if there are fewer than `updates`.
        step: As in `train`.
        optimizer: As in `train`; its state is what the search begins with.
        lowest: First rate, above 0.
        highest: Rate of the last update, above `lowest`.
        updates: Most updates to make, 2 or more.
        diverges_at: Multiple of the least smoothed loss, above 1.

    Raises:
        RunDefinitionError: if an argument is none of these, or `train` refuses them.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3; the suggestion is
    fastai's `minimum`, far enough below the rate at which training breaks.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1)
        >>> step = lambda model, batch: model(batch).square().mean()
        >>> found = lr_finder(model, [torch.ones(4, 1)], step, torch.optim.SGD(model.parameters()), updates=50)
        >>> found.rates[0] == 1e-7 and len(found.rates) <= 50
        True
    """
    check_model(model)
    if not isinstance(optimizer, Optimizer):
        raise RunDefinitionError(f"lr_finder takes an optimizer that was made, got {shown(optimizer)}.")
    _check(lowest, highest, updates, diverges_at)
    rates = tuple(lowest * (highest / lowest) ** (index / (updates - 1)) for index in range(updates))
    search = _Search(rates, diverges_at)
    with _put_back(model, optimizer), _streams_put_back(model):
        train(model, data, step, optimizer, max_updates=updates, hooks=search.hooks())
    return search.found()


@final
@frozen(eq=False)
class _Search:
    """The search while it goes on."""

    rates: tuple[float, ...]
    diverges_at: float
    losses: list[float] = field(factory=list[float])
    smoothed: list[float] = field(factory=list[float])

    def hooks(self) -> HookSet:
        """Sets the rate of each update, looks at its loss, and stops."""

        def transform_rates(ctx: RatesDue, rates: Rates) -> Rates:
            return [self.rates[ctx.at.updates]] * len(rates)

        def on_batch_end(ctx: BatchEnd) -> Stop | None:
            if not ctx.updated:
                return None
            self.losses.append(float(ctx.loss))
            return Stop("the loss diverged") if self.diverges() else None

        return HookSet(
            name="lr_finder", writes={"rates"}, transform_rates=transform_rates, on_batch_end=on_batch_end
        )

    def diverges(self) -> bool:
        """Smooth the newest loss; whether it is the last to look at."""
        newest, count = self.losses[-1], len(self.losses)
        if not math.isfinite(newest):
            return True
        weights = [_SMOOTHING ** (count - 1 - index) for index in range(count)]
        total = math.fsum(weight * loss for weight, loss in zip(weights, self.losses, strict=True))
        self.smoothed.append(total / math.fsum(weights))
        return self.smoothed[-1] > self.diverges_at * min(self.smoothed)

    def found(self) -> RateSearch:
        rates = self.rates[: len(self.losses)]
        return RateSearch(
            rates=rates, losses=tuple(self.losses), smoothed=tuple(self.smoothed),
            suggestion=suggestion(rates, self.smoothed),
        )  # fmt: skip


def suggestion(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """A tenth of the rate of the least loss; None if no later loss is less than the first."""
    least = min(range(len(losses)), key=losses.__getitem__, default=0)
    return rates[least] / 10 if least else None


@contextmanager
def _put_back(model: nn.Module, optimizer: Optimizer) -> Generator[None]:
    """Model and optimizer are afterwards bit for bit what they were, also on exceptions."""
    weights = deepcopy(model.state_dict())
    buffers = {name: buffer.clone() for name, buffer in named_buffers(model)}  # those that no state dict has, too
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    state = {parameter: deepcopy(held) for parameter, held in optimizer.state.items()}
    options = [
        {key: deepcopy(one) for key, one in group.items() if key != "params"} for group in optimizer.param_groups
    ]
    try:
        yield
    finally:
        model.load_state_dict(weights)
        for name, buffer in named_buffers(model):
            buffer.copy_(buffers[name])
        for parameter, gradient in gradients:
            parameter.grad = gradient
        optimizer.state.clear()
        optimizer.state.update(state)
        for group, kept in zip(optimizer.param_groups, options, strict=True):
            rate = group["lr"]
            group.update(kept)
            if isinstance(rate, Tensor):
                group["lr"] = rate.copy_(kept["lr"])


@contextmanager
def _streams_put_back(model: nn.Module) -> Generator[None]:
    """The global random streams are afterwards what they were."""
    streams = Streams.now(devices_of(model, device_of(model, None)))
    try:
        yield
    finally:
        streams.restore()


def _check(lowest: float, highest: object, updates: object, diverges_at: object) -> None:
    _check_above(0.0, "lowest", lowest)
    _check_above(lowest, "highest", highest)
    _check_above(1.0, "diverges_at", diverges_at)
    if whole_number(updates, 2) is None:
        raise RunDefinitionError(f"lr_finder takes updates as a whole number from 2 on, got {shown(updates)}.")


def _check_above(least: float, name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least < value < math.inf:
        raise RunDefinitionError(f"lr_finder takes {name} as a finite number above {least}, got {shown(value)}.")
