"""Triggers: at which points of a run's progress something is due. They are values, with `&`, `|` and `~`.

Every event covers an interval of progress (a batch event its batch, an epoch event its epoch). A trigger fires when one
of its points lies in (before, after] of it: once per point, without state, and the same after a resume.
"""

from collections.abc import Iterable
from typing import final, get_args

from attrs import frozen

from trainhooks.errors import HookDefinitionError, shown

from .progress import Unit
from .rules import AtPoints, Both, Either, Every, EverySeconds, Not, Rule, Since, Until, flattened
from .settings import plain_number, whole_number


@final
@frozen(repr=False)
class Trigger:
    """When something is due; made by `every`, `at_points`, `since`, `until` and `every_seconds`."""

    rule: Rule
    """What it is made of."""

    def __and__(self, other: "Trigger") -> "Trigger":
        return Trigger(flattened(Both, self.rule, _rule_of("&", other)))

    def __or__(self, other: "Trigger") -> "Trigger":
        return Trigger(flattened(Either, self.rule, _rule_of("|", other)))

    def __bool__(self) -> bool:
        """Refused, since `and`, `or` and `not` would take one of two triggers, or none, in silence."""
        raise HookDefinitionError(f"{self!r} is neither true nor false; triggers are joined by &, | and ~.")

    def __invert__(self) -> "Trigger":
        return Trigger(Not(self.rule))

    def __repr__(self) -> str:
        return str(self.rule)


def every(n: int, unit: Unit) -> Trigger:
    """Due at n, 2n, 3n, ... finished `unit`.

    Example:
        >>> every(100, "updates") & since(1_000, "updates")
        every(100, 'updates') & since(1000, 'updates')
    """
    return Trigger(Every(_count("every", n, 1), _unit(unit)))


def at_points(points: Iterable[int], unit: Unit) -> Trigger:
    """Due at these counts of finished `unit`.

    0 is before the first update. An `Evaluation` or a `checkpoint` is due there once in a run's life: after
    `on_train_begin` of a run that did not resume, before the first epoch begins. Events do not meet it.

    Example:
        >>> at_points([0, 100, 1_000], "updates")
        at_points([0, 100, 1000], 'updates')
    """
    counts = frozenset(_count("at_points", point, 0) for point in points)
    if not counts:
        raise HookDefinitionError("at_points needs at least one point.")
    return Trigger(AtPoints(tuple(sorted(counts)), _unit(unit)))


def since(n: int, unit: Unit) -> Trigger:
    """Holds from the `n`th finished `unit` on, that one included."""
    return Trigger(Since(_count("since", n, 0), _unit(unit)))


def until(n: int, unit: Unit) -> Trigger:
    """Holds up to the `n`th finished `unit`, that one included."""
    return Trigger(Until(_count("until", n, 0), _unit(unit)))


def every_seconds(seconds: float) -> Trigger:
    """Due at the first event that is `seconds` or more after the last time, or after the run's start.

    The one trigger that keeps a state and is not the same after a resume; over ranks, rank 0 decides. Joined by `&` to
    others, it is asked only where they hold: then what counts is the last time that all did.
    """
    return Trigger(EverySeconds(_seconds(seconds)))


def both(one: Trigger | None, other: Trigger | None) -> Trigger | None:
    """What must hold where both do; None holds everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def alternatives(trigger: Trigger) -> tuple[Trigger, ...]:
    """The triggers of which one must fire for `trigger` to fire: those joined by `|`."""
    match trigger.rule:
        case Either(parts):
            return tuple(map(Trigger, parts))
        case _:
            return (trigger,)


def is_due_at_epochs_alone(rule: Rule) -> bool:
    """Whether what a trigger is made of can only be due where an epoch is complete."""
    match rule:
        case Every(unit=unit) | AtPoints(unit=unit):
            return unit == "epochs"
        case Both(parts):
            return any(map(is_due_at_epochs_alone, parts))
        case Either(parts):
            return all(map(is_due_at_epochs_alone, parts))
        case _:
            return False


def _rule_of(sign: str, other: object) -> Rule:
    if not isinstance(other, Trigger):
        raise HookDefinitionError(
            f"{sign} joins a trigger to a trigger, such as every(100, 'updates'), got {shown(other)}."
        )
    return other.rule


def _count(word: str, n: object, least: int) -> int:
    count = whole_number(n, least)
    if count is None:
        raise HookDefinitionError(f"{word} takes whole numbers from {least} on, got {shown(n)}.")
    return count


def _seconds(seconds: object) -> float:
    number = plain_number(seconds)
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0.0 < number < float("inf"):
        raise HookDefinitionError(f"every_seconds takes a positive number of seconds, got {shown(seconds)}.")
    return float(number)


def _unit(unit: Unit) -> Unit:
    if unit not in get_args(Unit):
        raise HookDefinitionError(f"A trigger counts in {', '.join(map(repr, get_args(Unit)))}, got {shown(unit)}.")
    return unit
