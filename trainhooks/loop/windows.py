"""The open window of one optimizer: what each batch's backward starts from, and what makes its gradients final.

Gradients are those of the mean over all items of the window. Each batch's loss is a mean over its own items, so its
backward starts from its share, weight / reference / accumulate, instead of 1; when the window closes, gradients are
multiplied by accumulate / (sum of weight / reference). Where all batches of a whole window weigh the same, that is
`(loss / accumulate).backward()`, and nothing is multiplied.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, final

import torch
from attrs import define, field
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from trainhooks.core import Step, name_of
from trainhooks.errors import HookDefinitionError, RunDefinitionError

from .together import Together, WindowSums

_INFINITY = float("inf")


@final
@define(eq=False)
class Window:
    """A window of a run that is one process."""

    step: Step[Any, Any]
    accumulate: int
    """Batches of a whole window."""
    shrink: Callable[[float | Tensor], None]
    """Multiplies what the window has accumulated so far."""
    halves: bool = False
    """Whether gradients have the range of float16: then the heaviest batch so far is the reference, none above 1."""
    first: float | Tensor = 0.0
    """The reference: weight of the first batch that has items; 0 before that."""
    sum: float | Tensor = 0.0
    """The weights so far, each divided by the reference."""

    def weigh(self, loss: Tensor, weight: float | Tensor) -> float | Tensor | None:
        """What a batch's backward starts from; None if it has no items. A tensor is not read to find out."""
        if type(weight) is not float or type(self.sum) is not float:  # cheaper than to ask whether they are tensors
            if isinstance(weight, Tensor):
                if not isinstance(self.sum, Tensor) and self.sum:
                    refuse_mixed_weights(self.step)
                return self._weigh_tensor(loss, weight.detach())
            if isinstance(self.sum, Tensor) and weight != 0.0:
                refuse_mixed_weights(self.step)
        if 0.0 < weight < _INFINITY:
            if not self.sum:
                self.first = weight
            if weight == self.first:  # as in nearly all windows
                self.sum += 1.0
                return 1.0 / self.accumulate
            share = weight / self.first
            if share > 1.0 and self.is_in_halves(loss):
                self.shrink(1.0 / share)
                self.sum, self.first, share = self.sum / share, weight, 1.0
            self.sum += share
            return share / self.accumulate
        if weight != 0.0:
            refuse_weight(self.step, weight)
        return None

    def _weigh_tensor(self, loss: Tensor, weight: Tensor) -> Tensor:
        weight = weight.to(loss.device, torch.promote_types(weight.dtype, torch.float32))
        first, none = self.first, torch.zeros_like(weight)
        if not isinstance(first, Tensor):
            reference, share = weight, (weight > 0).to(weight.dtype)
        elif self.is_in_halves(loss):
            reference = torch.maximum(first, weight)
            smaller = torch.where(reference > 0, first / reference, none)
            self.shrink(smaller)
            self.sum *= smaller
            share = torch.where(weight > 0, weight / reference, none)
        else:
            reference = torch.where(first > 0, first, weight)
            share = torch.where(weight > 0, weight / reference, none)
        self.first, self.sum = reference, self.sum + share
        return share / self.accumulate

    def is_in_halves(self, loss: Tensor) -> bool:
        """Whether a backward from this loss has the range of float16."""
        return self.halves or loss.dtype is torch.float16

    def close(self) -> float | Tensor | None:
        """Open the next one; what makes the gradients of this one those of the mean over all its items.

        None if they are already, 0.0 if it has no items; a tensor is not read to find out.
        """
        total, self.sum, self.first = self.sum, 0.0, 0.0
        if type(total) is not float and isinstance(total, Tensor):
            return torch.where(total > 0, self.accumulate / total, torch.zeros_like(total))
        if total:
            return None if total == self.accumulate else self.accumulate / total
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

    def weigh(self, loss: Tensor, weight: float | Tensor) -> float | Tensor:
        """What a batch's backward starts from; without items it gives gradients of 0."""
        if not self.first:
            self.on_device, self.first = self.together.reference_weight(weight)
        if self.on_device is None:
            self.on_device = isinstance(weight, Tensor)
        if isinstance(weight, Tensor) != self.on_device:
            refuse_mixed_weights(self.step)
        if isinstance(weight, Tensor):
            weight = weight.detach()
            self.weight = self.weight + weight
            share = weight / self.first
            return torch.where(weight > 0, share, torch.zeros_like(share))
        if not 0.0 <= weight < _INFINITY:
            refuse_weight(self.step, weight)
        self.weight += weight
        return 1.0 if weight == self.first else weight / self.first

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


@final
@define(eq=False)
class FirstWindow:
    """What an optimizer's first window shows of a step that does the loop's work, as it stood in a loop by hand."""

    step: Step[Any, Any]
    parameters: Callable[[], Sequence[Tensor]]
    """The optimizer's parameters that have a gradient."""
    begun: bool = False
    """Whether a backward of the window is done."""
    accumulated: bool = False
    """Whether one has left gradients."""
    found: Sequence[tuple[Tensor, Tensor]] = ()
    """The parameters that had a gradient before the first backward, and copies of these."""

    def before_backward(self) -> None:
        """Look at the gradients that there are before a backward.

        Raises:
            HookDefinitionError: if those of the window's earlier batches are gone.
        """
        there = self.parameters()
        if self.accumulated and not there:
            raise HookDefinitionError(
                "The gradients that a window had accumulated were set to None between two of its batches: does the "
                f"step {name_of(self.step)!r}, or a hook, call zero_grad()? {_ONLY_THE_LOSS}"
            )
        if not self.begun:
            self.found = [(one, one.grad.clone()) for one in there if one.grad is not None]

    def after_backward(self, start: float | Tensor, scaler: GradScaler | None) -> None:
        """Compare what a backward that began from `start` added with what was there before. Reads only if there was.

        Raises:
            HookDefinitionError: if the step back-propagated its loss itself.
        """
        found, self.found, self.begun = self.found, (), True
        self.accumulated = bool(self.parameters())
        if not found:
            return
        share = start if scaler is None else start * scaler.get_scale()
        pairs = [(one.grad - before, before * share) for one, before in found if one.grad is not None]
        if any(bool(wanted.any()) for _, wanted in pairs) and all(torch.allclose(*one, rtol=1e-2) for one in pairs):
            raise HookDefinitionError(
                f"The step {name_of(self.step)!r} back-propagated its loss itself, so its gradients would count twice. "
                f"{_ONLY_THE_LOSS}"
            )


_ONLY_THE_LOSS: Final = (
    "The step only returns the loss: the loop calls backward(), optimizer.step() and zero_grad(), so leave them out."
)


def refuse_stepping(step: Step[Any, Any], optimizer: Optimizer) -> NoReturn:
    """Say that an optimizer of the run is stepped by the loop alone."""
    raise HookDefinitionError(
        f"The {type(optimizer).__name__} of this run was stepped by somebody else, as by optimizer.step() in the step "
        f"{name_of(step)!r}, in that of another objective, or in a hook; its updates would not be counted. "
        f"{_ONLY_THE_LOSS}"
    )


def explain_backward(step: Step[Any, Any], error: RuntimeError) -> None:
    """Say what makes a loop back-propagate through a graph for the second time, if that is the error."""
    if "backward through the graph a second time" in str(error):
        raise HookDefinitionError(
            f"The graph of the loss of the step {name_of(step)!r} was back-propagated before. Either the step calls "
            "loss.backward() itself, or it uses a tensor of an earlier batch or objective that still has its graph: "
            f"detach() that one. {_ONLY_THE_LOSS}"
        ) from error


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
