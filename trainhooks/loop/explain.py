"""`explain`: which hooks are called on each event, in which order and why, and the loop that will call them."""

from collections.abc import Iterator
from typing import Any

from typing_extensions import TypeVar

from trainhooks.core import EVENTS, Hooks, HookSet, triggers_of

from .table import DispatchTable, compose

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)


def explain(*hooks: Hooks[B, O]) -> str:
    """Every event that somebody hears, its hooks in order, why each stands where it does, and the loop that will run.

    Calls no hook, opens nothing.

    Raises:
        TrainhooksError: as `compose`.
    """
    table = compose(*hooks)
    lines = [line for event in EVENTS if event in table.events for line in _of_event(table, event)]
    return "\n".join([*lines, *_absent(table), "# The loop:", "", table.source])


def _of_event(table: DispatchTable, event: str) -> Iterator[str]:
    places = table.arrangement.order(event)
    width = max(len(table[place].name) for place in places)
    yield event
    for number, place in enumerate(places, start=1):
        yield f"  {number}. {table[place].name:<{width}}  {'; '.join(_reasons(table, event, place))}".rstrip()
    yield ""


def _reasons(table: DispatchTable, event: str, place: int) -> Iterator[str]:
    one = table[place]
    yield f"order={one.order}" if one.order else "as given"
    for edge in table.arrangement.edges:
        other = edge.first if edge.then == place else edge.then if edge.first == place else None
        if other is not None and table[other].hooks(event):
            side = "after" if edge.then == place else "before"
            yield f"{side} {table[other].name!r}, because {edge.why}"
    if event == "on_train_end":
        yield from _final(table, place)
    yield from _conditions(one, event)


def _final(table: DispatchTable, place: int) -> Iterator[str]:
    for other, one in enumerate(table):
        if "final" in one.writes and one.hooks("on_train_end") and one.order == table[place].order:
            if other == place:
                yield "before the others of its order, because it declares writes={'final'}"
            elif place not in table.arrangement.first_at_the_end():
                yield f"after {one.name!r}, which leaves the final weights in the model"


def _conditions(one: HookSet, event: str) -> Iterator[str]:
    yield from (f"when {trigger}" for heard, trigger in triggers_of(one) if heard == event)
    if one.ranks is not None:
        yield f"on ranks {sorted(one.ranks)}"
    if one.devices is not None:
        yield f"on ranks within their node {sorted(one.devices)}"
    if one.quarantined:
        yield "quarantined"
    if one.timed:
        yield "timed"


def _absent(table: DispatchTable) -> Iterator[str]:
    there = {one.name for one in table}
    for one in table:
        for key, names in (("before", one.before), ("after", one.after)):
            for name in sorted(names - there):
                yield f"{one.name!r} has {key}={{{name!r}}}, which is not here: ignored."
                yield ""
