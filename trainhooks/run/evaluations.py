"""`Evaluation`: what a run evaluates, on which data, and when."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, final

from attrs import frozen
from torch import Tensor

from trainhooks.core import Step, Trigger, every


class MetricObject(Protocol):
    """The shape of a torchmetrics metric."""

    def update(self, output: Any, target: Any, /) -> Any:
        """Take in a batch."""
        ...

    def compute(self) -> Any:
        """The value of all that was taken in: a number or a 0-d tensor."""
        ...

    def reset(self) -> Any:
        """Forget what was taken in."""
        ...


Metric: TypeAlias = Callable[[Any, Any], Tensor | float] | MetricObject
"""A function of a batch's output and target, averaged by weight, or an object with torchmetrics' shape."""


@final
@frozen(eq=False)
class Evaluation:
    """What a run evaluates: every item of `data` has weight one, and training is not changed by it.

    Example:
        >>> Evaluation("val", data=[], when=every(500, "updates")).when
        every(500, 'updates')
    """

    name: str
    """Its values are `<name>/loss` and `<name>/<metric>`."""
    data: Iterable[Any]
    """Batches; iterated anew each time."""
    step: Step[Any, Any] | None = None
    """What gives loss, output and target of a batch; None for the training step."""
    metrics: Mapping[str, Metric] = MappingProxyType({})
    """Further values, from the step's `output` and `target`."""
    when: Trigger = every(1, "epochs")
    """At which boundaries it is due; a hook can ask for it too, by `Evaluate(name)`."""
