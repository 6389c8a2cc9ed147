"""Hooks on gradients, between backward and the optimizer's step."""

import math

from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from trainhooks.core import Gradients, GradientsReady, HookSet
from trainhooks.errors import HookDefinitionError


def clip_grad_norm(max_norm: float, norm_type: float = 2.0) -> HookSet:
    """Scale the gradients of each update down so that the norm of all of them together is at most `max_norm`.

    Each optimizer's gradients are clipped on their own, once an update, after they are unscaled, normalised and
    reduced. What is bounded is what the hook receives: after another transform, that transform's result.

    Args:
        max_norm: Greatest norm, above 0.
        norm_type: The p of the p-norm, above 0; `inf` for the greatest absolute value.

    Raises:
        HookDefinitionError: if a bound is not above 0.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", 2013; torch's
    `clip_grad_norm_`.

    Example:
        >>> clip_grad_norm(1.0)
        HookSet('clip_grad_norm': transform_gradients)
    """
    _check_positive("clip_grad_norm", "max_norm", max_norm)
    _check_positive("clip_grad_norm", "norm_type", norm_type)

    def transform_gradients(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        known = ctx.untouched and norm_type == 2.0
        norm = ctx.grad_norm if known else get_total_norm(gradients, norm_type)
        _hand_over(ctx, gradients)
        clip_grads_with_norm_(ctx.parameters, max_norm, norm)
        return gradients

    return HookSet(name="clip_grad_norm", writes=frozenset({"gradients"}), transform_gradients=transform_gradients)


def clip_grad_value(limit: float) -> HookSet:
    """Clamp every element of each update's gradients to [-`limit`, `limit`].

    Args:
        limit: Greatest absolute value of an element, above 0.

    Raises:
        HookDefinitionError: if the limit is not above 0.

    Source: torch's `clip_grad_value_`.

    Example:
        >>> clip_grad_value(0.5)
        HookSet('clip_grad_value': transform_gradients)
    """
    _check_positive("clip_grad_value", "limit", limit)

    def transform_gradients(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        _hand_over(ctx, gradients)
        clip_grad_value_(ctx.parameters, limit)
        return gradients

    return HookSet(name="clip_grad_value", writes=frozenset({"gradients"}), transform_gradients=transform_gradients)


def _hand_over(ctx: GradientsReady, gradients: Gradients) -> None:
    """Put the gradients where torch's functions look for them."""
    for parameter, gradient in zip(ctx.parameters, gradients, strict=True):
        if parameter.grad is not gradient:
            parameter.grad = gradient


def _check_positive(factory: str, argument: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value) or value <= 0:
        raise HookDefinitionError(f"{factory} takes {argument} as a number above 0, got {value!r}.")
