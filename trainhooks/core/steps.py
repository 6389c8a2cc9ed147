"""What a training step returns."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, TypeAlias, final

from attrs import frozen
from torch import Tensor, nn
from typing_extensions import TypeVar

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)
O_co = TypeVar("O_co", covariant=True, default=Any)



@final
@frozen(eq=False, init=False)
class Ratio:
    """A value of a batch with a count of its own: recorded as `sum(total) / sum(count)` over an epoch or evaluation.

    For values whose items are not those of the loss: hits among the samples of one class, say.

    Example:
        >>> Ratio(total=3.0, count=4).count
        4
    """

    total: float | Tensor
    """The sum over the counted items; a tensor is 0-d and is not read in a step."""
    count: float | Tensor
    """How many items that are, 0 or more. Where it is 0 in every batch, the name is not recorded."""

    def __init__(self, total: float | Tensor, count: float | Tensor) -> None:
        put = object.__setattr__  # `torch.compile` follows this, and not what attrs writes
        put(self, "total", total)
        put(self, "count", count)


Value: TypeAlias = float | Tensor | Ratio
"""A step's value of one batch: a mean over the batch's items, or a `Ratio`."""

NO_VALUES: Final[Mapping[str, Value]] = MappingProxyType({})


@final
@frozen(eq=False, init=False)
class StepOutput(Generic[O_co]):
    """A loss, how many items it is the mean of, and what the model said of the batch.

    Example:
        >>> import torch
        >>> StepOutput(torch.tensor(0.5), weight=4.0, values={"accuracy": 0.75}).weight
        4.0
    """

    loss: Tensor
    """0-d, attached to the graph in training: the mean over the batch's `weight` items, or as `reduction` says."""
    weight: float | Tensor = 1.0
    """Items (samples, tokens) that the loss is a mean of; finite, 0 or more. A 0-d device tensor is not read in a step.

    A batch of weight 0 adds no gradient, and no mean takes it in. Where it is the number 0, what the step computed does
    not matter; under `fsdp()`, or where the weight is a tensor, the batch is back-propagated all the same: keep a loss
    of your own finite there, as by `sum / count.clamp(min=1)`.
    """
    output: O_co | None = None
    """What hooks see as `output`, evaluations as `y_pred`, and metrics as their first argument."""
    target: object = None
    """What evaluations see as `y_test`, and metrics as their second argument."""
    values: Mapping[str, Value] = NO_VALUES
    """Further values by name: means over the same items, or each a `Ratio` with its own count.

    Recorded as `train/<key>` at the end of an epoch, and as `<evaluation>/<key>`.
    """
    reduction: Literal["mean", "sum"] = "mean"
    """What `loss` is of the `weight` items. A sum is divided by `weight` when the step has returned, so that hooks and
    records see the mean; `values` are means in both cases."""

    def __init__(
        self,
        loss: Tensor,
        *,
        weight: float | Tensor = 1.0,
        output: O_co | None = None,
        target: object = None,
        values: Mapping[str, Value] = NO_VALUES,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        put = object.__setattr__  # `torch.compile` follows this, and not what attrs writes
        put(self, "loss", loss)
        put(self, "weight", weight)
        put(self, "output", output)
        put(self, "target", target)
        put(self, "values", values)
        put(self, "reduction", reduction)


Step: TypeAlias = Callable[[nn.Module, B], Tensor | StepOutput[O]]
"""`step(model, batch)`: a 0-d loss, or a `StepOutput`."""

F = TypeVar("F", bound=Callable[..., object])


def without_values(step: F) -> F:
    """`step`, marked as one whose output never has `values`: who reads one of it is refused before the run."""
    step.gives_values = False  # type: ignore[attr-defined]
    return step


def may_give_values(step: object) -> bool:
    """Whether a step's output may have `values`."""
    return bool(getattr(step, "gives_values", True))
