"""Triggers are values: how they read, compare, combine, and what they refuse."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, cast, get_args

import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from tests.core.callables import hook_set
from tests.core.counting import Rule, rules
from tests.core.places import batch_end, epoch_end, place
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
from trainhooks.core import Horizon, Scope, Unit, bind, triggers_of

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
        (lambda: AT_POINTS([3, -1], "updates"), "at_points takes whole numbers from 0 on, got -1."),
        (lambda: AT_POINTS([], "updates"), "at_points needs at least one point."),
        (lambda: SINCE(-1, "updates"), "since takes whole numbers from 0 on, got -1."),
        (lambda: UNTIL("3", "updates"), "until takes whole numbers from 0 on, got '3'."),
        (lambda: SECONDS(0), "every_seconds takes a positive number of seconds, got 0."),
        (lambda: SECONDS("3"), "every_seconds takes a positive number of seconds, got '3'."),
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
    ctx = epoch_end(Progress(updates=before), Progress(updates=after))
    return trigger.rule.bind(Clock())(EVENTS["on_epoch_end"].interval, ctx)


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
        (at_points([0], "updates"), 0, 0, False),
        (at_points([0], "updates"), 0, 9, False),
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


TRIGGERS = [
    trigger
    for unit in get_args(Unit)
    for trigger in (every(2, unit), at_points([2], unit), since(2, unit) | ~until(5, unit), every_seconds(1))
]


@pytest.mark.parametrize("event", EVENTS)
def test_a_set_with_something_to_gate_is_a_set_under_any_trigger_and_one_without_is_refused(event: str) -> None:
    """Keeps P85."""
    hook = {"on": print, "transform": max, "around": print}[EVENTS[event].kind]
    one = hook_set(name="guarded", **{event: hook})
    with_more = hook_set(**{"name": "guarded", "on_batch_end": print, event: hook})
    for trigger in TRIGGERS:
        compose(when(trigger, with_more))
        if EVENTS[event].gated_by:
            compose(when(trigger, one), hook_set(name="inside", when=trigger, **{event: hook}))
            continue
        for refused in (partial(when, trigger, one), partial(hook_set, when=trigger, name="guarded", **{event: hook})):
            with pytest.raises(HookDefinitionError) as caught:
                refused()
            assert str(caught.value) == (
                f"when({trigger}, 'guarded') decides nothing: the set governs {event}, and a trigger gates the events "
                "of batches, updates, evaluations, epochs, records and checkpoints."
            )


def test_a_trigger_of_several_units_gates_the_begin_of_an_epoch_only_if_all_are_epochs() -> None:
    begins = hook_set(name="begins", around_epoch=print, on_epoch_begin=print, on_epoch_end=print)
    epochs, updates = every(2, "epochs") & since(1, "epochs") | every_seconds(1), until(3, "updates")
    for trigger, gated in ((epochs, list(dict(begins.slots))), (epochs & updates, ["on_epoch_end"])):
        assert [event for event, _ in triggers_of(*when(trigger, begins))] == gated
    assert [event for event, _ in triggers_of(*when(updates, begins))] == ["on_epoch_end"]


def test_a_set_can_say_which_events_a_trigger_gates() -> None:
    one = hook_set(name="some", on_batch_end=print, on_epoch_end=print, on_train_end=print, governs={"on_epoch_end"})
    (gated,) = when(every(2, "updates"), one)
    assert [event for event, _ in triggers_of(gated)] == ["on_epoch_end"]
    for governs in ((), {"on_train_end"}):
        ungoverned = hook_set(name="some", on_batch_end=print, on_train_end=print, governs=governs)
        with pytest.raises(HookDefinitionError, match=r"^when\(every\(2, 'updates'\), 'some'\) decides nothing: "):
            when(every(2, "updates"), ungoverned)


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (at_points([0], "updates"), True),
        (at_points([0, 4], "epochs"), True),
        (at_points([4], "batches"), False),
        (every(1, "updates"), False),
        (since(0, "updates"), False),
        (~at_points([4], "updates"), False),
        (every_seconds(1), False),
        (at_points([0], "updates") | every(3, "updates"), True),
        (at_points([0], "updates") & until(3, "epochs"), True),
        (at_points([0], "updates") & since(0, "epochs"), True),
        (at_points([0], "updates") & since(1, "updates"), False),
        (at_points([0], "updates") & every(3, "updates"), False),
        (at_points([0], "updates") & ~every(3, "updates"), True),
        (at_points([0], "updates") & (until(2, "epochs") | every_seconds(3)), True),
    ],
)
def test_0_is_a_point_of_at_points_alone(trigger: Trigger, expected: bool) -> None:
    assert trigger.rule.at_begin == expected


def of_batches(trigger: Trigger, clock: Clock) -> Callable[[int], bool]:
    """Whether it fires at the end of a batch, by what is finished then."""
    due, interval = trigger.rule.bind(clock), EVENTS["on_batch_end"].interval
    return lambda batches: due(interval, batch_end(batches))


def test_seconds_are_counted_from_the_start_and_then_from_the_last_time() -> None:
    clock = Clock()
    clock.now = 100.0
    due = of_batches(every_seconds(10), clock)
    seen: list[bool] = []
    for number, now in enumerate((100.0, 109.9, 110.0, 110.1, 119.9, 135.0, 144.9, 145.0)):
        clock.now = now
        seen.append(due(number))
    assert seen == [False, False, True, False, False, True, False, True]


def test_seconds_decide_once_for_each_batch_evaluation_and_epoch_at_its_first_event() -> None:
    """Keeps P85."""
    clock = Clock()
    due = every_seconds(10).rule.bind(clock)

    def fires(event: str, now: float, **fields: Any) -> bool:
        clock.now = now
        return due(EVENTS[event].interval, place(event, **fields))

    epoch, batch = Progress(epoch=0, batch=0), Progress(epoch=0, batch=1)
    assert not fires("around_epoch", 1.0, at=epoch)
    assert fires("on_batch_begin", 11.0, at=epoch)
    assert all(fires(event, 30.0, at=epoch) for event in ("transform_loss", "on_after_optimizer_step", "on_batch_end"))
    assert fires("on_batch_begin", 31.0, at=batch)
    for name, now, expected in (("a", 32.0, False), ("b", 45.0, True), ("c", 46.0, False)):
        events = ("around_evaluation", "on_after_batch_prediction", "transform_metrics", "on_evaluation_end")
        assert [fires(event, now, name=name, at=batch) for event in events] == [expected] * 4
        clock.now += 100.0
    assert not fires("on_epoch_end", 90.0, at=Progress(epoch=0, batch=1, epochs=1))
    assert fires("on_epoch_begin", 91.0, at=Progress(epoch=1, epochs=1))


def batches_at_which(trigger: Trigger) -> list[int]:
    """Where it fires in 20 batches of 4 seconds each."""
    clock = Clock()
    due = of_batches(trigger, clock)
    found: list[int] = []
    for count in range(1, 21):
        clock.now = count * 4.0
        if due(count):
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


def test_triggers_are_joined_by_signs_alone() -> None:
    often, other = every(2, "updates"), cast("Any", 3)
    with pytest.raises(HookDefinitionError, match=r"^& joins a trigger to a trigger, .* got 3\.$"):
        _ = often & other
    with pytest.raises(HookDefinitionError, match=r"^\| joins a trigger to a trigger, .* got 3\.$"):
        _ = often | other
    joins: list[Callable[[], object]] = [
        lambda: often and since(3, "updates"), lambda: often or since(3, "updates"), lambda: not often,
    ]  # fmt: skip
    for join in joins:
        with pytest.raises(HookDefinitionError, match=r"every\(2, 'updates'\) is neither true nor false; .* by &, \|"):
            join()
