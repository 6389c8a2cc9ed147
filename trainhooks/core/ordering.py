"""The order of hook sets: ascending `order`, then as given, moved by constraints only as far as they must.

Within one event: of the sets not yet placed, again and again the first whose predecessors are all placed. A set that
does not hear the event takes no place in it, but what must lie between two others still keeps them apart.

In `on_train_end` the set that leaves other weights in the model comes before the others of its `order`, so that these
see the final weights.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from typing import final

from attrs import frozen

from trainhooks.errors import DuplicateHookNameError, HookDefinitionError, OrderCycleError, RunDefinitionError

from .hookset import HookSet


@final
@frozen
class Edge:
    """One set must come before another."""

    first: int
    """Position of the earlier set."""
    then: int
    """Position of the later set."""
    why: str
    """Which set asked for it, and how."""


def check(sets: Sequence[HookSet]) -> None:
    """Refuse sets that cannot be composed, whatever their order.

    Raises:
        DuplicateHookNameError: if two stateful sets have one name.
        RunDefinitionError: if two sets provide one value, or leave other weights in the model at the end.
        HookDefinitionError: if a set that runs collectives is restricted to some ranks.
    """
    _refuse_two_endings([one.name for one in sets if "final" in one.writes])
    states: dict[str, int] = {}
    providers: dict[str, str] = {}
    for position, one in enumerate(sets):
        if one.init is not None:
            if one.name in states:
                _refuse_twins(one.name, (states[one.name], position))
            states[one.name] = position
        for value in sorted(one.provides):
            if value in providers:
                raise RunDefinitionError(
                    f"{providers[value]!r} and {one.name!r} both provide the value {value!r}; a name has one source. "
                    "Rename one of the values."
                )
            providers[value] = one.name
        if one.collective and (one.ranks is not None or one.devices is not None):
            raise HookDefinitionError(
                f"{one.name!r} runs collectives (collective=True), which need every rank, but it is restricted to "
                "some. Take away for_rank, for_device or ranks=."
            )


def _refuse_two_endings(names: Sequence[str]) -> None:
    if len(names) > 1:
        raise RunDefinitionError(
            f"{' and '.join(map(repr, names))} each leave other weights in the model when the run ends (they declare "
            "writes={'final'}), and the last would undo the others. Keep one; where they are restore_best=True "
            "and apply_at_end=True, drop the latter, since the best weights are the average's already."
        )


def _refuse_twins(name: str, positions: tuple[int, int]) -> None:
    raise DuplicateHookNameError(
        f"compose() got two stateful hook sets named {name!r}, at positions {positions[0]} and {positions[1]}. States "
        f"are saved by name; rename one: named('{name}_2', hook).",
        name,
        positions,
    )


def edges(sets: Sequence[HookSet]) -> list[Edge]:
    """Every constraint between two of the sets, from `before`, `after`, and `reads` of what another provides."""
    places: dict[str, list[int]] = defaultdict(list)
    provider: dict[str, int] = {}
    for position, one in enumerate(sets):
        places[one.name].append(position)
        provider.update(dict.fromkeys(one.provides, position))
    found = [edge for position, one in enumerate(sets) for edge in _asked_by(position, one, places, provider)]
    return [edge for edge in found if edge.first != edge.then]


def _asked_by(
    position: int, one: HookSet, places: dict[str, list[int]], provider: dict[str, int]
) -> Iterator[Edge]:
    for name in sorted(one.before):
        for other in places.get(name, ()):
            yield Edge(position, other, f"{one.name!r} asks for before={{{name!r}}}")
    for name in sorted(one.after):
        for other in places.get(name, ()):
            yield Edge(other, position, f"{one.name!r} asks for after={{{name!r}}}")
    for value in sorted(provider if "*" in one.reads else one.reads):
        if value in provider:
            yield Edge(provider[value], position, f"{one.name!r} reads {value!r}")


@final
@frozen
class Arrangement:
    """The constraints between some sets, known to be free of contradictions."""

    sets: tuple[HookSet, ...]
    """The sets, as given."""
    edges: tuple[Edge, ...]
    """What was asked for."""

    def order(self, event: str) -> tuple[int, ...]:
        """Positions of the sets that hear `event`, in the order in which they are called."""
        hears = [bool(one.hooks(event)) for one in self.sets]
        first = self.first_at_the_end() if event == "on_train_end" else frozenset[int]()
        if not self.edges:
            heard = (position for position, heard in enumerate(hears) if heard)
            return tuple(sorted(heard, key=lambda position: (self.sets[position].order, position not in first)))
        return tuple(position for position in self.place(hears, first) if hears[position])

    def first_at_the_end(self) -> frozenset[int]:
        """Positions of the set that leaves the final weights, and of those that must precede it."""
        waiting = [position for position, one in enumerate(self.sets) if "final" in one.writes]
        found: set[int] = set()
        while waiting:
            position = waiting.pop()
            if position not in found:
                found.add(position)
                waiting += [edge.first for edge in self.edges if edge.then == position]
        return frozenset(found)

    def place(self, hears: Sequence[bool], first: Set[int] = frozenset()) -> list[int]:
        """All positions in order, those that do not hear placed as early as they can be.

        Args:
            hears: Of each set whether it hears the event.
            first: Those that come before the others of their `order`.
        """
        waits_for = [0] * len(self.sets)
        followers: list[list[int]] = [[] for _ in self.sets]
        for edge in self.edges:
            waits_for[edge.then] += 1
            followers[edge.first].append(edge.then)
        key = [(hears[i], one.order, i not in first, i) for i, one in enumerate(self.sets)]
        ready = [key[i] for i in range(len(self.sets)) if not waits_for[i]]
        heapq.heapify(ready)
        placed: list[int] = []
        while ready:
            position = heapq.heappop(ready)[-1]
            placed.append(position)
            for follower in followers[position]:
                waits_for[follower] -= 1
                if not waits_for[follower]:
                    heapq.heappush(ready, key[follower])
        return placed


def arrange(sets: Sequence[HookSet]) -> Arrangement:
    """The order of `sets`, if there is one.

    Raises:
        OrderCycleError: if `order`, `before`, `after`, `reads` and `provides` contradict one another.
    """
    check(sets)
    arrangement = Arrangement(tuple(sets), tuple(edges(sets)))
    for edge in arrangement.edges:
        first, then = sets[edge.first], sets[edge.then]
        if first.order > then.order:
            raise OrderCycleError(
                f"{then.name!r} with order={then.order} comes before {first.name!r} with order={first.order}, but "
                f"{first.name!r} must come before {then.name!r}, because {edge.why}. Change one of the orders.",
                (then.name, first.name, then.name),
            )
    if len(arrangement.place([True] * len(sets))) < len(sets):
        cycle = _cycle(arrangement)
        steps = "; ".join(f"{sets[e.first].name!r} before {sets[e.then].name!r}, because {e.why}" for e in cycle)
        path = (*(sets[edge.first].name for edge in cycle), sets[cycle[0].first].name)
        raise OrderCycleError(f"The order of {' -> '.join(map(repr, path))} goes in a circle: {steps}.", path)
    return arrangement


def _cycle(arrangement: Arrangement) -> list[Edge]:
    """Some circle of constraints; there is one."""
    stuck = set(range(len(arrangement.sets))) - set(arrangement.place([True] * len(arrangement.sets)))
    into = {edge.then: edge for edge in reversed(arrangement.edges) if edge.first in stuck and edge.then in stuck}
    walk: list[Edge] = []
    seen: dict[int, int] = {}
    here = min(stuck)  # every stuck set has a stuck predecessor, so walking backwards must come round
    while here not in seen:
        seen[here] = len(walk)
        walk.append(into[here])
        here = into[here].first
    return walk[seen[here] :][::-1]
