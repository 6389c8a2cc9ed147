"""The contexts of one batch and of the update that it belongs to."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, final

import torch
from attrs import Factory, evolve, field, frozen
from torch import Tensor
from typing_extensions import TypeVar

from trainhooks.errors import HookDefinitionError

from .progress import Progress
from .randomness import generator_of
from .run import Run

B_co = TypeVar("B_co", covariant=True, default=Any)
O_co = TypeVar("O_co", covariant=True, default=Any)

Rates: TypeAlias = Sequence[float]
"""The learning rates of an optimizer's parameter groups, in the order of the groups."""
Gradients: TypeAlias = Sequence[Tensor | None]
"""The gradients of an optimizer, in the order of `ctx.parameters`; None for a parameter that is not stepped."""


@final
@frozen(kw_only=True, eq=False)
class BatchBegin(Generic[B_co, O_co]):  # O_co is unused, see docs/typing.md
    """A batch is on the device."""

    run: Run
    at: Progress
    batch: B_co
    """The batch, before any `transform_batch`."""
    closes_window: bool
    """Whether an update follows this batch."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class RatesDue:
    """A window opens, and the learning rates of one optimizer for its update are due."""

    run: Run
    at: Progress
    optimizer_idx: int
    """The optimizer's position, from 0."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class LossReady(Generic[B_co, O_co]):
    """The loss is computed and attached to its graph."""

    run: Run
    at: Progress
    batch: B_co
    """The batch as the step saw it."""
    output: O_co
    """The step's output, attached."""
    weight: float | Tensor
    """Items that the loss is a mean of."""
    optimizer_idx: int
    """The objective's position, from 0."""
    closes_window: bool
    """Whether an update follows this batch."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class AfterBackward:
    """A batch's backward is done; gradients are partial, of this process, perhaps scaled."""

    run: Run
    at: Progress
    loss: Tensor
    """The loss of this batch and objective, 0-d, detached."""
    optimizer_idx: int
    """The objective's position, from 0."""
    closes_window: bool
    """Whether an update follows this batch."""
    generator = generator_of


def put_gradients(parameters: Sequence[Tensor], gradients: Gradients) -> None:
    """Give parameters these gradients, one each; those that they have already cost nothing."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter.grad is not gradient:
            parameter.grad = gradient


def total_norm(gradients: Gradients, norm_type: float = 2.0) -> Tensor:
    """The norm of all gradients together, as torch's `get_total_norm`; sparse ones are measured by their values."""
    there = [one.coalesce().values() if one.is_sparse else one for one in gradients if one is not None]
    return torch.nn.utils.get_total_norm(there, norm_type)


class QuickClip(Protocol):
    """Short cuts through torch's clipping, with equal results, where nobody could tell."""

    def norm(self, gradients: Gradients, /) -> Tensor | None:
        """The 2-norm of all gradients together, 0-d; None where torch must be asked."""
        ...

    def clip(self, gradients: Gradients, max_norm: float, norm: Tensor, /) -> bool:
        """Scale gradients down in place; whether that was done, or torch must do it."""
        ...


