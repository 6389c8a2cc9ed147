"""Arbitrary hook sets as plain data, and their order worked out slowly, by the rule alone."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast, final

from attrs import evolve, frozen
from hypothesis import strategies as st

from tests.core.callables import hook_set
from trainhooks import EVENTS, HookSet, stateful

Pairs: TypeAlias = set[tuple[int, int]]


def hear(ctx: object) -> None: ...


def hear_with_state(ctx: object, state: int) -> tuple[int, None]:
    return state, None


def replace(ctx: object, value: object) -> object:
    return value


def replace_with_state(ctx: object, value: object, state: int) -> tuple[int, object]:
    return state, value


@final
@frozen
class Plan:
    """A hook set, as plain data."""

    name: str
    events: frozenset[str]
    order: int = 0
    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()
    keeps_state: bool = False

    def made(self) -> HookSet:
        keys: dict[str, Any] = {
            "order": self.order, "before": self.before, "after": self.after, "reads": self.reads,
            "provides": self.provides,
        }  # fmt: skip
        replaces = {event: EVENTS[event].kind == "transform" for event in self.events}
        if self.keeps_state:
            slots = {event: replace_with_state if replaces[event] else hear_with_state for event in self.events}
            return stateful(self.name, int, **keys, **cast("Any", slots))
        hooks: Mapping[str, object] = {event: replace if replaces[event] else hear for event in self.events}
        return hook_set(name=self.name, **keys, **hooks)


SOME_EVENTS = ("around_epoch", "transform_loss", "on_batch_end")
NAMES = ("a", "b", "c", "d", "e")
VALUES = ("x", "y", "z")


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = st.frozensets(st.sampled_from(NAMES), max_size=2)
    values = st.frozensets(st.sampled_from([*VALUES, "*"]), max_size=2)
    nothing = st.just(frozenset[str]())
    return Plan(
        name=draw(st.sampled_from(NAMES)),
        events=draw(st.frozensets(st.sampled_from(SOME_EVENTS), min_size=1)),
        order=draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1])),
        before=draw(st.one_of(nothing, nothing, names)),
        after=draw(st.one_of(nothing, nothing, names)),
        reads=draw(st.one_of(nothing, nothing, values)),
        provides=draw(st.one_of(nothing, st.frozensets(st.sampled_from(VALUES), max_size=1))),
        keeps_state=draw(st.sampled_from([False, False, True])),
    )


@st.composite
def tables(draw: st.DrawFn, max_size: int = 7) -> list[Plan]:
    """Sets that can only be refused for their order: states have names, and values sources, of their own."""
    made: list[Plan] = []
    for plan in draw(st.lists(plans(), max_size=max_size)):
        names = {one.name for one in made if one.keeps_state}
        values = {value for one in made for value in one.provides}
        state = plan.keeps_state and plan.name not in names
        made.append(evolve(plan, keeps_state=state, provides=plan.provides - values))
    return made


@st.composite
def circles(draw: st.DrawFn) -> list[Plan]:
    """Sets of one order, some of which ask to stand after one another in a circle."""
    made = [evolve(plan, order=0) for plan in draw(tables().filter(lambda some: len(some) > 1))]
    ring = draw(st.lists(st.sampled_from(range(len(made))), min_size=2, unique=True))
    for place, following in zip(ring, [*ring[1:], ring[0]], strict=True):
        made[place] = evolve(made[place], after=made[place].after | {made[following].name})
    return made


def wanted(plans: Sequence[Plan]) -> Pairs:
    """Each (earlier, later) that somebody asks for."""
    pairs: Pairs = set()
    for i, one in enumerate(plans):
        for j, other in enumerate(plans):
            gives_what_is_read = other.provides & one.reads or (other.provides and "*" in one.reads)
            if i != j and (other.name in one.after or gives_what_is_read):
                pairs.add((j, i))
            if i != j and other.name in one.before:
                pairs.add((i, j))
    return pairs


def reachable(pairs: Pairs) -> Pairs:
    """Each (earlier, later) that follows from `pairs`."""
    closed = set(pairs)
    while more := {(a, d) for a, b in closed for c, d in pairs if b == c} - closed:
        closed |= more
    return closed


def contradiction(plans: Sequence[Plan]) -> bool:
    """Whether no order can be right: a circle, or something that must precede what has a lower order."""
    return any(a == b or plans[a].order > plans[b].order for a, b in reachable(wanted(plans)))


def refused_for_another_reason(plans: Sequence[Plan]) -> bool:
    """Whether two stateful sets have one name, or two sets provide one value."""
    states = [one.name for one in plans if one.keeps_state]
    values = [value for one in plans for value in one.provides]
    return len(set(states)) < len(states) or len(set(values)) < len(values)


def order_by_the_rule(plans: Sequence[Plan], event: str) -> list[int]:
    """Again and again the earliest, by order and then as given, of those whose predecessors are all placed."""
    hears = [place for place, one in enumerate(plans) if event in one.events]
    before = {(a, b) for a, b in reachable(wanted(plans)) if a in hears and b in hears}
    placed: list[int] = []
    while len(placed) < len(hears):
        left = [place for place in hears if place not in placed]
        ready = [place for place in left if not any((other, place) in before for other in left)]
        placed.append(min(ready, key=lambda place: (plans[place].order, place)))
    return placed
