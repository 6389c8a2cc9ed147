"""Triggers in real runs: due once per point, whatever the event, the window, the data and the decisions."""

import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.callables import hook_set
from tests.core.counting import (
    BATCH,
    COUNTED,
    COURSES,
    EPOCH,
    EVALUATION,
    UPDATE,
    Course,
    Rule,
    Stretch,
    counted,
    fired,
    rules,
)
from tests.loop.programs import Unsized, batches, linear, sgd, squares
from trainhooks import EpochBegin, HookSet, RunDefinitionError, Trigger, at_points, every, since, train, until, when
from trainhooks.core import Unit

UNITS: tuple[Unit, ...] = ("updates", "batches", "epochs")


def stretches(course: Course) -> dict[str, list[Stretch]]:
    found = defaultdict[str, list[Stretch]](list)
    for event, stretch in counted(course):
        found[event].append(stretch)
    return found


def can_count(event: str, unit: Unit, course: Course) -> bool:
    """Whether the event can hold a trigger in this unit, and each of its occurrences a stretch of its own."""
    if event in BATCH or event in UPDATE:
        return unit != "epochs"
    return unit == "epochs" or course.sized or event not in EPOCH[:2]


@given(COURSES, st.tuples(*map(rules, UNITS)))
def test_a_trigger_fires_where_one_of_its_points_lies_in_the_stretch_that_the_event_covers(
    course: Course, drawn: tuple[Rule, ...]
) -> None:
    """Keeps P74."""
    asked = {
        f"{rule.unit} on {event}": (event, rule)
        for rule in drawn
        for event in COUNTED
        if can_count(event, rule.unit, course)
    }
    covered = stretches(course)
    came, at = fired(course, {name: (event, rule.trigger()) for name, (event, rule) in asked.items()})
    assert came == {event: len(found) for event, found in covered.items()}
    for name, (event, rule) in asked.items():
        expected = [place for place, stretch in enumerate(covered[event]) if rule.fires(stretch)]
        assert at[name] == expected, (name, rule.trigger())


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_n_updates_fires_once_per_n_updates(n: int, accumulate: int, sized: bool) -> None:
    """Keeps P74."""
    course = Course(batches=7, epochs=3, accumulate=accumulate, sized=sized)
    updates = 3 * -(-7 // accumulate)
    events = (*BATCH, *UPDATE)
    _, at = fired(course, {event: (event, every(n, "updates")) for event in events})
    assert {event: len(at[event]) for event in events} == dict.fromkeys(events, updates // n)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_every_n_updates_fires_on_an_epoch_event_once_per_epoch_that_contains_a_point(n: int) -> None:
    """Keeps P74."""
    course = Course(batches=5, epochs=4, accumulate=2, sized=True)
    _, at = fired(course, {event: (event, every(n, "updates")) for event in EPOCH})
    by_n = {1: [0, 1, 2, 3], 2: [0, 1, 2, 3], 3: [0, 1, 2, 3], 5: [1, 3]}
    assert [at[event] for event in EPOCH] == [by_n[n]] * len(EPOCH)


def test_evaluations_at_every_update_meet_every_point_once() -> None:
    """Keeps P74."""
    course = Course(batches=5, epochs=2, accumulate=2, sized=True)
    _, at = fired(course, {event: (event, every(2, "updates")) for event in EVALUATION})
    # "each" runs at updates 1 to 6, "end" at 3 and 6 too: by occurrence 1, 2, 3, 3, 4, 5, 6, 6
    assert [at[event] for event in EVALUATION] == [[1, 4, 6, 7]] * len(EVALUATION)


@pytest.mark.parametrize("event", [*BATCH, *UPDATE])
@pytest.mark.parametrize("trigger", [every(1, "epochs"), at_points([2], "epochs"), ~every(1, "epochs")])
def test_a_unit_that_cannot_advance_within_the_event_is_refused(event: str, trigger: Trigger) -> None:
    """Keeps P74."""
    with pytest.raises(TypeError) as caught:
        fired(Course(batches=1, epochs=1, accumulate=1, sized=True), {"often": (event, trigger)})
    assert str(caught.value) == (
        f"when({trigger}, 'often') can never fire on {event}, in which no epochs are finished. Units that advance "
        "there: batches, updates."
    )


def test_a_trigger_that_must_know_the_length_of_an_epoch_says_so() -> None:
    def begin(ctx: EpochBegin) -> None: ...

    model = linear()
    with pytest.raises(RunDefinitionError, match=r"this data has no len\(\). Count in \"epochs\" there, or give data"):
        train(
            model, Unsized(batches(2)), squares, sgd(model), epochs=1,
            hooks=when(every(2, "updates"), {"name": "early", "on_epoch_begin": begin}),
        )  # fmt: skip


def guarded(trigger: Trigger) -> tuple[HookSet, ...]:
    return when(trigger, hook_set(name="rare", on_epoch_end=print))


@pytest.mark.parametrize(
    "trigger",
    [
        every(5, "updates"),
        every(7, "batches"),
        every(3, "epochs"),
        at_points([5, 9], "updates"),
        since(5, "updates"),
        every(1, "updates") & since(3, "epochs"),
        every(5, "updates") | at_points([7], "batches"),
    ],
)
def test_a_trigger_that_can_never_fire_in_the_run_warns(
    trigger: Trigger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keeps P74."""
    model = linear()
    sentence = f"when({trigger}, 'rare') can never fire on on_epoch_end in this run."
    with pytest.warns(RuntimeWarning, match=f"^{re.escape(sentence)}$"):
        train(model, batches(3), squares, sgd(model), epochs=2, accumulate=2, hooks=guarded(trigger))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "trigger",
    [
        every(4, "updates"),
        every(6, "batches"),
        every(2, "epochs"),
        at_points([4, 9], "updates"),
        since(4, "updates"),
        until(0, "updates") | every(4, "updates"),
        ~every(5, "updates"),
        every(5, "updates") | at_points([6], "batches"),
    ],
)
def test_a_trigger_that_can_fire_in_the_run_does_not_warn(
    trigger: Trigger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keeps P74."""
    model = linear()
    train(model, batches(3), squares, sgd(model), epochs=2, accumulate=2, hooks=guarded(trigger))
    assert capsys.readouterr().out != ""


def test_a_run_whose_length_is_not_known_warns_of_nothing() -> None:
    model = linear()
    train(model, Unsized(batches(3)), squares, sgd(model), epochs=2, hooks=guarded(every(50, "updates")))
