"""Hooks on gradients, between backward and the optimizer's step."""

import math
from collections.abc import Sequence

import torch
from attrs import evolve
from torch.nn.utils import clip_grad_value_

from trainhooks.core import Gradients, GradientsReady, HookSet, Rank, SkipUpdate, factory, put_gradients
from trainhooks.errors import HookDefinitionError, shown

from .arguments import check_number
from .shards import norm_of, own_part, part_like


@factory
def clip_grad_norm(max_norm: float, norm_type: float = 2.0) -> HookSet:
    """Scale the gradients of each update down so that the norm of all of them together is at most `max_norm`.

    Each optimizer's gradients are clipped on their own, once an update, after they are unscaled, normalised and
    reduced; sparse ones too. What is bounded is what the hook receives: after another transform, that transform's
    result. The norm of a sharded model's gradients is that of all ranks' parts together; every rank calls it.

    Args:
        max_norm: Greatest norm, above 0.
        norm_type: The p of the p-norm, above 0; `inf` for the greatest absolute value.

    Raises:
        HookDefinitionError: if a bound is not above 0.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", 2013; torch's
    `clip_grad_norm_`.

    Example:
        >>> clip_grad_norm(1.0)
        clip_grad_norm(max_norm=1.0)
    """
    _check_positive("clip_grad_norm", "max_norm", max_norm)
    _check_positive("clip_grad_norm", "norm_type", norm_type)

    def transform_gradients(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        known = ctx.untouched and norm_type == 2.0
        norm = ctx.grad_norm if known else norm_of(gradients, norm_type, ctx.run)
        ctx.clip(gradients, max_norm, norm)
        return gradients

    writes = frozenset({"gradients"})
    return HookSet(name="clip_grad_norm", writes=writes, collective=True, transform_gradients=transform_gradients)


@factory
def clip_grad_value(clip_value: float) -> HookSet:
    """Clamp every element of each update's gradients to [-`clip_value`, `clip_value`].

    Args:
        clip_value: Greatest absolute value of an element, above 0.

    Raises:
        HookDefinitionError: if it is not above 0; at the first update, if a gradient is complex.

    Source: torch's `clip_grad_value_`.

    Example:
        >>> clip_grad_value(0.5)
        clip_grad_value(clip_value=0.5)
    """
    _check_positive("clip_grad_value", "clip_value", clip_value)

    def transform_gradients(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        _refuse_complex(ctx.names, gradients)
        if any(one is not None and one.is_sparse for one in gradients):  # torch clamps dense ones alone
            gradients = [one.coalesce() if one is not None and one.is_sparse else one for one in gradients]
        put_gradients(ctx.parameters, gradients)  # where torch's function looks for them
        if dense := [one for one in ctx.parameters if one.grad is not None and not one.grad.is_sparse]:
            clip_grad_value_(dense, clip_value)
        for one in gradients:
            if one is not None and one.is_sparse:
                one.values().clamp_(-clip_value, clip_value)
        return gradients

    writes = frozenset({"gradients"})
    return HookSet(name="clip_grad_value", writes=writes, collective=True, transform_gradients=transform_gradients)


@factory
def skip_nonfinite_update() -> HookSet:
    """Skip an update whose final gradients have a norm that is NaN or infinite.

    The norm is that of all gradients of one optimizer together, before any clipping. It is read from the device once
    for each optimizer and update, because the step cannot be taken back: the host waits there for the backward pass.
    A skipped update is counted by nothing, and the gradients are cleared.

    Source: Optax's `apply_if_finite`, without its limit.

    Example:
        >>> skip_nonfinite_update()
        skip_nonfinite_update()
    """

    def on_after_gradient_update(ctx: GradientsReady) -> SkipUpdate | None:
        norm = float(ctx.grad_norm)
        if math.isfinite(norm):
            return None
        return SkipUpdate(f"the norm of the gradients is {norm} at update {ctx.at.updates + 1}")

    return HookSet(
        name="skip_nonfinite_update", may_skip=True, on_after_gradient_update=on_after_gradient_update
    )  # fmt: skip


@factory
def grad_noise(std: float, *, decay: float = 0.0) -> HookSet:
    """Add Gaussian noise to every element of each update's gradients.

    The standard deviation is `std / (1 + t) ** (decay / 2)` after `t` finished updates. The noise depends on the run's
    seed, the update and the optimizer; it is the same on all ranks, so that equal replicas stay equal, and in a sharded
    model that of one process: each rank draws the noise of whole gradients, one after another, and adds its part.

    Args:
        std: Standard deviation at the first update, above 0 and finite, in the gradients' own unit; the paper's eta is
            its square.
        decay: How fast the variance falls, 0 or greater; the paper's gamma is 0.55, and 0 keeps it constant.

    Raises:
        HookDefinitionError: if an argument is none of these; in an update, if a gradient is sparse.

    Source: Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015.

    Example:
        >>> grad_noise(0.1, decay=0.55)
        grad_noise(std=0.1, decay=0.55)
    """
    _check_positive("grad_noise", "std", std)
    check_number("grad_noise", "std", std)
    check_number("grad_noise", "decay", decay)

    def transform_gradients(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        shared = evolve(ctx, run=evolve(ctx.run, rank=Rank()))  # every rank draws what rank 0 does
        name = f"grad_noise/{ctx.optimizer_idx}"
        there = [(one, called) for one, called in zip(gradients, ctx.names, strict=True) if one is not None]
        generators = {device: shared.generator(name, device) for device in {one.device for one, _ in there}}
        now = std / (1 + ctx.at.updates) ** (decay / 2)
        for one, called in there:
            if one.is_sparse:
                raise HookDefinitionError(
                    f"grad_noise adds noise to every element, and the gradient of {called!r} is sparse, which holds "
                    "few of them; make it dense, as by nn.Embedding(..., sparse=False)."
                )
            noise = torch.randn(one.shape, dtype=one.dtype, device=one.device, generator=generators[one.device])
            own_part(one).add_(part_like(noise, one), alpha=now)
        return gradients

    writes = frozenset({"gradients"})
    return HookSet(name="grad_noise", writes=writes, collective=True, transform_gradients=transform_gradients)


def _refuse_complex(names: Sequence[str], gradients: Gradients) -> None:
    for name, one in zip(names, gradients, strict=True):
        if one is not None and one.is_complex():
            raise HookDefinitionError(
                f"clip_grad_value clamps real numbers, and the gradient of {name!r} is complex; write "
                "clip_grad_norm(max_norm), which takes the absolute values."
            )


def _check_positive(factory: str, argument: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value) or value <= 0:
        raise HookDefinitionError(f"{factory} takes {argument} as a number above 0, got {shown(value)}.")
