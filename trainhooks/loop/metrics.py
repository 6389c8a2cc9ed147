"""The metrics of an evaluation: functions of a batch, or objects that count, over ranks too."""

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self, cast, runtime_checkable

from torch import Tensor, nn

from trainhooks.distributed import Ranks
from trainhooks.errors import HookDefinitionError, RunDefinitionError, shown

from .means import one_number


@runtime_checkable
class SyncsItself(Protocol):
    """A metric of torchmetrics: `compute` puts together what the processes of a group have counted."""

    sync_on_compute: bool
    dist_sync_fn: Callable[..., list[Tensor]] | None


@runtime_checkable
class Merges(Protocol):
    """A metric that takes in what others of its kind have counted; it must be possible to pickle it."""

    def merge_state(self, metrics: Iterable[Self], /) -> object:
        """Take in what the others have counted, as if this one had counted it after its own."""
        ...


class _HasMetrics(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, Any]: ...


def check_metrics(evaluations: Iterable[_HasMetrics], world: int) -> None:
    """Refuse a metric that the ranks of a run cannot put together.

    Raises:
        RunDefinitionError: if there is one, naming it.
    """
    if world == 1:
        return
    for evaluation in evaluations:
        for name, metric in evaluation.metrics.items():
            if keeps_count(metric) and not syncs_itself(metric) and not merges(metric):
                raise RunDefinitionError(
                    f"The metric {name!r} of the evaluation {evaluation.name!r} counts by itself, and {world} "
                    f"processes cannot put together what their {type(metric).__qualname__} objects have counted. Give "
                    "it a method merge_state(others), take a metric of torchmetrics with sync_on_compute=True, or "
                    "write a function of a batch's output and target, whose values are averaged by weight."
                )


def keeps_count(metric: object) -> bool:
    """Whether a metric is an object with torchmetrics' shape rather than a function."""
    return all(callable(getattr(metric, method, None)) for method in ("update", "compute", "reset"))


def of_torchmetrics(metric: object) -> list[SyncsItself]:
    """The metrics of torchmetrics that a metric is, or holds as a collection or a wrapper does."""
    parts = metric.modules() if isinstance(metric, nn.Module) else (metric,)
    return [one for one in parts if isinstance(one, SyncsItself)]


def syncs_itself(metric: object) -> bool:
    """Whether a metric's `compute` puts together what all processes have counted."""
    parts = of_torchmetrics(metric)
    return bool(parts) and all(one.sync_on_compute for one in parts)


def merges(metric: object) -> bool:
    """Whether a metric takes in a sequence of others; torchmetrics' method of this name takes one at a time."""
    return isinstance(metric, Merges) and not of_torchmetrics(metric)


def computed(metric: Any, ranks: Ranks | None, batches: Sequence[int]) -> object:
    """What an object that counts makes of all that the ranks have counted; over ranks, every rank calls it.

    Args:
        metric: The object.
        ranks: The processes of the run; None if this is the only one.
        batches: How many batches it has counted, by rank.
    """
    if ranks is None:
        return metric.compute()
    if merges(metric):
        with_batches = [one for one, count in zip(ranks.gather(metric), batches, strict=True) if count]
        whole, *others = with_batches
        whole.merge_state(others)
        return whole.compute()
    with _syncing_what_is_there(metric, ranks, batches):
        return metric.compute()


@contextmanager
def _syncing_what_is_there(metric: object, ranks: Ranks, batches: Sequence[int]) -> Generator[None]:
    """Leave out ranks that counted nothing: torchmetrics takes their state's type and shape for those of the others."""
    parts = [] if all(batches) else [one for one in of_torchmetrics(metric) if one.dist_sync_fn is None]
    if not parts:
        yield
        return

    def gather(state: Tensor, group: object = None) -> list[Tensor]:
        found = zip(ranks.gather(state.detach().cpu()), batches, strict=True)
        return [one.to(state.device) for one, count in found if count]

    for one in parts:
        one.dist_sync_fn = gather
    try:
        with warnings.catch_warnings():  # that this rank counted nothing is as it should be
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric", category=UserWarning)
            yield
    finally:
        for one in parts:
            one.dist_sync_fn = None


def numbers_in(name: str, value: object, leave_out: Callable[[str, object], None]) -> dict[str, float | Tensor]:
    """The numbers that a metric gave, by name: one, or those of a mapping or a vector as `<name>/<key>`.

    Args:
        name: The metric's name.
        value: What it gave.
        leave_out: Told of what has two dimensions or more, by name.

    Raises:
        HookDefinitionError: if it gave anything else.
    """
    number = one_number(value)
    if number is not None:
        return {name: number}
    if isinstance(value, Mapping):
        parts = {f"{name}/{key}": part for key, part in cast("Mapping[object, object]", value).items()}
        return {key: one for part in parts for key, one in numbers_in(part, parts[part], leave_out).items()}
    dimensions = _dimensions(value)
    if dimensions > 1:
        leave_out(name, value)
        return {}
    if dimensions == 1:
        numbers = {f"{name}/{index}": one_number(one) for index, one in enumerate(cast("Iterable[object]", value))}
        if all(one is not None for one in numbers.values()):
            return {key: one for key, one in numbers.items() if one is not None}
    raise HookDefinitionError(
        f"The metric {name!r} gave {shown(value)}; a metric gives a number, a mapping of numbers, or a vector."
    )


def _dimensions(value: object) -> int:
    """How many dimensions a tensor, an array, or a list or tuple of such has; 0 for what is none of these."""
    if isinstance(value, list | tuple):
        return 1 + max(map(_dimensions, cast("Sequence[object]", value)), default=0)
    found: object = getattr(value, "ndim", 0)
    return found if isinstance(found, int) else 0
