"""Calling a step, in the precision of the run."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NoReturn, TypeAlias, cast

import torch
from torch import Tensor, nn

from trainhooks.core import NO_VALUES, Ratio, Step, StepOutput, Value, definition_of, name_of
from trainhooks.errors import HookDefinitionError, shown

from .around import say_in
from .means import one_number
from .windows import refuse_weight

Forward: TypeAlias = Callable[[Step[Any, Any], nn.Module, Any], StepOutput[Any]]
"""`forward(step, model, batch)`: what a step says of a batch."""

AUTOCAST: Final[Mapping[str, torch.dtype]] = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}
"""What autocast computes in where it can, for each precision but "float32"."""

_INFINITY: Final = float("inf")
_HALF: Final = (torch.float16, torch.bfloat16)


def forward(step: Step[Any, Any], model: nn.Module, batch: Any) -> StepOutput[Any]:
    """What a step says of a batch; its loss is a mean, whatever the step's `reduction`.

    Raises:
        HookDefinitionError: if the step returns neither a tensor nor a `StepOutput`, or a field of it has another form.
    """
    try:
        output = step(model, batch)
    except Exception as error:
        say_in(error, f"the step {definition_of(step)}")
        raise
    if type(output) is StepOutput:
        weight = output.weight
        if (
            type(output.loss) is Tensor
            and not output.loss.ndim
            and type(weight) is float
            and 0.0 <= weight < _INFINITY
            and output.reduction == "mean"
            and output.values is NO_VALUES
        ):
            return output
        return checked(step, output)
    if isinstance(output, Tensor):
        return StepOutput(output) if not output.ndim else checked(step, StepOutput(output))
    raise HookDefinitionError(
        f"A step returns a scalar tensor (the loss) or a StepOutput, but {name_of(step)!r} returned {shown(output)}."
    )


def checked(step: Step[Any, Any], output: StepOutput[Any]) -> StepOutput[Any]:
    """A step's output with each field in the form that the loop counts on; the very same if it has that already.

    Raises:
        HookDefinitionError: if a field cannot be brought into it, naming step and field.
    """
    loss, weight, values = _loss(step, output.loss), _weight(step, output.weight), _values(step, output.values)
    if output.reduction != "mean":
        loss = _mean(step, loss, weight, output.reduction)
    if loss is output.loss and weight is output.weight and values is output.values:
        return output
    return StepOutput(loss, weight=weight, output=output.output, target=output.target, values=values)


def refuse_shape(step: Step[Any, Any], loss: Tensor) -> NoReturn:
    """Say that a loss is a scalar."""
    raise HookDefinitionError(
        f"The loss of the step {name_of(step)!r} has shape {tuple(loss.shape)}; a loss is a scalar, so reduce it to "
        "the mean over the batch's items, or to their sum with StepOutput(loss, weight=..., reduction='sum')."
    )


def check_value_name(step: Step[Any, Any], name: str, prefix: str) -> None:
    """Refuse a step's value that would take the place of a loss among the values `<prefix>/<name>`."""
    if name == "loss" or name.startswith("loss/"):
        raise HookDefinitionError(
            f"The step {name_of(step)!r} gave a value named {name!r}, but {prefix}/{name} is the loop's own; give it "
            "another name."
        )


def _loss(step: Step[Any, Any], loss: object) -> Tensor:
    if not isinstance(loss, Tensor):
        raise HookDefinitionError(
            f"The step {name_of(step)!r} returned a StepOutput whose loss is {shown(loss)}; a loss is a 0-d tensor."
        )
    if loss.ndim:
        refuse_shape(step, loss)
    return loss


def _weight(step: Step[Any, Any], weight: object) -> float | Tensor:
    if isinstance(weight, Tensor):
        if not weight.ndim and not weight.is_complex() and weight.dtype is not torch.bool:
            return weight.detach() if weight.requires_grad else weight
    elif type(weight) is not bool:
        number = weight if type(weight) is float else one_number(weight)
        if isinstance(number, float):
            return number if 0.0 <= number < _INFINITY else refuse_weight(step, number)
    raise HookDefinitionError(
        f"The step {name_of(step)!r} gave its loss the weight {shown(weight)}; a weight counts the items of "
        "the loss: a finite number from 0 on, or a 0-d tensor."
    )


def _values(step: Step[Any, Any], values: object) -> Mapping[str, Value]:
    if not isinstance(values, Mapping):
        raise HookDefinitionError(
            f"The step {name_of(step)!r} returned StepOutput(values={shown(values)}); write values={{name: number}}."
        )
    changed: dict[str, Value] = {}
    for name, value in cast("Mapping[object, object]", values).items():
        if not isinstance(name, str):
            raise HookDefinitionError(f"The step {name_of(step)!r} gave a value the name {name!r}; a name is a string.")
        kind = type(value)
        if kind is float or (kind is Tensor and not cast("Tensor", value).ndim):
            continue
        new = _value(value)
        if new is None:
            raise HookDefinitionError(
                f"The step {name_of(step)!r} gave the value {name!r} as {shown(value)}; a value is a number, a 0-d "
                "tensor, or Ratio(total, count) with a count of 0 or more."
            )
        if new is not value:
            changed[name] = new
    return {**cast("Mapping[str, Value]", values), **changed} if changed else cast("Mapping[str, Value]", values)


def _value(value: object) -> Value | None:
    """A value in its form; None for what is none."""
    if not isinstance(value, Ratio):
        return one_number(value)
    total, count = one_number(value.total), one_number(value.count)
    if total is None or count is None or (not isinstance(count, Tensor) and not 0.0 <= count < _INFINITY):
        return None
    return value if total is value.total and count is value.count else Ratio(total, count)


def _mean(step: Step[Any, Any], loss: Tensor, weight: float | Tensor, reduction: object) -> Tensor:
    """The mean of a loss that is a sum over `weight` items; over no items, the sum as it is."""
    if reduction != "sum":
        raise HookDefinitionError(
            f"The step {name_of(step)!r} returned StepOutput(reduction={shown(reduction)}); a loss is the 'mean' over "
            "its items or their 'sum'."
        )
    wide = loss.float() if loss.dtype in _HALF else loss  # a count of items may be too great for the loss's own type
    if isinstance(weight, Tensor):
        return (wide / torch.where(weight > 0, weight, torch.ones_like(weight))).to(loss.dtype)
    return (wide / weight).to(loss.dtype) if weight else loss


def forward_in(precision: str, device: torch.device) -> Forward:
    """How steps are called in a precision, in training and in evaluations alike."""
    if precision not in AUTOCAST:
        return forward

    def forward_under_autocast(step: Step[Any, Any], model: nn.Module, batch: Any) -> StepOutput[Any]:
        with autocast(precision, device):
            return forward(step, model, batch)

    return forward_under_autocast


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """What a step is called in, in this precision."""
    return torch.autocast(device.type, AUTOCAST[precision]) if precision in AUTOCAST else nullcontext()
