"""`compose` is an algebra over hook sets: associative, with an identity, and it looks at hooks without calling them."""

import linecache
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from tests.core.callables import hook_set
from tests.core.sets import Plan, contradiction, hear, plans, tables
from tests.core.streams import global_streams
from trainhooks import (
    EVENTS,
    DispatchTable,
    HookDefinitionError,
    HookSet,
    TrainhooksError,
    compose,
    every,
    every_seconds,
    explain,
    for_rank,
    loop,
    named,
    ordered,
    quarantine,
    stateful,
    when,
)
from trainhooks.loop import specialiser


def orders(table: DispatchTable) -> list[tuple[str, ...]]:
    return [table.order(event) for event in EVENTS]


def same(one: DispatchTable, other: DispatchTable) -> bool:
    return one == other and hash(one) == hash(other) and orders(one) == orders(other) and one.events == other.events


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[Plan], list[list[int]]]:
    """Sets that can be composed, and a cut of their places into three runs."""
    made = draw(tables().filter(lambda some: not contradiction(some)))
    first, second = sorted((draw(st.integers(0, len(made))), draw(st.integers(0, len(made)))))
    places = list(range(len(made)))
    return made, [places[:first], places[first:second], places[second:]]


@given(grouped())
def test_compose_is_associative_and_composing_again_changes_nothing(drawn: tuple[list[Plan], list[list[int]]]) -> None:
    """Keeps P67."""
    made, cuts = drawn
    sets = [plan.made() for plan in made]
    a, b, c = ([sets[place] for place in cut] for cut in cuts)
    table = compose(*sets)
    assert list(table) == sets
    assert same(table, compose(compose(a, b), c))
    assert same(table, compose(a, compose(b, c)))
    assert same(table, compose(compose(a), compose(b), compose(c)))
    assert same(table, compose(compose(), table))
    assert same(table, compose(table, compose()))
    assert same(table, compose(table))
    assert same(table, compose(compose(compose(table))))
    assert same(table, compose([a, (b, [c])]))
    assert same(table, compose([plan.made() for plan in made]))


@given(st.lists(plans(), max_size=6), st.integers(0, 6))
def test_what_refuses_a_part_refuses_the_whole(made: list[Plan], cut: int) -> None:
    """Keeps P67."""
    sets = [plan.made() for plan in made]
    whole = refused(sets)
    assert not (refused(sets[:cut]) or refused(sets[cut:])) or whole
    if not whole:
        assert same(compose(compose(sets[:cut]), compose(sets[cut:])), compose(sets))


def refused(sets: Sequence[HookSet]) -> bool:
    try:
        compose(sets)
    except TrainhooksError:
        return True
    return False


@given(tables(max_size=4), tables(max_size=4))
def test_tables_are_equal_exactly_if_their_sets_are(one: list[Plan], other: list[Plan]) -> None:
    """Keeps P67."""
    if contradiction(one) or contradiction(other):
        return
    a, b = compose([plan.made() for plan in one]), compose([plan.made() for plan in other])
    assert (a == b) == ([*a] == [*b])
    assert (a == b) == (one == other)
    assert a == compose([plan.made() for plan in one])
    assert len({a, b, compose([plan.made() for plan in one])}) == (1 if a == b else 2)


A, B, C = (hook_set(name=name, on_batch_end=hear) for name in "ABC")


def test_a_table_is_a_sequence_of_its_sets_in_the_order_given() -> None:
    table = compose(ordered(5, A), B, C)
    assert isinstance(table, Sequence)
    assert (len(table), len(compose())) == (3, 0)
    assert [one.name for one in table] == ["A", "B", "C"]
    assert (table[1], table[-1]) == (B, C)
    assert table[1:] == (B, C)
    assert table[::-1] == (C, B, ordered(5, A))
    assert (B in table, A in table) == (True, False)
    assert (table.index(C), table.count(B), next(reversed(table))) == (2, 1, C)
    assert table.order("on_batch_end") == ("B", "C", "A")
    assert compose(B, C, B).order("on_batch_end") == ("B", "C", "B")
    assert compose(table[1:]) == compose(B, C)
    with pytest.raises(IndexError):
        _ = table[3]


