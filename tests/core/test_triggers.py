"""Triggers are values: how they read, compare, combine, and what they refuse."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from tests.core.callables import hook_set
from tests.core.counting import Rule, rules
from tests.core.places import batch_end, epoch_end
from trainhooks import (
    EVENTS,
    HookDefinitionError,
    Progress,
    Trigger,
    at_points,
    compose,
    every,
    every_seconds,
    since,
    until,
    when,
)
from trainhooks.core import Horizon, Scope, bind

EVERY: Any = every
AT_POINTS: Any = at_points
SINCE: Any = since
UNTIL: Any = until
SECONDS: Any = every_seconds


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_triggers_read_as_they_were_written() -> None:
    assert repr(every(100, "updates")) == "every(100, 'updates')"
    assert repr(at_points([9, 3, 3], "batches")) == "at_points([3, 9], 'batches')"
    assert repr(since(1_000, "updates") & ~until(3, "epochs")) == "since(1000, 'updates') & ~until(3, 'epochs')"
    assert repr(every_seconds(30)) == "every_seconds(30)"
    assert repr(every_seconds(0.5) | every(1, "epochs")) == "every_seconds(0.5) | every(1, 'epochs')"
    a, b, c = every(1, "updates"), since(2, "updates"), until(3, "updates")
    assert repr((a | b) & c) == "(every(1, 'updates') | since(2, 'updates')) & until(3, 'updates')"
    assert repr(a | (b & c)) == "every(1, 'updates') | (since(2, 'updates') & until(3, 'updates'))"
    assert repr(~(a & b)) == "~(every(1, 'updates') & since(2, 'updates'))"


def test_triggers_compare_and_hash_by_value_and_cannot_be_changed() -> None:
    """Keeps P67."""
    one = every(2, "updates") & since(3, "epochs")
    untyped: Any = one
    assert one == every(2, "updates") & since(3, "epochs")
    assert hash(one) == hash(every(2, "updates") & since(3, "epochs"))
    assert at_points([3, 1], "updates") == at_points((1, 3, 3), "updates")
    different = [
        one, every(2, "updates"), every(3, "updates"), every(2, "batches"), since(2, "updates"), until(2, "updates"),
        ~every(2, "updates"), every(2, "updates") | since(3, "epochs"), at_points([2], "updates"), every_seconds(2),
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    with pytest.raises(FrozenInstanceError):
        untyped.rule = every(1, "updates").rule


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: EVERY(0, "updates"), "every takes whole numbers from 1 on, got 0."),
        (lambda: EVERY(-2, "updates"), "every takes whole numbers from 1 on, got -2."),
        (lambda: EVERY(1.5, "updates"), "every takes whole numbers from 1 on, got 1.5."),
        (lambda: EVERY(True, "updates"), "every takes whole numbers from 1 on, got True."),
        (lambda: AT_POINTS([3, 0], "updates"), "at_points takes whole numbers from 1 on, got 0."),
        (lambda: AT_POINTS([], "updates"), "at_points needs at least one point."),
        (lambda: SINCE(-1, "updates"), "since takes whole numbers from 0 on, got -1."),
        (lambda: UNTIL("3", "updates"), "until takes whole numbers from 0 on, got '3'."),
        (lambda: SECONDS(0), "every_seconds takes a positive number of seconds, got 0."),
        (lambda: SECONDS(float("nan")), "every_seconds takes a positive number of seconds, got nan."),
        (lambda: SECONDS(float("inf")), "every_seconds takes a positive number of seconds, got inf."),
        (lambda: EVERY(1, "steps"), "A trigger counts in 'updates', 'batches', 'epochs', got 'steps'."),
        (lambda: SINCE(1, "epoch"), "A trigger counts in 'updates', 'batches', 'epochs', got 'epoch'."),
    ],
)
def test_a_trigger_that_makes_no_sense_is_refused(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(HookDefinitionError) as caught:
        make()
    assert str(caught.value) == sentence


def fires(trigger: Trigger, before: int, after: int) -> bool:
    span = EVENTS["on_epoch_end"].span
    ctx = epoch_end(Progress(updates=before), Progress(updates=after))
    return trigger.rule.bind(span, Clock())(ctx)


@pytest.mark.parametrize(
    ("trigger", "before", "after", "expected"),
    [
        (every(3, "updates"), 2, 3, True),
        (every(3, "updates"), 3, 4, False),
        (every(3, "updates"), 3, 3, False),
        (every(3, "updates"), 4, 11, True),
        (at_points([3, 7], "updates"), 3, 6, False),
        (at_points([3, 7], "updates"), 6, 7, True),
        (at_points([3, 7], "updates"), 0, 9, True),
        (since(3, "updates"), 1, 2, False),
        (since(3, "updates"), 2, 3, True),
        (since(3, "updates"), 3, 3, True),
        (since(0, "updates"), 0, 0, True),
        (until(3, "updates"), 2, 3, True),
        (until(3, "updates"), 3, 4, False),
        (until(0, "updates"), 0, 0, True),
    ],
)
def test_a_stretch_begins_after_its_first_count_and_includes_its_last(
    trigger: Trigger, before: int, after: int, expected: bool
) -> None:
    """Keeps P74."""
    assert fires(trigger, before, after) == expected


@given(rules("updates"), rules("updates"), st.integers(0, 20), st.integers(0, 12))
def test_conditions_combine_as_their_truth_does(one: Rule, other: Rule, before: int, length: int) -> None:
    """Keeps P74."""
    after = before + length
    a, b = one.trigger(), other.trigger()
    assert fires(a, before, after) == one.fires({"updates": (before, after)})
    assert fires(a & b, before, after) == (fires(a, before, after) and fires(b, before, after))
    assert fires(a | b, before, after) == (fires(a, before, after) or fires(b, before, after))
    assert fires(~a, before, after) == (not fires(a, before, after))
    assert fires(~(a & b), before, after) == fires(~a | ~b, before, after)


@given(rules("updates"), st.lists(st.integers(0, 4), max_size=12))
def test_every_point_falls_into_one_stretch_however_progress_is_cut(rule: Rule, lengths: list[int]) -> None:
    """Keeps P74."""
    cuts = [sum(lengths[:end]) for end in range(len(lengths) + 1)]
    if rule.word not in ("every", "at_points"):
        return
    total = cuts[-1]
    hits = [point for point in range(1, total + 1) if rule.fires({"updates": (point - 1, point)})]
    containing = {next(place for place, cut in enumerate(cuts[1:]) if point <= cut) for point in hits}
    found = [fires(rule.trigger(), before, after) for before, after in pairwise(cuts)]
    assert [place for place, hit in enumerate(found) if hit] == sorted(containing)


@given(rules("updates"), st.integers(0, 12))
def test_what_can_never_fire_does_not(rule: Rule, total: int) -> None:
    """Keeps P74."""
    horizon: Horizon = {"updates": total, "batches": None, "epochs": None}
    if rule.trigger().rule.never(horizon):
        assert not any(rule.fires({"updates": (before, before + 1)}) for before in range(total))
    assert not rule.trigger().rule.never({"updates": None, "batches": None, "epochs": None})


def test_only_points_that_are_all_beyond_the_run_can_never_come() -> None:
    horizon: Horizon = {"updates": 10, "batches": 20, "epochs": 2}

    def never(trigger: Trigger) -> bool:
        return trigger.rule.never(horizon)

    assert [never(every(n, "updates")) for n in (10, 11)] == [False, True]
    assert [never(at_points([n, 30], "batches")) for n in (20, 21)] == [False, True]
    assert [never(since(n, "epochs")) for n in (2, 3)] == [False, True]
    assert not never(until(0, "updates"))
    assert not never(every_seconds(1e9))
    assert not never(~every(11, "updates"))
    late, soon = every(11, "updates"), every(2, "updates")
    assert [never(late & soon), never(soon & late), never(soon & soon)] == [True, True, False]
    assert [never(late | soon), never(soon | late), never(late | late)] == [False, False, True]


@pytest.mark.parametrize("event", EVENTS)
def test_points_are_refused_where_their_unit_stands_still_and_conditions_are_taken_everywhere(event: str) -> None:
    """Keeps P74."""
    hook = {"on": print, "transform": max, "around": print}[EVENTS[event].kind]
    one = hook_set(name="guarded", **{event: hook})
    advances = EVENTS[event].advances
    for unit in ("updates", "batches", "epochs"):
        compose(when(since(2, unit) | ~until(5, unit) | every_seconds(1), one))
        for trigger in (every(2, unit), at_points([2], unit), since(0, unit) & ~every(2, unit)):
            if unit in advances:
                compose(when(trigger, one))
                continue
            with pytest.raises(HookDefinitionError) as caught:
                compose(when(trigger, one))
            assert str(caught.value) == (
                f"when({trigger}, 'guarded') can never fire on {event}, in which no {unit} are finished. Units that "
                f"advance there: {', '.join(sorted(advances)) or 'none'}."
            )


def test_seconds_are_counted_from_the_start_and_then_from_the_last_time() -> None:
    clock = Clock()
    clock.now = 100.0
    due = every_seconds(10).rule.bind(EVENTS["on_batch_end"].span, clock)
    seen: list[bool] = []
    for now in (100.0, 109.9, 110.0, 110.1, 119.9, 135.0, 144.9, 145.0):
        clock.now = now
        seen.append(due(batch_end(1)))
    assert seen == [False, False, True, False, False, True, False, True]


def batches_at_which(trigger: Trigger) -> list[int]:
    """Where it fires in 20 batches of 4 seconds each."""
    clock = Clock()
    due = trigger.rule.bind(EVENTS["on_batch_end"].span, clock)
    found: list[int] = []
    for count in range(1, 21):
        clock.now = count * 4.0
        if due(batch_end(count)):
            found.append(count)
    return found


def test_seconds_combine_with_other_triggers_on_either_side() -> None:
    tens, fives, late = every_seconds(10), every(5, "batches"), since(7, "batches")
    assert batches_at_which(tens) == [3, 6, 9, 12, 15, 18]
    assert batches_at_which(tens & fives) == batches_at_which(fives & tens) == [5, 10, 15, 20]
    assert batches_at_which(tens & late) == batches_at_which(late & tens) == [7, 10, 13, 16, 19]
    assert batches_at_which(tens & fives & late) == batches_at_which(late & (fives & tens)) == [10, 15, 20]
    assert batches_at_which(every_seconds(30) & fives) == batches_at_which(fives & every_seconds(30)) == [10, 20]
    slow, later = every_seconds(25), since(11, "batches")
    assert batches_at_which((slow & fives) & later) == batches_at_which(later & (fives & slow)) == [15]
    assert batches_at_which((slow | slow) & later) == batches_at_which(later & (slow | slow)) == [11, 18]
    both_ways = [3, 5, 6, 9, 10, 12, 15, 18, 20]
    assert batches_at_which(tens | fives) == batches_at_which(fives | tens) == both_ways
    assert batches_at_which(~tens) == [count for count in range(1, 21) if count % 3]
    assert batches_at_which(~~tens & fives) == batches_at_which(fives & ~~tens) == [5, 10, 15, 20]


def test_each_run_counts_its_own_seconds() -> None:
    called: list[str] = []

    def note(ctx: object) -> None:
        called.append("x")

    (guarded,) = when(every_seconds(5), hook_set(name="slow", on_batch_end=note))
    first, second = Clock(), Clock()
    one, other = (next(bind(guarded, "on_batch_end", Scope("slow", clock))).call for clock in (first, second))
    first.now = 6.0
    one(batch_end(1))
    other(batch_end(1))
    assert called == ["x"]
    second.now = 5.0
    one(batch_end(2))
    other(batch_end(2))
    assert called == ["x", "x"]


def test_when_wants_a_trigger_first() -> None:
    with pytest.raises(HookDefinitionError) as caught:
        when(cast("Any", 3), hook_set(on_batch_end=print))
    assert str(caught.value) == "when wants a trigger first, such as every(100, 'updates'), got 3."
