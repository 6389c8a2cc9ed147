"""The open window of one optimizer: what its batches weigh, and what its gradients are multiplied by.

Gradients are those of the mean over all items of the window. Each batch's loss is a mean over its own items, so it is
back-propagated times its weight, measured by that of the first batch: where all weigh the same, nothing is changed.
"""

from typing import Any, NoReturn, final

import torch
from attrs import define, field
from torch import Tensor

from trainhooks.core import Step, name_of
from trainhooks.errors import RunDefinitionError

from .together import Together, WindowSums

_INFINITY = float("inf")


@final
@define(eq=False)
class Window:
    """A window of a run that is one process."""

    step: Step[Any, Any]
    first: float = 0.0
    """Weight of the first batch that has items."""
    weight: float | Tensor = 0.0
    """Items so far."""

    def weigh(self, loss: Tensor, weight: float | Tensor) -> Tensor | None:
        """The share of a batch's loss in the window's; None if it has no items."""
        if type(weight) is not float or type(self.weight) is not float:  # cheaper than to ask whether they are tensors
            if isinstance(weight, Tensor) != isinstance(self.weight, Tensor) and not _is_empty(self.weight):
                refuse_mixed_weights(self.step)
            if isinstance(weight, Tensor):
                self.weight = self.weight + weight.detach()
                return torch.where(weight > 0, loss * weight, torch.zeros_like(loss))
        if 0.0 < weight < _INFINITY:
            if not self.weight:
                self.first = weight
            elif weight != self.first:
                loss = loss * (weight / self.first)
            self.weight += weight
            return loss
        if weight != 0.0:
            refuse_weight(self.step, weight)
        return None

    def close(self) -> float | Tensor | None:
        """Open the next one; what makes the gradients of this one those of the mean over all its items.

        None if they are already, 0.0 if it has no items; a tensor is not read to find out.
        """
        weight, self.weight = self.weight, 0.0
        if type(weight) is not float and isinstance(weight, Tensor):
            return torch.where(weight > 0, 1.0 / weight, torch.zeros_like(weight))
        if weight:
            return None if weight == self.first else self.first / weight
        return 0.0


@final
@define(eq=False)
class SharedWindow:
    """A window over all ranks: its items are those of every rank, and every rank takes part in each backward."""

    step: Step[Any, Any]
    together: Together
    first: float = 0.0
    """Weight of the run's first batch on rank 0; 0 before that."""
    weight: float | Tensor = 0.0
    """Items of this rank so far."""
    on_device: bool | None = field(default=None, init=False)
    """Whether weights are tensors; None before the first."""
    _sums: WindowSums | None = field(default=None, init=False)

    def weigh(self, loss: Tensor, weight: float | Tensor) -> Tensor:
        """The share of a batch's loss in the window's; without items it gives gradients of 0."""
        if not self.first:
            self.on_device, self.first = self.together.reference_weight(weight)
        if self.on_device is None:
            self.on_device = isinstance(weight, Tensor)
        if isinstance(weight, Tensor) != self.on_device:
            refuse_mixed_weights(self.step)
        if isinstance(weight, Tensor):
            self.weight = self.weight + weight.detach()
            return torch.where(weight > 0, loss * (weight / self.first), torch.zeros_like(loss))
        if not 0.0 <= weight < _INFINITY:
            refuse_weight(self.step, weight)
        self.weight += weight
        if weight == 0.0:
            return torch.where(torch.zeros_like(loss, dtype=torch.bool), loss, torch.zeros_like(loss))
        return loss if weight == self.first else loss * (weight / self.first)

    def begin_sums(self) -> None:
        """Begin to sum the weights of the ranks, while the last backward goes on."""
        self._sums = self.together.begin_sums(self.weight)

    def close(self) -> float | Tensor | None:
        """Open the next one; what makes the mean over ranks that over all their items, likewise."""
        if self._sums is None:  # the window ends without a last batch
            self.begin_sums()
        assert self._sums is not None
        total = self.together.weight_of(self._sums)
        self.weight, self._sums = 0.0, None
        full = self.first * self.together.ranks.rank.world
        if isinstance(total, Tensor):
            return torch.where(total > 0, full / total, torch.zeros_like(total))
        if total:
            return None if total == full else full / total
        return 0.0


def _is_empty(weight: float | Tensor) -> bool:
    return not isinstance(weight, Tensor) and not weight


def refuse_mixed_weights(step: Step[Any, Any]) -> NoReturn:
    """Say that weights come in one form."""
    raise RunDefinitionError(
        f"The step {name_of(step)!r} gave some weights of a window as numbers and some as tensors; give all in one "
        "form."
    )


def refuse_weight(step: Step[Any, Any], weight: float) -> NoReturn:
    """Say what a weight is."""
    raise RunDefinitionError(
        f"The step {name_of(step)!r} gave its loss the weight {weight!r}; a weight counts items, so it is finite and 0 "
        "or more."
    )