def test_tables_cannot_be_changed() -> None:
    """Keeps P67."""
    table = compose(A, B)
    untyped: Any = table
    for name in ("sets", "arrangement"):
        with pytest.raises(FrozenInstanceError):
            setattr(table, name, ())
    with pytest.raises(TypeError, match="does not support item assignment"):
        untyped[0] = B
    assert table == compose(A, B)
    assert table.__eq__((A, B)) is NotImplemented
    assert table != compose(B, A)


def test_composing_leaves_what_it_was_given_as_it_was() -> None:
    """Keeps P67."""
    given_: list[Any] = [A, [B, {"name": "D", "on_epoch_end": hear}]]
    before = repr(given_)
    assert compose(given_) == compose(given_)
    assert repr(given_) == before


def test_an_event_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(HookDefinitionError) as caught:
        compose(A).order("on_batch_ends")
    assert str(caught.value) == (
        f"'on_batch_ends' is no event; did you mean 'on_batch_end'? The events: {', '.join(EVENTS)}."
    )


def test_a_table_knows_the_events_that_somebody_hears() -> None:
    table = compose(A, hook_set(on_epoch_end=hear), stateful("s", int, on_record=lambda ctx, state: (state, None)))
    assert table.events == {"on_batch_end", "on_epoch_end", "on_record"}
    assert compose().events == frozenset()
    assert compose().order("on_batch_end") == ()
    assert table.source == compose(hook_set(name="x", on_batch_end=hear, on_epoch_end=hear, on_record=hear)).source
    assert table.source != compose(A).source


def never(*given: object) -> Any:
    raise AssertionError("a hook, an init or a clock was called")


class Never:
    """An object that hears every event, and has state."""

    def __init__(self) -> None:
        for event in EVENTS:
            setattr(self, event, never)

    def state_dict(self) -> object:
        return never()


TOUCHED: list[str] = []
LOOKING: list[bool] = []


def look(event: str, given_: tuple[object, ...]) -> None:
    if LOOKING and event.partition(".")[0] in ("open", "os", "socket", "shutil", "subprocess", "tempfile", "sqlite3"):
        TOUCHED.append(f"{event} {given_[0] if given_ else ''}")


@pytest.fixture(scope="module")
def audit() -> None:
    """Python keeps an audit hook for ever, so this one is told when to look."""
    sys.addaudithook(look)


@contextmanager
def looking() -> Generator[list[str]]:
    """Note every file, socket and process that is touched."""
    TOUCHED.clear()
    LOOKING.append(True)
    try:
        yield TOUCHED
    finally:
        LOOKING.clear()


def everything_there_is() -> list[Any]:
    slots: dict[str, Any] = dict.fromkeys(EVENTS, never)
    sets = hook_set(name="sets", **slots)
    kept: Any = stateful
    return [
        sets, {"name": "dict", **slots, "order": 1}, Never(), kept("state", never, **slots),
        when(every_seconds(1) | every(2, "updates"), hook_set(name="due", on_batch_end=never)),
        for_rank(0, named("ranked", sets)), quarantine(named("sink", sets)),
        hook_set(name="late", on_batch_end=never, after={"sets"}, reads={"*"}, provides={"x"}),
    ]  # fmt: skip


def test_what_is_opened_is_seen(audit: None) -> None:
    with looking() as touched, open(__file__, encoding="utf-8"):
        pass
    assert touched == [f"open {__file__}"]


def test_compose_calls_no_hook_opens_nothing_and_draws_no_random_number(audit: None) -> None:
    """Keeps P64."""
    before = global_streams()
    with looking() as touched:
        table = compose(everything_there_is())
        found = [table.order(event) for event in EVENTS], hash(table), repr(table), table == compose(table)
    assert touched == []
    assert global_streams() == before
    assert found[0][0] == ("sets", "Never", "state", "ranked", "sink", "dict")


def test_explain_calls_no_hook_opens_nothing_but_its_own_source_and_draws_no_random_number(audit: None) -> None:
    """Keeps P64."""
    before = global_streams()
    linecache.clearcache()
    specialiser._pickled_trees.cache_clear()  # pyright: ignore[reportPrivateUsage]
    with looking() as touched:
        text = explain(everything_there_is())
    source = f"open {Path(loop.__file__).parent}{os.sep}"
    assert touched
    assert [what for what in touched if not what.startswith(source)] == []
    assert global_streams() == before
    assert "def train_loop(" in text
