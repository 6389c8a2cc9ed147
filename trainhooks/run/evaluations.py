"""`Evaluation`: what a run evaluates, on which data, and when."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, cast, final

from attrs import frozen
from torch import Tensor

from trainhooks.core import Step, Trigger, definition_of, every, name_of, refusal_of_call
from trainhooks.errors import HookDefinitionError, RunDefinitionError, shown
from trainhooks.loop import keeps_count, length_of

from .validation import check_iterable, check_step, is_one_shot


class MetricObject(Protocol):
    """The shape of a torchmetrics metric."""

    def update(self, output: Any, target: Any, /) -> Any:
        """Take in a batch."""
        ...

    def compute(self) -> Any:
        """The value of all that was taken in: a number, a mapping of numbers, or a vector."""
        ...

    def reset(self) -> Any:
        """Forget what was taken in."""
        ...


Numbers: TypeAlias = float | Tensor | Mapping[str, Any] | Sequence[float]
"""What a metric gives: a number, a mapping of numbers, or a vector."""

Metric: TypeAlias = Callable[[Any, Any], Numbers] | MetricObject
"""A function of a batch's output and target, averaged by weight, or an object with torchmetrics' shape."""


@final
@frozen(eq=False, repr=False)
class Evaluation:
    """What a run evaluates: every item of `data` has weight one, and training is not changed by it.

    Raises:
        RunDefinitionError: if a name, the data or `when` is none that can be evaluated.
        HookDefinitionError: if the step or a metric does not have the right form.

    Example:
        >>> Evaluation("val", data=[], when=every(500, "updates"))
        Evaluation('val', <list>, when=every(500, 'updates'))
    """

    name: str
    """Its values are `<name>/loss`, `<name>/<metric>`, and `<name>/<key>` for each key of the step's `values`."""
    data: Iterable[Any]
    """Batches; iterated anew each time."""
    step: Step[Any, Any] | None = None
    """What gives loss, output and target of a batch; None for the training step."""
    metrics: Mapping[str, Metric] = MappingProxyType({})
    """Further values by name, from the step's `output` and `target`. One that is a mapping or a vector is recorded part
    by part, as `<name>/<metric>/<key>` or `<name>/<metric>/0`; a matrix is left out."""
    when: Trigger | None = every(1, "epochs")
    """At which boundaries it is due; None for only when a hook asks for it, by `Evaluate(name)`."""

    def __attrs_post_init__(self) -> None:
        check_parts(self.name, self.step, self.metrics)
        check_iterable(self.data, f"The data of the evaluation {self.name!r}")
        if is_one_shot(self.data):
            raise RunDefinitionError(
                f"The data of the evaluation {self.name!r} is one-shot (a {type(self.data).__name__}): it would be "
                "used up after the first time. Give what can be iterated again, such as a list or a DataLoader."
            )
        if self.when is not None and not isinstance(cast("object", self.when), Trigger):
            raise RunDefinitionError(
                f"when of the evaluation {self.name!r} is a trigger, such as every(1, 'epochs'), or None for only when "
                f"a hook asks for it, got {shown(self.when)}."
            )

    def __repr__(self) -> str:
        step = () if self.step is None else (f"step={name_of(self.step)}",)
        metrics = (f"metrics={shown(list(self.metrics))}",) if self.metrics else ()
        parts = (repr(self.name), f"<{type(self.data).__name__}>", *step, *metrics, f"when={self.when!r}")
        return f"Evaluation({', '.join(parts)})"


def check_parts(name: object, step: object, metrics: object) -> None:
    """Refuse a name, a step or metrics that no evaluation can have.

    Args:
        name: Of the evaluation.
        step: Its step; None for one that is given later.
        metrics: By name.

    Raises:
        RunDefinitionError: if a name is none, or would take another's place.
        HookDefinitionError: if the step or a metric does not have the right form.
    """
    if not isinstance(name, str) or not name or name == "train":
        raise RunDefinitionError(f"An evaluation cannot be named {shown(name)}; choose a name such as 'val'.")
    if step is not None:
        check_step(step, f" of the evaluation {name!r}")
    if not isinstance(metrics, Mapping):
        raise HookDefinitionError(
            f"metrics of the evaluation {name!r} have names, metrics={{'acc': accuracy}}, got {shown(metrics)}."
        )
    for key, metric in cast("Mapping[object, object]", metrics).items():
        if not isinstance(key, str) or not key:
            raise RunDefinitionError(f"A metric's name is a string, got {shown(key)} in the evaluation {name!r}.")
        if key == "loss" or key.startswith("loss/"):
            raise RunDefinitionError(
                f"A metric of the evaluation {name!r} is named {key!r}, but {name}/loss is the step's own; give it "
                "another name."
            )
        _check_metric(f"The metric {key!r} of the evaluation {name!r}", metric)


def _check_metric(what: str, metric: object) -> None:
    forms = "a function (output, target) -> number, or an object with update, compute and reset"
    if isinstance(metric, type):
        raise HookDefinitionError(f"{what} is the class {metric.__qualname__}; give an object: {metric.__name__}(...).")
    if keeps_count(metric):
        return
    if not callable(metric):
        raise HookDefinitionError(f"{what} is {shown(metric)}; a metric is {forms}.")
    if (why := refusal_of_call(metric, 2)) is not None:
        raise HookDefinitionError(
            f"{what} is called as (output, target), but {definition_of(metric)} cannot be called so: {why}."
        )


def check_evaluations(evaluations: object, world: int, *, has_step: bool) -> tuple[Evaluation, ...]:
    """Refuse evaluations that could not be told apart, or that have no step, or no data in a run of one process."""
    if not isinstance(evaluations, Sequence) or isinstance(evaluations, str):
        raise RunDefinitionError(f"evaluations is a list, evaluations=[Evaluation(...)], got {shown(evaluations)}.")
    found: dict[str, Evaluation] = {}
    for one in cast("Sequence[object]", evaluations):
        if not isinstance(one, Evaluation):
            raise RunDefinitionError(f"evaluations holds Evaluation(name, data, ...), got {shown(one)}.")
        if one.name in found:
            raise RunDefinitionError(f"Two evaluations are named {one.name!r}; their values are recorded by name.")
        if one.step is None and not has_step:
            raise RunDefinitionError(
                f"The evaluation {one.name!r} has no step, and several objectives have one each; write "
                f"Evaluation({one.name!r}, data, step=...)."
            )
        if world == 1 and length_of(one.data) == 0:  # of several, others may have some
            raise RunDefinitionError(f"The data of the evaluation {one.name!r} has length 0.")
        found[one.name] = one
    return tuple(found.values())
