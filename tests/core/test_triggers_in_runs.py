"""Triggers in real runs: due once per point, whatever the event, the window, the data and the decisions."""

import re
from collections import Counter, defaultdict
from functools import partial
from typing import Any

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
from trainhooks import (
    Evaluation,
    GradientsReady,
    HookSet,
    SkipUpdate,
    Trigger,
    at_points,
    every,
    since,
    train,
    until,
    when,
)
from trainhooks.core import Unit

UNITS: tuple[Unit, ...] = ("updates", "batches", "epochs")


def stretches(course: Course) -> dict[str, list[Stretch]]:
    found = defaultdict[str, list[Stretch]](list)
    for event, stretch in counted(course):
        found[event].append(stretch)
    return found


def is_gated(event: str, unit: Unit) -> bool:
    return event not in EPOCH[:2] or unit == "epochs"


@given(COURSES, st.tuples(*map(rules, UNITS)))
def test_a_trigger_fires_where_one_of_its_points_lies_in_the_interval_that_the_event_covers(
    course: Course, drawn: tuple[Rule, ...]
) -> None:
    """Keeps P74, P85."""
    asked = {f"{rule.unit} on {event}": (event, rule) for rule in drawn for event in COUNTED}
    covered = stretches(course)
    came, at = fired(course, {name: (event, rule.trigger()) for name, (event, rule) in asked.items()})
    assert came == {event: len(found) for event, found in covered.items()}
    for name, (event, rule) in asked.items():
        expected = [
            place
            for place, stretch in enumerate(covered[event])
            if not is_gated(event, rule.unit) or rule.fires(stretch)
        ]
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
def test_every_n_updates_fires_on_an_epochs_end_once_per_epoch_that_contains_a_point(n: int) -> None:
    """Keeps P74."""
    course = Course(batches=5, epochs=4, accumulate=2, sized=True)
    _, at = fired(course, {event: (event, every(n, "updates")) for event in EPOCH})
    by_n = {1: [0, 1, 2, 3], 2: [0, 1, 2, 3], 3: [0, 1, 2, 3], 5: [1, 3]}
    assert [at[event] for event in EPOCH] == [[0, 1, 2, 3], [0, 1, 2, 3], by_n[n]]


def test_in_epochs_every_event_is_judged_by_the_epoch_that_it_lies_in() -> None:
    """Keeps P85."""
    model, heard = linear(), list[tuple[str, int]]()

    def note(ctx: Any, value: Any = None) -> Any:
        heard.append((type(ctx).__name__, ctx.at.epoch))
        return value

    events = [*BATCH, *UPDATE, "on_epoch_begin", "on_epoch_end", *EVALUATION[1:], "on_record", "on_train_begin"]
    one = hook_set(name="one", **dict.fromkeys(events, note))
    train(
        model, batches(3), squares, sgd(model), epochs=4, hooks=when(at_points([1, 3], "epochs"), one),
        evaluations=[Evaluation("each", batches(1), when=every(1, "updates")), Evaluation("end", batches(1))],
    )  # fmt: skip
    assert {epoch for name, epoch in heard if name != "TrainBegin"} == {0, 2}
    for epoch in (0, 2):
        names = Counter(name for name, at in heard if at == epoch)
        assert (names["BatchBegin"], names["BatchEnd"], names["EpochBegin"], names["EpochEnd"]) == (6, 3, 1, 1)
        assert (names["EvaluationBegin"], names["EvaluationEnd"], names["Recorded"]) == (4, 8, 5)


@pytest.mark.filterwarnings("ignore:when.* can never fire in this run:RuntimeWarning")
@given(st.tuples(*map(rules, UNITS)), st.integers(1, 3), st.booleans(), st.frozensets(st.integers(0, 4), max_size=2))
def test_the_events_of_one_batch_one_evaluation_one_epoch_are_heard_together_or_not_at_all(
    drawn: tuple[Rule, Rule, Rule], accumulate: int, either: bool, dropped: frozenset[int]
) -> None:
    """Keeps P85. In batches an update is judged by its window, so with several in a window not as one of them."""
    updates, by_batches, by_epochs = (rule.trigger() for rule in drawn)
    within = by_batches if accumulate == 1 else updates
    trigger = (updates | within & by_epochs) if either else (updates & within | by_epochs)
    heard: dict[str, set[tuple[object, ...]]] = {"all": set(), "gated": set()}

    def hear(into: str, event: str, ctx: Any, value: Any = None) -> Any:
        of_batch = (ctx.at.epoch, ctx.at.batch)
        occasion = (ctx.name, of_batch, ctx.at.epochs) if event in EVALUATION else of_batch
        heard[into].add((occasion, event))
        return value

    def drop(ctx: GradientsReady) -> SkipUpdate | None:
        return SkipUpdate("planned") if ctx.at.batch in dropped else None

    events = [*BATCH, *UPDATE, *EVALUATION[1:]]
    every_one, gated = (
        hook_set(name=name, **{event: partial(hear, name, event) for event in events}) for name in heard
    )
    model = linear()
    train(
        model, batches(5), squares, sgd(model), epochs=2, accumulate=accumulate,
        hooks=[{"on_after_gradient_update": drop}, every_one, when(trigger, gated)],
        evaluations=[Evaluation("each", batches(1), when=every(1, "updates")), Evaluation("end", batches(1))],
    )  # fmt: skip
    for occasion in {occasion for occasion, _ in heard["gated"]}:
        there, those = ({event for place, event in heard[into] if place == occasion} for into in ("all", "gated"))
        assert those == there, (occasion, trigger)


def test_evaluations_at_every_update_meet_every_point_once() -> None:
    """Keeps P74."""
    course = Course(batches=5, epochs=2, accumulate=2, sized=True)
    _, at = fired(course, {event: (event, every(2, "updates")) for event in EVALUATION})
    # "each" runs at updates 1 to 6, "end" at 3 and 6 too: by occurrence 1, 2, 3, 3, 4, 5, 6, 6
    assert [at[event] for event in EVALUATION] == [[1, 4, 6, 7]] * len(EVALUATION)


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
    sentence = f"when({trigger}, 'rare') can never fire in this run."
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
