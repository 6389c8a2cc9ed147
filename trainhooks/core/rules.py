"""The rules that triggers are made of: small frozen records, bound to a clock when a run starts."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, final

from attrs import define, field, frozen

from .progress import Unit

Span: TypeAlias = Callable[[Any, Unit], tuple[int, int]]
"""`span(ctx, unit)`: the count before (exclusive) and after (inclusive) what an event covers."""
Occasion: TypeAlias = tuple[str, object]
"""A kind of occasion and which of its kind: a batch, an evaluation, an epoch."""
Horizon: TypeAlias = Mapping[Unit, int | None]
"""The totals of a run by unit; None where they are not known."""


@final
@frozen(eq=False)
class Interval:
    """What an event covers, as a trigger judges it."""

    span: Span
    """The interval of progress."""
    occasion: Callable[[Any], Occasion]
    """What the event belongs to: the events of one occasion are heard together, or not at all."""


Condition: TypeAlias = Callable[[Interval, Any], bool]
"""Whether something is due in what a context covers."""


Due: TypeAlias = Callable[[Any], bool]
"""Whether something is due at a boundary, given whatever has `since` and `at`."""


def since_then(ctx: Any, unit: Unit) -> tuple[int, int]:
    """The interval of whatever has `since` and `at`."""
    return getattr(ctx.since, unit), getattr(ctx.at, unit)


def at_boundaries(rule: "Rule", clock: Callable[[], float]) -> Due:
    """A rule that is asked at boundaries, for one run."""
    holds, boundary = rule.bind(clock), Interval(since_then, lambda ctx: ("boundary", ctx.at))
    return lambda place: holds(boundary, place)


class Rule(Protocol):
    """What a trigger is made of; every rule is a frozen record."""

    @property
    def units(self) -> frozenset[Unit]:
        """The units that it counts in."""
        ...

    @property
    def points(self) -> frozenset[Unit]:
        """Units in which it has points, and which must advance for it to fire."""
        ...

    def bind(self, clock: Callable[[], float], /) -> Condition:
        """The condition, for one run."""
        ...

    def never(self, horizon: Horizon, /) -> bool:
        """Whether it cannot fire in a run whose totals are `horizon` (None: not known)."""
        ...

    @property
    def at_begin(self) -> bool:
        """Whether it is due at 0, before anything is finished: where `at_points` has the point 0."""
        ...


@final
@frozen
class Every:
    """Due at each multiple of `n`."""

    n: int
    unit: Unit

    @property
    def units(self) -> frozenset[Unit]:
        return frozenset({self.unit})

    @property
    def at_begin(self) -> bool:
        return False

    @property
    def points(self) -> frozenset[Unit]:
        return frozenset({self.unit})

    def bind(self, clock: Callable[[], float], /) -> Condition:
        n, unit = self.n, self.unit

        def due(interval: Interval, ctx: Any) -> bool:
            before, after = interval.span(ctx, unit)
            return before // n != after // n

        return due

    def never(self, horizon: Horizon, /) -> bool:
        return _beyond(self.n, horizon[self.unit])

    def __str__(self) -> str:
        return f"every({self.n}, {self.unit!r})"


@final
@frozen
class AtPoints:
    """Due at these counts, ascending."""

    counts: tuple[int, ...]
    unit: Unit

    @property
    def units(self) -> frozenset[Unit]:
        return frozenset({self.unit})

    @property
    def at_begin(self) -> bool:
        return 0 in self.counts

    @property
    def points(self) -> frozenset[Unit]:
        return frozenset({self.unit})

    def bind(self, clock: Callable[[], float], /) -> Condition:
        def due(interval: Interval, ctx: Any) -> bool:
            before, after = interval.span(ctx, self.unit)
            return any(before < point <= after for point in self.counts)

        return due

    def never(self, horizon: Horizon, /) -> bool:
        return all(not count or _beyond(count, horizon[self.unit]) for count in self.counts)

    def __str__(self) -> str:
        return f"at_points({list(self.counts)}, {self.unit!r})"


@final
@frozen
class Since:
    """Holds from a count on."""

    n: int
    unit: Unit

    @property
    def units(self) -> frozenset[Unit]:
        return frozenset({self.unit})

    @property
    def at_begin(self) -> bool:
        return False

    @property
    def points(self) -> frozenset[Unit]:
        return frozenset()

    def bind(self, clock: Callable[[], float], /) -> Condition:
        return lambda interval, ctx: interval.span(ctx, self.unit)[1] >= self.n

    def never(self, horizon: Horizon, /) -> bool:
        return _beyond(self.n, horizon[self.unit])

    def __str__(self) -> str:
        return f"since({self.n}, {self.unit!r})"


@final
@frozen
class Until:
    """Holds up to a count."""

    n: int
    unit: Unit

    @property
    def units(self) -> frozenset[Unit]:
        return frozenset({self.unit})

    @property
    def at_begin(self) -> bool:
        return False

    @property
    def points(self) -> frozenset[Unit]:
        return frozenset()

    def bind(self, clock: Callable[[], float], /) -> Condition:
        return lambda interval, ctx: interval.span(ctx, self.unit)[1] <= self.n

    def never(self, horizon: Horizon, /) -> bool:
        return False

    def __str__(self) -> str:
        return f"until({self.n}, {self.unit!r})"


@final
@frozen
class EverySeconds:
    """Due when so many seconds have gone by."""

    seconds: float

    @property
    def units(self) -> frozenset[Unit]:
        return frozenset()

    @property
    def at_begin(self) -> bool:
        return False

    @property
    def points(self) -> frozenset[Unit]:
        return frozenset()

    def bind(self, clock: Callable[[], float], /) -> Condition:
        return _Stopwatch(self.seconds, clock, clock()).is_due

    def never(self, horizon: Horizon, /) -> bool:
        return False

    def __str__(self) -> str:
        return f"every_seconds({self.seconds:g})"


@final
@frozen
class Both:
    """Holds where all of its parts do."""

    parts: tuple[Rule, ...] = field(eq=frozenset)
    """Two or more, none of them `Both`; their order is for the eye alone."""

    @property
    def units(self) -> frozenset[Unit]:
        return frozenset(unit for part in self.parts for unit in part.units)

    @property
    def at_begin(self) -> bool:
        return any(part.at_begin for part in self.parts) and all(_holds_at_begin(part) for part in self.parts)

    @property
    def points(self) -> frozenset[Unit]:
        return frozenset(unit for part in self.parts for unit in part.points)

    def bind(self, clock: Callable[[], float], /) -> Condition:
        in_order = sorted(self.parts, key=keeps_time)  # what keeps time is asked last: it counts only what fires
        conditions = [part.bind(clock) for part in in_order]
        return lambda interval, ctx: all(holds(interval, ctx) for holds in conditions)

    def never(self, horizon: Horizon, /) -> bool:
        return any(part.never(horizon) for part in self.parts)

    def __str__(self) -> str:
        return " & ".join(map(_inner, self.parts))


@final
@frozen
class Either:
    """Holds where one of its parts does."""

    parts: tuple[Rule, ...] = field(eq=frozenset)
    """Two or more, none of them `Either`; their order is for the eye alone."""

    @property
    def units(self) -> frozenset[Unit]:
        return frozenset(unit for part in self.parts for unit in part.units)

    @property
    def at_begin(self) -> bool:
        return any(part.at_begin for part in self.parts)

    @property
    def points(self) -> frozenset[Unit]:
        return frozenset(unit for part in self.parts for unit in part.points)

    def bind(self, clock: Callable[[], float], /) -> Condition:
        conditions = [part.bind(clock) for part in self.parts]

        def due(interval: Interval, ctx: Any) -> bool:
            answers = [holds(interval, ctx) for holds in conditions]  # all are asked: none misses that it was due
            return any(answers)

        return due

    def never(self, horizon: Horizon, /) -> bool:
        return all(part.never(horizon) for part in self.parts)

    def __str__(self) -> str:
        return " | ".join(map(_inner, self.parts))


def flattened(kind: type[Both] | type[Either], *rules: Rule) -> Rule:
    """Rules joined into one, each of them once: joining is associative, commutative and idempotent."""
    parts = [part for rule in rules for part in (rule.parts if isinstance(rule, kind) else (rule,))]
    once = tuple(dict.fromkeys(parts))
    return kind(once) if once[1:] else next(iter(once))


@final
@frozen
class Not:
    """Holds where the other does not."""

    rule: Rule

    @property
    def units(self) -> frozenset[Unit]:
        return self.rule.units

    @property
    def at_begin(self) -> bool:
        return False

    @property
    def points(self) -> frozenset[Unit]:
        return self.rule.points

    def bind(self, clock: Callable[[], float], /) -> Condition:
        holds = self.rule.bind(clock)
        return lambda interval, ctx: not holds(interval, ctx)

    def never(self, horizon: Horizon, /) -> bool:
        return False

    def __str__(self) -> str:
        return f"~{_inner(self.rule)}"


def keeps_time(rule: Rule) -> bool:
    """Whether the clock has a part in it."""
    match rule:
        case Both(parts) | Either(parts):
            return any(map(keeps_time, parts))
        case Not():
            return keeps_time(rule.rule)
        case _:
            return isinstance(rule, EverySeconds)


def _holds_at_begin(rule: Rule) -> bool:
    """Whether it does not stand in the way of what another is due for at 0."""
    match rule:
        case Since(n):
            return n == 0
        case Until():
            return True
        case Both(parts):
            return all(map(_holds_at_begin, parts))
        case Either(parts):
            return any(map(_holds_at_begin, parts))
        case Not(inner):
            return not _holds_at_begin(inner)
        case _:
            return rule.at_begin


@final
@define(eq=False)
class _Stopwatch:
    """Decides once for each occasion, at the first event of it."""

    seconds: float
    clock: Callable[[], float]
    last: float
    """When it was due last."""
    decided: dict[str, tuple[object, bool]] = field(factory=dict[str, tuple[object, bool]])
    """By the kind of occasion, the newest and whether it was due there."""

    def is_due(self, interval: Interval, ctx: Any) -> bool:
        kind, which = interval.occasion(ctx)
        if (newest := self.decided.get(kind)) is not None and newest[0] == which:
            return newest[1]
        now = self.clock()
        due = now - self.last >= self.seconds
        if due:
            self.last = now
        self.decided[kind] = which, due
        return due


def _inner(rule: Rule) -> str:
    return f"({rule})" if isinstance(rule, Both | Either) else str(rule)


def _beyond(point: int, total: int | None) -> bool:
    return total is not None and point > total
