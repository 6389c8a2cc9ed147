"""`supervised`: the training step of most programs."""

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, cast

from torch import Tensor, nn
from typing_extensions import TypeVar

from trainhooks.core import StepOutput, name_of
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
        >>> step = supervised(torch.nn.functional.mse_loss)
        >>> step(torch.nn.Identity(), (torch.zeros(4), torch.ones(4))).weight
        4.0
    """

    def step(model: nn.Module, batch: tuple[Any, Y]) -> StepOutput[O]:
        x, y = _pair(batch, loss_fn)
        output: O = model(x)
        return StepOutput(loss_fn(output, y), _items(y, loss_fn), output, y)

    step.__qualname__ = step.__name__ = f"supervised({name_of(loss_fn)})"
    return step


def _pair(batch: Any, loss_fn: object) -> tuple[Any, Any]:
    if isinstance(batch, tuple | list):
        pair = cast("Sequence[object]", batch)
        if len(pair) == 2:
            return pair[0], pair[1]
    came = _kind_of(cast("object", batch))
    raise HookDefinitionError(
        f"supervised({name_of(loss_fn)}) is for batches of pairs (x, y), and got {came}; write your own "
        "step: def step(model, batch): return StepOutput(loss, weight, output, target)."
    )


def _items(y: object, loss_fn: object) -> float:
    if (isinstance(y, Tensor) and not y.shape) or isinstance(y, Mapping) or not isinstance(y, Sized):
        raise HookDefinitionError(
            f"supervised({name_of(loss_fn)}) weighs a batch by len(y), and got y={y!r}; write your own step: "
            "def step(model, batch): return StepOutput(loss, weight, output, target)."
        )
    return float(len(y))


def _kind_of(batch: object) -> str:
    kind = f"a {type(batch).__name__}"
    return f"{kind} of {len(batch)}" if isinstance(batch, Sized) else kind
