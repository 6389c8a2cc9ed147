"""Wrappers change when, where and as what a hook set is called, and nothing else about it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import pytest
from attrs import fields
from hypothesis import given
from hypothesis import strategies as st

from tests.core.callables import hook_set
from tests.core.places import place
from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import (
    EVENTS,
    BatchEnd,
    HookDefinitionError,
    HookSet,
    Progress,
    Rank,
    compose,
    every,
    for_device,
    for_rank,
    named,
    ordered,
    quarantine,
    since,
    stateful,
    timed,
    train,
    until,
    when,
)
from trainhooks.core import Hook, Scope, bind, flatten, triggers_of
from trainhooks.loop import bind_table


def hear(ctx: object) -> None: ...


def double(ctx: object, value: int) -> int:
    return value * 2


@contextmanager
def noted(ctx: object) -> Generator[str]:
    yield "entered"


FULL: dict[str, Any] = {
    "name": "full", "order": 3, "before": {"a"}, "after": {"b"}, "reads": {"c"}, "provides": {"d"},
    "writes": {"gradients"}, "ranks": {0, 1}, "may_skip": True, "on_batch_end": hear, "transform_batch": double,
}  # fmt: skip


def count(ctx: BatchEnd, seen: int) -> tuple[int, None]:
    return seen + 1, None


def differences(one: HookSet, other: HookSet) -> set[str]:
    return {field.name for field in fields(HookSet) if getattr(one, field.name) != getattr(other, field.name)}


@pytest.mark.parametrize(
    ("wrap", "field"),
    [
        (partial(when, every(2, "updates")), "when"),
        (partial(for_rank, 1), "ranks"),
        (partial(for_device, 1), "devices"),
        (partial(named, "other"), "name"),
        (partial(ordered, -1), "order"),
        (quarantine, "quarantined"),
    ],
)
def test_a_wrapper_changes_one_thing_of_a_copy(wrap: Callable[..., object], field: str) -> None:
    original, stately = hook_set(**FULL), stateful("full", int, on_batch_end=count, order=1)
    (wrapped,), (again,) = flatten(wrap(original)), flatten(wrap(hook_set(**FULL)))
    assert original == hook_set(**FULL)
    assert differences(original, wrapped) == {field}
    assert again == wrapped
    assert hash(again) == hash(wrapped)
    assert differences(stately, next(flatten(wrap(stately)))) == {field}


@pytest.mark.parametrize("wrap", [partial(when, since(1, "updates")), partial(for_rank, 0), quarantine])
def test_wrappers_of_several_take_any_form_and_keep_the_order_given(wrap: Callable[..., object]) -> None:
    given = [hook_set(name="a", on_batch_end=hear), [{"name": "b", "on_batch_end": hear}], compose()]
    wrapped = wrap(*given, {"name": "c", "on_epoch_end": hear})
    assert [one.name for one in flatten(wrapped)] == ["a", "b", "c"]
    assert wrap() == ()


def bound(one: HookSet, event: str) -> Hook:
    (made,) = bind(one, event, Scope(one.name, lambda: 0.0))
    return made.call


def test_where_a_trigger_does_not_fire_a_value_passes_and_nothing_is_wrapped() -> None:
    (guarded,) = when(every(2, "updates"), hook_set(transform_batch=double, around_evaluation=noted, on_batch_end=hear))
    due, idle = ({"at": Progress(updates=count)} for count in (1, 0))
    transform = bound(guarded, "transform_batch")
    assert transform(place("transform_batch", **due), 21) == 42
    assert transform(place("transform_batch", **idle), 21) == 21
    enter = bound(guarded, "around_evaluation")
    assert enter(place("around_evaluation", since=Progress(updates=1), at=Progress(updates=2))).value == "entered"
    assert enter(place("around_evaluation", since=Progress(updates=2), at=Progress(updates=2))) is None


def test_triggers_around_triggers_must_all_fire() -> None:
    calls: list[int] = []

    def note(ctx: BatchEnd) -> None:
        calls.append(ctx.at.batches)

    inner = hook_set(name="inner", on_batch_end=note)
    (twice,) = when(every(2, "batches"), when(since(3, "batches") & until(9, "batches"), inner))
    model = linear()
    train(model, batches(12), squares, sgd(model), epochs=1, hooks=twice)
    assert calls == [4, 6, 8]
    assert [(event, str(trigger)) for event, trigger in triggers_of(twice)] == [
        ("on_batch_end", "every(2, 'batches') & since(3, 'batches') & until(9, 'batches')"),
    ]


WRAPS: dict[str, Callable[..., Any]] = {
    "when": partial(when, every(2, "updates")), "for_rank": partial(for_rank, 1), "for_device": partial(for_device, 0),
    "named": partial(named, "other"), "ordered": partial(ordered, -1), "quarantine": quarantine, "timed": timed,
    "when too": partial(when, since(1, "updates") & every(3, "batches")),
}  # fmt: skip
SETS = [hook_set(**FULL), stateful("full", int, on_batch_end=count, order=1)]


@given(st.lists(st.sampled_from(sorted(WRAPS)), max_size=6), st.randoms(), st.sampled_from(SETS))
def test_wrappers_commute_and_one_given_twice_counts_once(wraps: list[str], random: Random, one: HookSet) -> None:
    """Keeps P85."""
    again = [*wraps, *random.sample(wraps, len(wraps) // 2)]
    random.shuffle(again)
    ordered_, shuffled = one, one
    for name in dict.fromkeys(wraps):
        (ordered_,) = flatten(WRAPS[name](ordered_))
    for name in again:
        (shuffled,) = flatten(WRAPS[name](shuffled))
    assert shuffled == ordered_
    assert hash(shuffled) == hash(ordered_)


def test_nested_triggers_are_joined_as_by_hand() -> None:
    """Keeps P85."""
    one, other = every(2, "updates"), since(3, "batches") | every(1, "epochs")
    for full in SETS:
        assert when(one, when(other, full)) == when(other, when(one, full)) == when(one & other, full)
        assert when(one, when(one, full)) == when(one, full)


def test_what_a_wrapper_says_can_be_said_in_the_set_itself() -> None:
    given_ = {**FULL, "ranks": {1}, "devices": {0}, "quarantined": True, "timed": True, "when": every(2, "updates")}
    wrapped = timed(quarantine(for_device(0, for_rank(1, when(every(2, "updates"), hook_set(**FULL))))))
    assert wrapped == (hook_set(**given_),)
    assert tuple(flatten(given_)) == wrapped


def test_a_state_is_threaded_through_the_calls_that_are_made() -> None:
    counter = stateful("counter", int, on_batch_end=count)
    model = linear()
    result = train(model, batches(7), squares, sgd(model), epochs=1, hooks=when(every(3, "batches"), counter))
    assert result.hook_states == {"counter": 2}


def test_a_restriction_that_leaves_no_rank_is_refused() -> None:
    def nothing(ctx: BatchEnd) -> None: ...

    quiet = HookSet(name="quiet", on_batch_end=nothing, ranks=frozenset({1, 2}))
    sentence = r"for_rank\(3, 'quiet'\) would never be called: it is already restricted to \[1, 2\]\."
    with pytest.raises(HookDefinitionError, match=sentence):
        for_rank(3, quiet)
    with pytest.raises(HookDefinitionError, match=r"for_device\(0, 'quiet'\) would never be called"):
        for_device(0, for_device(1, quiet))


RANKS = [Rank(index=node * 2 + local, world=4, local_index=local, local_world=2) for node in (0, 1) for local in (0, 1)]


@pytest.mark.parametrize(
    ("wraps", "ranks", "expected"),
    [
        ([], None, [0, 1, 2, 3]),
        ([], {1, 2}, [1, 2]),
        ([partial(for_rank, 0)], None, [0]),
        ([partial(for_rank, 3)], None, [3]),
        ([partial(for_rank, 2)], {1, 2}, [2]),
        ([partial(for_device, 0)], None, [0, 2]),
        ([partial(for_device, 1)], None, [1, 3]),
        ([partial(for_device, 1)], {2, 3}, [3]),
        ([partial(for_rank, 3), partial(for_device, 1)], None, [3]),
        ([partial(for_device, 1), partial(for_rank, 2)], None, []),
    ],
)
def test_a_set_is_called_on_the_ranks_that_it_is_for(
    wraps: list[Callable[..., Any]], ranks: set[int] | None, expected: list[int]
) -> None:
    """`for_rank` counts over all processes, `for_device` within each node."""
    heard: list[str] = []

    def hear_some(ctx: object) -> None:
        heard.append("some")

    def hear_all(ctx: object) -> None:
        heard.append("all")

    some: Any = hook_set(name="some", ranks=ranks, on_batch_end=hear_some)
    for wrap in wraps:
        some = wrap(some)
    table = compose(some, hook_set(name="all", on_batch_end=hear_all))
    called: list[int] = []
    for rank in RANKS:
        heard.clear()
        for one in bind_table(table, rank, lambda: 0.0).hooks["on_batch_end"]:
            one.call(rank)
        assert heard in (["some", "all"], ["all"])
        called += [rank.index] * ("some" in heard)
    assert called == expected


def test_a_set_that_is_not_called_here_makes_no_state() -> None:
    made: list[str] = []

    def make() -> int:
        made.append("x")
        return 0

    table = compose(for_rank(1, stateful("s", make, on_batch_end=count)))
    assert bind_table(table, RANKS[0], lambda: 0.0).states() == {}
    assert made == []
    assert bind_table(table, RANKS[1], lambda: 0.0).states() == {"s": 0}
    assert made == ["x"]


def test_ordered_and_named_sets_stand_where_they_say() -> None:
    one = hook_set(name="one", on_batch_end=hear)
    two = hook_set(name="two", on_batch_end=hear)
    assert compose(one, ordered(-5, two)).order("on_batch_end") == ("two", "one")
    assert compose(ordered(5, one), two).order("on_batch_end") == ("two", "one")
    assert compose(one, named("three", two), hook_set(on_batch_end=hear, before={"three"})).order("on_batch_end") == (
        "one", "hear", "three",
    )  # fmt: skip


ONE = hook_set(on_batch_end=hear)
NAMED: Any = named
ORDERED: Any = ordered
FOR_RANK: Any = for_rank
FOR_DEVICE: Any = for_device


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: named("", ONE), "named wants a name first, got ''."),
        (lambda: NAMED(5, ONE), "named wants a name first, got 5."),
        (lambda: named("a", []), "named takes one hook set, got 0: ()."),
        (lambda: named("a", [ONE, ONE]), f"named takes one hook set, got 2: ({ONE!r}, {ONE!r})."),
        (lambda: ordered(1, [ONE, ONE]), f"ordered takes one hook set, got 2: ({ONE!r}, {ONE!r})."),
        (lambda: ORDERED(0.5, ONE), "ordered wants a whole number first, got 0.5."),
        (lambda: FOR_RANK(-1, ONE), "for_rank takes a rank, a whole number from 0 on, got -1."),
        (lambda: FOR_DEVICE("0", ONE), "for_device takes a rank, a whole number from 0 on, got '0'."),
        (
            lambda: FOR_RANK(0, {"on_bach_end": hear}),
            f"'on_bach_end' is no event; did you mean 'on_batch_end'? The events: {', '.join(EVENTS)}.",
        ),
    ],
)
def test_a_wrapper_that_is_called_wrongly_says_so(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(HookDefinitionError) as caught:
        call()
    assert str(caught.value) == sentence
