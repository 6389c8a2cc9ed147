"""The events, read from the declaration of the slots, and the stretch of progress that each of them covers."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, Union, final, get_args, get_origin, get_type_hints

from attrs import frozen

from trainhooks.errors import RunDefinitionError

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
from .rules import Span
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
    advances: frozenset[Unit]
    """The units that can advance within the stretch that it covers."""
    span: Span
    """The stretch that it covers."""


def _moment(ctx: Any, unit: Unit) -> tuple[int, int]:
    count: int = getattr(ctx.at, unit)
    return count, count


def _batch_to_come(ctx: BatchBegin | LossReady | AfterBackward, unit: Unit) -> tuple[int, int]:
    count: int = getattr(ctx.at, unit)
    advances = unit == "batches" or (unit == "updates" and ctx.closes_window)
    return count, count + advances


def _window_to_come(ctx: RatesDue, unit: Unit) -> tuple[int, int]:
    count: int = getattr(ctx.at, unit)
    return count, count + {"updates": 1, "batches": ctx.run.accumulate, "epochs": 0}[unit]


def _update_to_come(ctx: GradientsReady, unit: Unit) -> tuple[int, int]:
    if unit == "batches":
        return ctx.since.batches, ctx.since.batches + ctx.batches
    count: int = getattr(ctx.at, unit)
    return count, count + (unit == "updates")


def _update_done(ctx: OptimizerStepped, unit: Unit) -> tuple[int, int]:
    if unit == "batches":
        return ctx.since.batches, ctx.since.batches + ctx.batches
    count: int = getattr(ctx.at, unit)
    return count - (unit == "updates" and ctx.stepped), count


def _batch_done(ctx: BatchEnd, unit: Unit) -> tuple[int, int]:
    count: int = getattr(ctx.at, unit)
    return count - (unit == "batches" or (unit == "updates" and ctx.updated)), count


def _epoch_to_come(ctx: EpochBegin, unit: Unit) -> tuple[int, int]:
    count: int = getattr(ctx.at, unit)
    if unit == "epochs":
        return count, count + 1
    if ctx.batches is None:
        raise RunDefinitionError(
            f"A trigger in {unit} on the begin of an epoch must know how many batches the epoch will have, and this "
            'data has no len(). Count in "epochs" there, or give data with a length.'
        )
    return count, count + (ctx.batches if unit == "batches" else -(-ctx.batches // ctx.run.accumulate))


def since_then(ctx: Any, unit: Unit) -> tuple[int, int]:
    """The stretch of whatever has `since` and `at`."""
    return getattr(ctx.since, unit), getattr(ctx.at, unit)


_UNITS: frozenset[Unit] = frozenset({"updates", "batches", "epochs"})
_WITHIN_AN_EPOCH: frozenset[Unit] = frozenset({"updates", "batches"})
_SPANS: Mapping[type, tuple[frozenset[Unit], Span]] = {
    BatchBegin: (_WITHIN_AN_EPOCH, _batch_to_come),
    RatesDue: (_WITHIN_AN_EPOCH, _window_to_come),
    LossReady: (_WITHIN_AN_EPOCH, _batch_to_come),
    AfterBackward: (_WITHIN_AN_EPOCH, _batch_to_come),
    GradientsReady: (_WITHIN_AN_EPOCH, _update_to_come),
    OptimizerStepped: (_WITHIN_AN_EPOCH, _update_done),
    BatchEnd: (_WITHIN_AN_EPOCH, _batch_done),
    EpochBegin: (_UNITS, _epoch_to_come),
    EpochEnd: (_UNITS, since_then),
    EvaluationBegin: (_UNITS, since_then),
    BatchPrediction: (_UNITS, since_then),
    EvaluationEnd: (_UNITS, since_then),
    Recorded: (_UNITS, since_then),
    CheckpointSaved: (_UNITS, since_then),
}


def _specify(name: str, slot: Any) -> EventSpec:
    kind: Kind = "on" if name.startswith("on_") else "transform" if name.startswith("transform_") else "around"
    arguments = get_args(slot)
    if kind == "on":
        context, answers = arguments[0], _members(arguments[1])
    else:
        context, answers = get_args(arguments[0])[0][0], ()
    context = get_origin(context) or context
    advances, span = _SPANS.get(context, (frozenset(), _moment))
    return EventSpec(name, kind, context, answers, advances, span)


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