@final
@frozen(kw_only=True, eq=False)
class GradientsReady:
    """A window's gradients are final: unscaled, normalised, reduced over ranks; nothing has clipped them."""

    run: Run
    at: Progress
    since: Progress
    """When the window began."""
    batches: int
    """Batches of the window; skipped ones are not among them."""
    optimizer_idx: int
    """The optimizer's position, from 0."""
    parameters: tuple[Tensor, ...]
    """The optimizer's parameters that have a gradient, in its own order."""
    names: tuple[str, ...]
    """Their names in the model, in the same order."""
    gradients: tuple[Tensor, ...]
    """Their gradients, in the same order, as they were when the window closed."""
    untouched: bool = True
    """False for every transform but the first: `grad_norm` is no longer that of what it is given."""
    _norms: list[Tensor] = field(factory=list[Tensor], repr=False, alias="norms")
    _left: Gradients | None = field(default=None, repr=False, alias="left")
    _quick: QuickClip | None = field(default=None, repr=False, alias="quick")
    generator = generator_of

    @property
    def grad_norm(self) -> Tensor:
        """The 2-norm of all gradients together, 0-d, on the device; computed when first read, then kept.

        What hooks of `on_after_gradient_update` change is measured anew for the transforms, in a model that is not
        sharded.

        Raises:
            HookDefinitionError: if it is first read after a transform may have changed the gradients.
        """
        if not self._norms:
            if not self.untouched:
                raise HookDefinitionError(
                    "ctx.grad_norm is the norm before any transform, and it was not read then; measure the value "
                    "that you were given: torch.nn.utils.get_total_norm(gradients)."
                )
            gradients = self.gradients if self._left is None else self._left
            norm = None if self._quick is None else self._quick.norm(gradients)
            self._norms.append(total_norm(gradients) if norm is None else norm)
        return self._norms[0]

    def clip(self, gradients: Gradients, max_norm: float, norm: Tensor) -> None:
        """Scale gradients down in place so that their norm is at most `max_norm`: torch's `clip_grads_with_norm_`.

        Args:
            gradients: Those of `parameters`, in the same order, as a transform is given them.
            max_norm: Greatest norm.
            norm: What it is now, 0-d.
        """
        if self._quick is not None and self._quick.clip(gradients, max_norm, norm):
            return
        put_gradients(self.parameters, gradients)
        torch.nn.utils.clip_grads_with_norm_(self.parameters, max_norm, norm)

    def after_changes(self, left: Gradients) -> "GradientsReady":
        """This context as transforms get it where hooks left other gradients than there were."""
        return evolve(self, left=left, norms=[])

    def after_a_transform(self) -> "GradientsReady":
        """This context as the second and later transforms get it."""
        return evolve(self, untouched=False, norms=self._norms)


@final
@frozen(kw_only=True, eq=False)
class OptimizerStepped:
    """An optimizer had its turn; its gradients are still there."""

    run: Run
    at: Progress
    since: Progress
    """When the window began."""
    batches: int
    """Batches of the window; skipped ones are not among them."""
    optimizer_idx: int
    """The optimizer's position, from 0."""
    stepped: bool
    """Whether it changed the parameters: False after `SkipUpdate`, an overflow, or a window without items."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class BatchEnd(Generic[B_co, O_co]):
    """A batch is done. With several objectives, `loss`, `output` and `weight` are the last one's."""

    run: Run
    at: Progress
    batch: B_co
    """The batch as the step saw it, detached as `output` is."""
    output: O_co
    """The step's output, detached, in whatever container can be rebuilt (`core/containers.py` says which); what cannot
    be is that very object. None where the step returned a bare loss."""
    loss: Tensor
    """The loss that was back-propagated, before any scaling: 0-d, detached."""
    losses: Mapping[str, Tensor]
    """The loss of each objective by its name, 0-d, detached."""
    weight: float | Tensor
    """Items that the loss is a mean of."""
    updated: bool
    """Whether this batch closed a window and an optimizer stepped."""
    closes_window: bool = Factory(lambda ctx: ctx.updated, takes_self=True)
    """Whether this batch closed its window: an update was made or skipped."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class BatchPrediction(Generic[B_co, O_co]):
    """A batch of an evaluation or a prediction has been through the model.

    Over ranks, one that this rank predicts: data from `trainhooks.data` is split, so each item is heard of on one rank.
    """

    run: Run
    at: Progress
    since: Progress
    """When the window before this boundary began."""
    name: str
    """The evaluation's name; `"prediction"` in `predict`."""
    index: int
    """The batch's place in its data, from 0."""
    batch: B_co
    """The batch, on the device."""
    y_pred: O_co
    """What the model said: the step's `output`, or the first of what `predict_step` returned."""
    y_test: object
    """What is true: the step's `target`, or the second of what `predict_step` returned."""
    metadata: object = None
    """The third of what `predict_step` returned; None in evaluations."""
    dataset_info: object = None
    """As given to `predict`; None in evaluations."""
    generator = generator_of
