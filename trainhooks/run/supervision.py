"""`supervised`: the training step of most programs."""

from collections.abc import Callable, Sized
from functools import partial
from typing import Any, NoReturn, cast

from torch import Tensor, nn
from typing_extensions import TypeVar

from trainhooks.core import StepOutput, definition_of, name_of, refusal_of_call, without_values
from trainhooks.errors import HookDefinitionError, shown

O = TypeVar("O", default=Any)
Y = TypeVar("Y", default=Any)


def supervised(
    loss_fn: Callable[[O, Y], Tensor], weight: Callable[[tuple[Any, Y]], float | Tensor] | None = None
) -> Callable[[nn.Module, tuple[Any, Y]], StepOutput[O]]:
    """A step for batches of pairs `(x, y)`: `loss_fn(model(x), y)`, a mean over the batch's items.

    Hooks see the model's output as `output`; evaluations see it as `y_pred` and `y` as `y_test`.

    Args:
        loss_fn: Takes the model's output and `y`, returns the mean of the loss over the items, 0-d.
        weight: Takes the batch, returns how many items the loss is a mean of, 0 or more: unmasked tokens, or the sum of
            their classes' weights. None for `len(y)`, where `y` is a tensor.

    Raises:
        HookDefinitionError: if an argument is no function, or `loss_fn` has `reduction="sum"`; in the run, if a batch
            is no pair, or `y` is no tensor and there is no `weight`.

    Example:
        >>> import torch
        >>> step = supervised(torch.nn.functional.mse_loss)
        >>> step(torch.nn.Identity(), (torch.zeros(4), torch.ones(4))).weight
        4.0
        >>> masked = supervised(torch.nn.functional.cross_entropy, weight=lambda batch: (batch[1] != -100).sum())
    """
    name = f"supervised({name_of(loss_fn)})"
    _check_function("loss_fn", "(output, y)", loss_fn, 2)
    _refuse_sum(loss_fn, name)
    if weight is not None:
        _check_function("weight", "(batch)", weight, 1)

    def step(model: nn.Module, batch: Any) -> StepOutput[O]:
        if not issubclass(type(batch), (tuple, list)) or len(batch) != 2:
            _refuse_batch(batch, name)
        x, y = batch
        items = _items(y, name) if weight is None else weight(batch)
        output: O = model(x)
        return StepOutput(loss_fn(output, y), weight=items, output=output, target=y)

    step.__qualname__ = step.__name__ = name
    return without_values(step)


def _check_function(what: str, form: str, function: object, count: int) -> None:
    if isinstance(function, type):
        raise HookDefinitionError(
            f"{what} of supervised is the class {function.__qualname__}; give an object: {function.__name__}(...)."
        )
    if not callable(function):
        raise HookDefinitionError(f"{what} of supervised is a function {form}, got {shown(function)}.")
    if (why := refusal_of_call(function, count)) is not None:
        raise HookDefinitionError(
            f"{what} of supervised is called as {form}, but {definition_of(function)} cannot be called so: {why}."
        )


def _refuse_sum(loss_fn: object, name: str) -> None:
    given: object = getattr(loss_fn, "reduction", None)
    if isinstance(loss_fn, partial):
        given = cast("partial[object]", loss_fn).keywords.get("reduction")
    if given == "sum":
        raise HookDefinitionError(
            f"{name} takes a loss that is a mean over the batch's items, and this one has reduction='sum'. Make it "
            "with reduction='mean', or write a step that returns StepOutput(loss, weight=..., reduction='sum')."
        )


def _items(y: object, name: str) -> float:
    if isinstance(y, Tensor) and y.shape:
        return float(y.shape[0])
    kind = "a tensor without dimensions" if isinstance(y, Tensor) else _kind_of(y)
    raise HookDefinitionError(
        f"{name} weighs a batch by len(y) where y is a tensor with a first dimension, and got {kind}. Say how many "
        f"items the loss is a mean of: {name[:-1]}, weight=lambda batch: ...)."
    )


def _refuse_batch(batch: object, name: str) -> NoReturn:
    raise HookDefinitionError(
        f"{name} is for batches of pairs (x, y), and got {_kind_of(batch)}; write your own step: def step(model, "
        "batch): return StepOutput(loss, weight=..., output=..., target=...)."
    )


def _kind_of(value: object) -> str:
    kind = f"a {type(value).__name__}"
    return f"{kind} of {len(value)}" if isinstance(value, Sized) else kind
