"""Runs with hooks under triggers, and the same runs counted out by hand: which stretch of progress an event covers."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, cast, final

from attrs import define, frozen
from hypothesis import strategies as st

from tests.core.callables import hook_set
from tests.loop.programs import Unsized, batches, linear, sgd, squares
from trainhooks import (
    EVENTS,
    EndEpoch,
    Evaluation,
    GradientsReady,
    HookSet,
    Record,
    SkipBatch,
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

Stretch: TypeAlias = Mapping[Unit, tuple[int, int]]
"""By unit, the count before (exclusive) and after (inclusive)."""

BATCH = ("on_batch_begin", "transform_batch", "transform_loss", "on_after_backward", "on_batch_end")
UPDATE = ("on_after_gradient_update", "transform_gradients", "on_after_optimizer_step")
EPOCH = ("around_epoch", "on_epoch_begin", "on_epoch_end")
EVALUATION = (
    "around_evaluation", "on_evaluation_begin", "on_after_batch_prediction", "transform_metrics", "on_evaluation_end",
)  # fmt: skip
COUNTED = (*BATCH, *UPDATE, *EPOCH, *EVALUATION, "on_record")


@final
@frozen
class Rule:
    """A trigger as plain data, and what it means."""

    word: str
    points: tuple[int, ...] = ()
    unit: Unit = "updates"
    parts: tuple["Rule", ...] = ()

    def trigger(self) -> Trigger:
        parts = [part.trigger() for part in self.parts]
        match self.word:
            case "every":
                return every(self.points[0], self.unit)
            case "at_points":
                return at_points(self.points, self.unit)
            case "since":
                return since(self.points[0], self.unit)
            case "until":
                return until(self.points[0], self.unit)
            case "&":
                return parts[0] & parts[1]
            case "|":
                return parts[0] | parts[1]
            case _:
                return ~parts[0]

    def units(self) -> set[Unit]:
        return {self.unit} if not self.parts else {unit for part in self.parts for unit in part.units()}

    def fires(self, stretch: Stretch) -> bool:
        parts = [part.fires(stretch) for part in self.parts]
        before, after = stretch[self.unit]
        finished = range(before + 1, after + 1)
        match self.word:
            case "every":
                return any(count % self.points[0] == 0 for count in finished)
            case "at_points":
                return any(count in self.points for count in finished)
            case "since":
                return not after < self.points[0]
            case "until":
                return not after > self.points[0]
            case "&":
                return all(parts)
            case "|":
                return any(parts)
            case _:
                return not parts[0]


@st.composite
def rules(draw: st.DrawFn, unit: Unit, *, deep: bool = True) -> Rule:
    combined = ["&", "|", "~"] if deep else []
    word = draw(st.sampled_from(["every", "every", "at_points", "since", "until", *combined]))
    if word in ("&", "|", "~"):
        count = 1 if word == "~" else 2
        return Rule(word, unit=unit, parts=tuple(draw(rules(unit, deep=False)) for _ in range(count)))
    points = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True))
    return Rule(word, tuple(points) if word == "at_points" else (points[0],), unit)


@final
@frozen
class Course:
    """What a run does, as plain data; places are (epoch, batch)."""

    batches: int
    epochs: int
    accumulate: int
    sized: bool
    skips: frozenset[tuple[int, int]] = frozenset()
    ends: frozenset[tuple[int, int]] = frozenset()
    """Where `on_batch_begin` ends the epoch."""
    drops: frozenset[tuple[int, int]] = frozenset()
    """Where `on_after_gradient_update` skips the update of the window that this batch closes."""

    def of_update(self, made: bool) -> tuple[str, ...]:
        """The events of an update; nothing transforms the gradients of one that is skipped."""
        return UPDATE if made else tuple(event for event in UPDATE if event != "transform_gradients")

    @property
    def looks_ahead(self) -> bool:
        return self.sized or self.accumulate > 1


PLACES = st.frozensets(st.tuples(st.integers(0, 2), st.integers(0, 6)), max_size=3)
COURSES = st.builds(
    Course, batches=st.integers(1, 7), epochs=st.integers(1, 3), accumulate=st.integers(1, 4), sized=st.booleans(),
    skips=PLACES, ends=PLACES, drops=PLACES,
)  # fmt: skip


@final
@define
class Count:
    """What is finished."""

    updates: int = 0
    batches: int = 0
    epochs: int = 0

    def then(self, updates: int = 0, batches: int = 0, epochs: int = 0) -> "Count":
        return Count(self.updates + updates, self.batches + batches, self.epochs + epochs)

    def to(self, after: "Count", epoch: int) -> Stretch:
        """From here to there, in the epoch of this number."""
        return {
            "updates": (self.updates, after.updates),
            "batches": (self.batches, after.batches),
            "epochs": (epoch, epoch + 1),
        }


def counted(course: Course) -> Iterator[tuple[str, Stretch]]:
    """Every event of a run with the stretch that it covers, by event in the order of the run."""
    now = boundary = Count()
    for epoch in range(course.epochs):
        began, waiting = now, 0
        boundary_before, window = boundary, now
        yield from ((event, began.to(began, epoch)) for event in EPOCH[:2])
        for batch in range(course.batches):
            last, start = batch == course.batches - 1, now
            closes = waiting + 1 == course.accumulate or last
            yield "on_batch_begin", now.to(now.then(closes, 1), epoch)
            if (epoch, batch) in course.skips:
                continue
            ended = (epoch, batch) in course.ends
            closes = closes or ended
            made = closes and (epoch, batch) not in course.drops
            yield from ((event, now.to(now.then(closes, 1), epoch)) for event in BATCH[1:4])
            if closes:
                yield from ((event, updated(window, now, now.then(1, 1), epoch)) for event in course.of_update(made))
            yield "on_batch_end", start.to(now.then(closes, 1), epoch)
            yield "on_record", start.to(now.then(closes, 1), epoch)
            now = now.then(made, 1)
            waiting = 0 if closes else waiting + 1
            window = now if closes else window
            if closes and not (last and course.looks_ahead) and not ended:
                yield from evaluated(boundary, now, epoch, each=made, at_epoch_end=False)
                boundary_before, boundary = boundary, now
            if ended:
                break
        if waiting:  # the data's last batch was skipped
            made = (epoch, course.batches - 1) not in course.drops
            yield from ((event, updated(window, now, now.then(1), epoch)) for event in course.of_update(made))
            now = now.then(made)
        now = now.then(epochs=1)
        yield "on_record", began.to(now, epoch)
        each = now.updates > boundary.updates
        if boundary.batches == now.batches:  # the epoch's last window had a boundary of its own
            boundary = boundary_before
        yield from evaluated(boundary, now, epoch, each=each, at_epoch_end=True)
        yield "on_epoch_end", began.to(now, epoch)
        boundary = now


def updated(window: Count, now: Count, after: Count, epoch: int) -> Stretch:
    """What the events of an update cover: one update, and all batches of its window."""
    return {**now.to(after, epoch), "batches": (window.batches, after.batches)}


def evaluated(
    boundary: Count, now: Count, epoch: int, *, each: bool, at_epoch_end: bool
) -> Iterator[tuple[str, Stretch]]:
    for _ in range(each + at_epoch_end):
        yield from ((event, boundary.to(now, epoch)) for event in (*EVALUATION, "on_record"))


def fired(course: Course, triggers: Mapping[str, tuple[str, Trigger]]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """How often each event came, and at which of its occurrences each named (event, trigger) fired."""
    came, at = Counter[str](), {name: list[int]() for name in triggers}

    def note(name: str, event: str) -> None:
        at[name].append(came[event] - 1)

    def steer(ctx: Any) -> object:
        place = (ctx.at.epoch, ctx.at.batch)
        return SkipBatch("planned") if place in course.skips else EndEpoch("planned") if place in course.ends else None

    def drop(ctx: GradientsReady) -> SkipUpdate | None:
        return SkipUpdate("planned") if (ctx.at.epoch, ctx.at.batch) in course.drops else None

    def record(ctx: object) -> Record:
        return Record({"x": 1.0})

    model, data = linear(), batches(course.batches)
    one = batches(1, seed=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        train(
            model, data if course.sized else Unsized(data), squares, sgd(model), epochs=course.epochs,
            accumulate=course.accumulate,
            evaluations=[Evaluation("each", one, when=every(1, "updates")), Evaluation("end", one)],
            hooks=[
                *(calling("counter", event, lambda _, event: came.update([event])) for event in COUNTED),
                *(when(trigger, calling(name, event, note)) for name, (event, trigger) in triggers.items()),
                hook_set(name="steering", on_batch_begin=steer, on_after_gradient_update=drop),
                hook_set(name="recording", on_batch_end=record),
            ],
        )  # fmt: skip
    return dict(came), at


def calling(name: str, event: str, call: Callable[[str, str], object]) -> HookSet:
    """A set that says its name and event, and passes on what it is given."""

    def hear(ctx: object) -> None:
        call(name, event)

    def replace(ctx: object, value: object) -> object:
        call(name, event)
        return value

    def wrap(ctx: object) -> AbstractContextManager[None]:
        call(name, event)
        return nullcontext()

    kinds = {"on": hear, "transform": replace, "around": wrap}
    return hook_set(name=name, **{event: cast("Any", kinds[EVENTS[event].kind])})
