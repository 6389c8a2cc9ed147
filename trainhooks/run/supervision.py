"""`supervised`: the training step of most programs."""

from collections.abc import Callable, Mapping, Sized
from typing import Any, NoReturn

from torch import Tensor, nn
from typing_extensions import TypeVar

from trainhooks.core import StepOutput, name_of, without_values
from trainhooks.errors import HookDefinitionError

O = TypeVar("O", default=Any)
Y = TypeVar("Y", default=Any)


def supervised(loss_fn: Callable[[O, Y], Tensor]) -> Callable[[nn.Module, tuple[Any, Y]], StepOutput[O]]:
    """A step for batches of pairs `(x, y)`: `loss_fn(model(x), y)`, a mean over the `len(y)` items.

    Hooks see the model's output as `output`; evaluations see it as `y_pred` and `y` as `y_test`.

    Args:
        loss_fn: Takes the model's output and `y`, returns the mean of the loss over the items, 0-d.

    Raises:
        HookDefinitionError: in the run, if a batch is no pair or `y` has no length.

    Example:
        >>> import torch
        >>> step = supervised(torch.nn.functional.mse_loss)
        >>> step(torch.nn.Identity(), (torch.zeros(4), torch.ones(4))).weight
        4.0
    """

    def step(model: nn.Module, batch: Any) -> StepOutput[O]:
        if not issubclass(type(batch), (tuple, list)) or len(batch) != 2:
            _refuse_batch(batch, loss_fn)
        x, y = batch
        output: O = model(x)
        return StepOutput(loss_fn(output, y), weight=_items(y, loss_fn), output=output, target=y)

    step.__qualname__ = step.__name__ = f"supervised({name_of(loss_fn)})"
    return without_values(step)


def _refuse_batch(batch: object, loss_fn: object) -> NoReturn:
    raise HookDefinitionError(
        f"supervised({name_of(loss_fn)}) is for batches of pairs (x, y), and got {_kind_of(batch)}; write your own "
        "step: def step(model, batch): return StepOutput(loss, weight=..., output=..., target=...)."
    )


def _items(y: object, loss_fn: object) -> float:
    if isinstance(y, Tensor):
        if y.shape:
            return float(y.shape[0])
    elif isinstance(y, Sized) and not isinstance(y, Mapping):
        return float(len(y))
    raise HookDefinitionError(
        f"supervised({name_of(loss_fn)}) weighs a batch by len(y), and got y={y!r}; write your own step: "
        "def step(model, batch): return StepOutput(loss, weight=..., output=..., target=...)."
    )


def _kind_of(batch: object) -> str:
    kind = f"a {type(batch).__name__}"
    return f"{kind} of {len(batch)}" if isinstance(batch, Sized) else kind
