"""The events, read from the declaration of the slots, and the interval of progress that each of them covers."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, Union, final, get_args, get_origin, get_type_hints

from attrs import frozen

from .answers import Answer
from .batches import (
    AfterBackward,
    BatchBegin,
    BatchEnd,
    BatchPrediction,
    GradientsReady,
    LossReady,
    OptimizerStepped,
    RatesDue,
)
from .contexts import (
    CheckpointSaved,
    EpochBegin,
    EpochEnd,
    EvaluationBegin,
    EvaluationEnd,
    Recorded,
)
from .progress import Unit
from .rules import Interval, Occasion, since_then
from .slots import Slots

Kind: TypeAlias = Literal["on", "transform", "around"]


@final
@frozen
class EventSpec:
    """What an event is."""

    name: str
    """The slot."""
    kind: Kind
    """Hears, replaces or wraps."""
    context: type
    """The class of its context."""
    answers: tuple[type[Answer], ...]
    """The kinds of answer that it takes."""
    gated_by: frozenset[Unit]
    """The units in which a trigger of `when` decides whether it is heard; none if it is heard in any case."""
    interval: Interval
    """What it covers."""


def _moment(ctx: Any, unit: Unit) -> tuple[int, int]:
    count: int = getattr(ctx.at, unit)
    return count, count


def _epoch_of(ctx: Any) -> tuple[int, int]:
    epoch: int = ctx.at.epoch
    return epoch, epoch + 1


def _batch_to_come(ctx: BatchBegin | LossReady | AfterBackward, unit: Unit) -> tuple[int, int]:
    if unit == "epochs":
        return _epoch_of(ctx)
    count: int = getattr(ctx.at, unit)
    return count, count + (unit == "batches" or ctx.closes_window)


def _window_to_come(ctx: RatesDue, unit: Unit) -> tuple[int, int]:
    if unit == "epochs":
        return _epoch_of(ctx)
    count: int = getattr(ctx.at, unit)
    return count, count + (1 if unit == "updates" else ctx.run.accumulate)


def _batch_done(ctx: BatchEnd, unit: Unit) -> tuple[int, int]:
    if unit == "epochs":
        return _epoch_of(ctx)
    if unit == "batches":
        return ctx.at.batches - 1, ctx.at.batches
    begin = ctx.at.updates - ctx.updated
    return begin, begin + ctx.closes_window  # also if the update was skipped: as for the events before it


def _update_to_come(ctx: GradientsReady, unit: Unit) -> tuple[int, int]:
    if unit == "epochs":
        return _epoch_of(ctx)
    if unit == "batches":
        return ctx.since.batches, ctx.since.batches + ctx.batches
    return ctx.at.updates, ctx.at.updates + 1


def _update_done(ctx: OptimizerStepped, unit: Unit) -> tuple[int, int]:
    if unit == "epochs":
        return _epoch_of(ctx)
    if unit == "batches":
        return ctx.since.batches, ctx.since.batches + ctx.batches
    begin = ctx.at.updates - (ctx.at.updates > ctx.since.updates)  # another optimizer may have made it
    return begin, begin + 1


def _window_before(
    ctx: EvaluationBegin | BatchPrediction | EvaluationEnd | CheckpointSaved, unit: Unit
) -> tuple[int, int]:
    return _epoch_of(ctx) if unit == "epochs" else since_then(ctx, unit)


def _as_recorded(ctx: Recorded, unit: Unit) -> tuple[int, int]:
    if unit == "epochs":
        return _epoch_of(ctx)
    return getattr(ctx.since, unit), getattr(ctx.until, unit)


def _epoch_to_come(ctx: EpochBegin, unit: Unit) -> tuple[int, int]:
    return _epoch_of(ctx) if unit == "epochs" else _moment(ctx, unit)


def _batch(ctx: Any) -> Occasion:
    return "batch", (ctx.at.epoch, ctx.at.batch)


def _evaluation(ctx: EvaluationBegin | BatchPrediction | EvaluationEnd) -> Occasion:
    return "evaluation", (ctx.name, ctx.at)


def _epoch(ctx: EpochBegin | EpochEnd) -> Occasion:
    return "epoch", ctx.at.epoch


_NOTHING = Interval(_moment, lambda ctx: ("moment", ctx.at))
_UNITS: frozenset[Unit] = frozenset({"updates", "batches", "epochs"})
_INTERVALS: Mapping[type, tuple[frozenset[Unit], Interval]] = {
    BatchBegin: (_UNITS, Interval(_batch_to_come, _batch)),
    RatesDue: (_UNITS, Interval(_window_to_come, _batch)),
    LossReady: (_UNITS, Interval(_batch_to_come, _batch)),
    AfterBackward: (_UNITS, Interval(_batch_to_come, _batch)),
    GradientsReady: (_UNITS, Interval(_update_to_come, _batch)),
    OptimizerStepped: (_UNITS, Interval(_update_done, _batch)),
    BatchEnd: (_UNITS, Interval(_batch_done, _batch)),
    EvaluationBegin: (_UNITS, Interval(_window_before, _evaluation)),
    BatchPrediction: (_UNITS, Interval(_window_before, _evaluation)),
    EvaluationEnd: (_UNITS, Interval(_window_before, _evaluation)),
    EpochBegin: (frozenset({"epochs"}), Interval(_epoch_to_come, _epoch)),
    EpochEnd: (_UNITS, Interval(since_then, _epoch)),
    Recorded: (_UNITS, Interval(_as_recorded, lambda ctx: ("record", ctx.at))),
    CheckpointSaved: (_UNITS, Interval(_window_before, lambda ctx: ("checkpoint", ctx.at))),
}
"""By the context of an event, the units by which triggers gate it and what it covers; all others are not gated."""


def _specify(name: str, slot: Any) -> EventSpec:
    kind: Kind = "on" if name.startswith("on_") else "transform" if name.startswith("transform_") else "around"
    arguments = get_args(slot)
    if kind == "on":
        context, answers = arguments[0], _members(arguments[1])
    else:
        context, answers = get_args(arguments[0])[0][0], ()
    context = get_origin(context) or context
    gated_by, interval = _INTERVALS.get(context, (frozenset(), _NOTHING))
    return EventSpec(name, kind, context, answers, gated_by, interval)


def _members(answers: Any) -> tuple[type[Answer], ...]:
    if isinstance(answers, type):
        return (answers,)
    return tuple(one for one in get_args(answers) if isinstance(one, type)) if _is_union(answers) else ()


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) is Union or type(annotation).__name__ == "UnionType"


EVENTS: Mapping[str, EventSpec] = MappingProxyType(
    {name: _specify(name, slot) for name, slot in get_type_hints(Slots).items()}
)
"""Every event by the name of its slot, in the order of a run."""

CONTEXTS: frozenset[type] = frozenset(spec.context for spec in EVENTS.values())
"""The classes of all contexts."""


def nearest(name: str, others: Iterable[str] = ()) -> str:
    """The slot, or one of `others`, whose name is most like `name`."""
    return max((*EVENTS, *sorted(others)), key=lambda one: difflib.SequenceMatcher(None, name.lower(), one).ratio())
