"""What a training step returns."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, TypeAlias, final

from attrs import frozen
from torch import Tensor, nn
from typing_extensions import TypeVar

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)
O_co = TypeVar("O_co", covariant=True, default=Any)

_NO_VALUES: Final[Mapping[str, float | Tensor]] = MappingProxyType({})


@final
@frozen(eq=False, init=False)
class StepOutput(Generic[O_co]):
    """A loss, how many items it is the mean of, and what the model said of the batch."""

    loss: Tensor
    """0-d, attached to the graph in training: the mean over the batch's `weight` items."""
    weight: float | Tensor = 1.0
    """Items (samples, tokens) that the loss is a mean of; not negative. A 0-d device tensor is never read in a step.

    A batch of weight 0 gives gradients of 0. Where several processes train, or the weight is a tensor, it still is
    back-propagated, so divide by `max(items, 1)` in a loss of your own.
    """
    output: O_co | None = None
    """What hooks see as `output`, evaluations as `y_pred`, and metrics as their first argument."""
    target: object = None
    """What evaluations see as `y_test`, and metrics as their second argument."""
    values: Mapping[str, float | Tensor] = _NO_VALUES
    """Further means over the same items, recorded as `train/<key>` averaged over the epoch's items."""

    def __init__(
        self,
        loss: Tensor,
        *,
        weight: float | Tensor = 1.0,
        output: O_co | None = None,
        target: object = None,
        values: Mapping[str, float | Tensor] = _NO_VALUES,
    ) -> None:
        put = object.__setattr__  # `torch.compile` follows this, and not what attrs writes
        put(self, "loss", loss)
        put(self, "weight", weight)
        put(self, "output", output)
        put(self, "target", target)
        put(self, "values", values)


Step: TypeAlias = Callable[[nn.Module, B], Tensor | StepOutput[O]]
"""`step(model, batch)`: a 0-d loss, or a `StepOutput`."""
