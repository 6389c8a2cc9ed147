"""The rules that triggers are made of: small frozen records, bound to a clock when a run starts."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, final

from attrs import field, frozen

from .progress import Unit

Span: TypeAlias = Callable[[Any, Unit], tuple[int, int]]
"""`span(ctx, unit)`: the count before (exclusive) and after (inclusive) what an event covers."""
Condition: TypeAlias = Callable[[Any], bool]
"""Whether something is due in the stretch that a context covers."""
Horizon: TypeAlias = Mapping[Unit, int | None]
"""The totals of a run by unit; None where they are not known."""


class Rule(Protocol):
    """What a trigger is made of; every rule is a frozen record."""

    @property
    def points(self) -> frozenset[Unit]:
        """Units in which it has points, and which must advance for it to fire."""
        ...

    def bind(self, span: Span, clock: Callable[[], float], /) -> Condition:
        """The condition, for one run and one event."""
        ...

    def never(self, horizon: Horizon, /) -> bool:
        """Whether it cannot fire in a run whose totals are `horizon` (None: not known)."""
        ...


@final
@frozen
class Every:
    """Due at each multiple of `n`."""

    n: int
    unit: Unit

    @property
    def points(self) -> frozenset[Unit]:
        return frozenset({self.unit})

    def bind(self, span: Span, clock: Callable[[], float], /) -> Condition:
        n, unit = self.n, self.unit

        def due(ctx: Any) -> bool:
            before, after = span(ctx, unit)
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
    def points(self) -> frozenset[Unit]:
        return frozenset({self.unit})

    def bind(self, span: Span, clock: Callable[[], float], /) -> Condition:
        def due(ctx: Any) -> bool:
            before, after = span(ctx, self.unit)
            return any(before < point <= after for point in self.counts)

        return due

    def never(self, horizon: Horizon, /) -> bool:
        return _beyond(self.counts[0], horizon[self.unit])

    def __str__(self) -> str:
        return f"at_points({list(self.counts)}, {self.unit!r})"


@final
@frozen
class Since:
    """Holds from a count on."""

    n: int
    unit: Unit

    @property
    def points(self) -> frozenset[Unit]:
        return frozenset()

    def bind(self, span: Span, clock: Callable[[], float], /) -> Condition:
        return lambda ctx: span(ctx, self.unit)[1] >= self.n

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
    def points(self) -> frozenset[Unit]:
        return frozenset()

    def bind(self, span: Span, clock: Callable[[], float], /) -> Condition:
        return lambda ctx: span(ctx, self.unit)[1] <= self.n

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
    def points(self) -> frozenset[Unit]:
        return frozenset()

    def bind(self, span: Span, clock: Callable[[], float], /) -> Condition:
        last = clock()

        def due(ctx: Any) -> bool:
            nonlocal last
            now = clock()
            if now - last < self.seconds:
                return False
            last = now
            return True

        return due

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
    def points(self) -> frozenset[Unit]:
        return frozenset(unit for part in self.parts for unit in part.points)

    def bind(self, span: Span, clock: Callable[[], float], /) -> Condition:
        in_order = sorted(self.parts, key=_keeps_time)  # what keeps time is asked last: it counts only what fires
        conditions = [part.bind(span, clock) for part in in_order]
        return lambda ctx: all(holds(ctx) for holds in conditions)

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
    def points(self) -> frozenset[Unit]:
        return frozenset(unit for part in self.parts for unit in part.points)

    def bind(self, span: Span, clock: Callable[[], float], /) -> Condition:
        conditions = [part.bind(span, clock) for part in self.parts]

        def due(ctx: Any) -> bool:
            answers = [holds(ctx) for holds in conditions]  # all are asked: none misses that it was due
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
    def points(self) -> frozenset[Unit]:
        return self.rule.points

    def bind(self, span: Span, clock: Callable[[], float], /) -> Condition:
        rule = self.rule.bind(span, clock)
        return lambda ctx: not rule(ctx)

    def never(self, horizon: Horizon, /) -> bool:
        return False

    def __str__(self) -> str:
        return f"~{_inner(self.rule)}"


def _keeps_time(rule: Rule) -> bool:
    match rule:
        case Both(parts) | Either(parts):
            return any(map(_keeps_time, parts))
        case Not():
            return _keeps_time(rule.rule)
        case _:
            return isinstance(rule, EverySeconds)


def _inner(rule: Rule) -> str:
    return f"({rule})" if isinstance(rule, Both | Either) else str(rule)


def _beyond(point: int, total: int | None) -> bool:
    return total is not None and point > total
