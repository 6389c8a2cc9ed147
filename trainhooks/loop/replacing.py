"""What a transform returned: whether it can stand for what it was given."""

import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from typing import Any, cast

from torch import Tensor

from trainhooks.core import EvaluationEnd, Gradients, GradientsReady, Metrics, Rates
from trainhooks.errors import HookDefinitionError, RunDefinitionError, shown

from .records import number


def replaced(event: str, by: str, new: object, old: object, ctx: object, own: Collection[str]) -> object:
    """What a transform returned, if it can stand for what it was given; `own` are the names of the loop's values.

    Raises:
        HookDefinitionError: if it cannot, naming the set.
        RunDefinitionError: if it has a name of the loop that is not the evaluation's.
    """
    if new is old and event != "transform_metrics":
        return new
    if event == "transform_rates":
        return _checked_rates(by, new, old)
    wanted = _WANTED.get(event)
    fits = new is not None and (wanted is None or isinstance(new, wanted[0]))
    if not fits or (event == "transform_loss" and cast("Tensor", new).ndim):
        raise HookDefinitionError(
            f"{event} returns {wanted[1] if wanted else 'the batch'}, changed or as it was, but {by!r} returned "
            f"{shown(new)}. Did it forget to return the value?"
        )
    if isinstance(ctx, GradientsReady):
        _check_gradients(by, cast("Gradients", new), cast("Gradients", old), ctx.parameters)
    if event == "transform_metrics":
        if isinstance(ctx, EvaluationEnd):
            _check_names(by, cast("Metrics", new), ctx.name, own)
        return {name: number(by, name, value) for name, value in cast("Metrics", new).items()}
    return new


def _check_names(by: str, new: Metrics, evaluation: str, own: Collection[str]) -> None:
    for name in new:
        if name in own and not name.startswith(f"{evaluation}/"):
            raise RunDefinitionError(
                f"transform_metrics of {by!r} gave {name!r} in the evaluation {evaluation!r}, which is another value "
                "of the loop; give yours another name."
            )


def _check_gradients(by: str, new: Gradients, old: Gradients, parameters: Sequence[Tensor]) -> None:
    shapes = [tuple(one.shape) if isinstance(one, Tensor) else one for one in cast("Sequence[object]", new)]
    wanted = [None if found is None else tuple(one.shape) for one, found in zip(parameters, shapes, strict=False)]
    if shapes != wanted or len(shapes) != len(parameters):
        raise HookDefinitionError(
            f"transform_gradients returns one gradient or None for each of the {len(parameters)} parameters, of its "
            f"shape, but {by!r} returned {len(shapes)}, of shapes {shapes}."
        )
    for parameter, one, given in zip(parameters, new, old, strict=True):
        like = parameter if given is None else given
        if one is not None and one is not given and (one.dtype != like.dtype or one.device != like.device):
            raise HookDefinitionError(
                f"transform_gradients returns gradients of the type and on the device of those that it was given, but "
                f"{by!r} returned one of {one.dtype} on {one.device} for one of {like.dtype} on {like.device}."
            )


def _checked_rates(by: str, new: object, old: object) -> object:
    rates, groups = cast("Any", new), len(cast("Rates", old))
    if (type(new) is list or isinstance(new, Sequence)) and len(rates) == groups:
        for one in rates:
            if type(one) is not float or not -math.inf < one < math.inf:
                break
        else:
            return rates  # numbers as they nearly always are
        if all(isinstance(one, Real) and math.isfinite(one) for one in rates):
            return [float(one) for one in rates]
    raise HookDefinitionError(
        f"transform_rates returns the learning rates, one finite number for each of the {groups} groups of the "
        f"optimizer, but {by!r} returned {shown(rates)}. Did it forget to return the value?"
    )


_WANTED: Mapping[str, tuple[type, str]] = {
    "transform_loss": (Tensor, "the loss, a 0-d tensor"),
    "transform_gradients": (Sequence, "the gradients, a sequence of tensors and None"),
    "transform_metrics": (Mapping, "the metrics, a mapping of numbers by name"),
}
