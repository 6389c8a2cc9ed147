"""What is measured, and which ratio each is meant to reach."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, final

from attrs import frozen

from . import realistic
from .importing import TORCH, TRAINHOOKS, UNCOLLECTED, import_times
from .processes import MODELS, race_over_processes
from .programs import (
    OPTIMIZERS,
    Program,
    Step,
    accumulating_by_hand,
    bare,
    batches,
    by_hand,
    by_trainhooks,
    larger,
    noops,
    table_of,
    tiny,
    whole,
)
from .reasons import CONTEXTS, FILES, FRAMES, IMPORT, WAITS
from .timing import Ratio, Times, race, ratio
from .tricks import ALL_TRICKS, GUARDED, ladder

STEPS: Final = 600
ROUNDS: Final = 15
GOALS: Final[Mapping[int, float | None]] = {0: 0.55, 1: None, 10: 0.62, 100: 0.68}
"""Counts of hooks on each of the two batch events, and what each count is meant to reach."""
WINDOW: Final = 4
"""Batches of an update where several make up one; a power of two, so that both ways of dividing are exact."""
FORMS: Final[Mapping[str, Step]] = {"bare loss": bare, "supervised": whole}
"""What a step may return: its loss, or a `StepOutput`."""


@final
@frozen(kw_only=True)
class Row:
    """One comparison."""

    what: str
    goal: float | None
    """The ratio is to be at most this; None if nothing is asked."""
    ratio: Ratio
    why: str = ""
    """Why it may be missed."""

    def is_met(self) -> bool:
        """Whether the median reaches the goal."""
        return self.goal is None or self.ratio.median <= self.goal


def hooks_times(optimizer: str, steps: int = STEPS, rounds: int = ROUNDS) -> Times:
    """The tiny model with every count of hooks: by hand, and by trainhooks with either form of step."""
    data = batches(steps)
    programs: dict[str, Program] = {}
    for count in GOALS:
        begin, end = noops(count), noops(count)
        table = table_of(begin, end)
        programs[f"by hand, {count}"] = by_hand(data, begin, end)
        for name, step in FORMS.items():
            programs[f"{name}, {count}"] = by_trainhooks(data, step, table)
    return race(programs, tiny, OPTIMIZERS[optimizer], rounds=rounds)


def rows_of_hooks(optimizer: str, times: Times) -> Iterator[Row]:
    """Each count of hooks against the hand-written loop that makes the same calls."""
    for count, goal in GOALS.items():
        for form in FORMS:
            what = f"{optimizer}, hooks: {count}, step: {form}"
            found = ratio(times, f"{form}, {count}", f"by hand, {count}")
            yield Row(what=what, goal=goal, ratio=found, why=CONTEXTS if count else FRAMES)


def rows_of_growth(optimizer: str, times: Times) -> Iterator[Row]:
    """Each count of hooks against none, in the hand-written loop and in ours."""
    for count in list(GOALS)[1:]:
        for kind in ("by hand", *FORMS):
            what = f"{optimizer}, hooks: {count}, {kind}"
            yield Row(what=what, goal=None, ratio=ratio(times, f"{kind}, {count}", f"{kind}, 0"))


def times_of_tricks(optimizer: str, steps: int = STEPS, rounds: int = ROUNDS) -> Times:
    """The tiny model without hooks: by hand, by hand with ever more tricks, and by trainhooks."""
    data = batches(steps)
    programs = {"by hand": by_hand(data, (), ()), **ladder(data, optimizer)}
    programs.update({form: by_trainhooks(data, step, table_of((), ())) for form, step in FORMS.items()})
    return race(programs, tiny, OPTIMIZERS[optimizer], rounds=rounds)


def rows_of_tricks(optimizer: str, times: Times) -> Iterator[Row]:
    """Ours against the hand-written loop with all the tricks, and against the one that makes sure of them too."""
    for rung, what in ((ALL_TRICKS, "all the tricks"), (GUARDED, "all the tricks, guarded")):
        for form in FORMS:
            name = f"{optimizer}, step: {form} / {what}"
            yield Row(what=name, goal=1.05, ratio=ratio(times, form, rung), why=FRAMES)


def rows_of_accumulation(steps: int = STEPS, rounds: int = ROUNDS) -> Iterator[Row]:
    """Windows of four batches without hooks: the loop by hand divides each loss, ours normalises the gradients."""
    data = batches(steps)
    for optimizer, make in OPTIMIZERS.items():
        programs = {"by hand": accumulating_by_hand(data, WINDOW)}
        programs.update({form: by_trainhooks(data, step, table_of((), ()), WINDOW) for form, step in FORMS.items()})
        times = race(programs, tiny, make, rounds=rounds)
        for form in FORMS:
            what = f"{optimizer}, accumulate: {WINDOW}, hooks: 0, step: {form}"
            yield Row(what=what, goal=None, ratio=ratio(times, form, "by hand"))


def rows_of_a_realistic_set(steps: int = STEPS, rounds: int = ROUNDS) -> Iterator[Row]:
    """A realistic set of hooks, the file with a row for each epoch or for each batch."""
    for each_batch, rows in ((False, "each epoch"), (True, "each batch")):
        for optimizer, make in OPTIMIZERS.items():
            with TemporaryDirectory() as folder:
                task = realistic.task_in(Path(folder), steps, each_batch=each_batch)
                programs = {"by hand": realistic.by_hand(task), "ours": realistic.by_trainhooks(task)}
                times = race(programs, tiny, make, rounds=rounds)
            what = f"{optimizer}, realistic set, CSV row for {rows}"
            yield Row(what=what, goal=0.75, ratio=ratio(times, "ours", "by hand"), why=FILES)


def rows_of_a_larger_model(steps: int = 60, rounds: int = ROUNDS) -> Iterator[Row]:
    """Four layers of 512 units and batches of 64: some milliseconds a step."""
    data = batches(steps, size=64, inputs=512, outputs=512)
    for count in (0, 10):
        begin, end = noops(count), noops(count)
        programs = {
            "by hand": by_hand(data, begin, end),
            "ours": by_trainhooks(data, whole, table_of(begin, end)),
        }
        times = race(programs, larger, OPTIMIZERS["SGD"], rounds=rounds)
        what = f"SGD, hooks: {count}, MLP 4 x 512, batch 64"
        yield Row(what=what, goal=1.02, ratio=ratio(times, "ours", "by hand"))


def rows_of_processes() -> Iterator[Row]:
    """`DistributedDataParallel` over two processes, by hand and by trainhooks, by the clock on the wall."""
    for model in MODELS:
        for optimizer in OPTIMIZERS:
            times = race_over_processes(model, optimizer)
            yield Row(what=f"{optimizer}, {model}", goal=1.05, ratio=ratio(times, "ours", "by hand"), why=WAITS)


def rows_of_import(rounds: int = 7) -> Iterator[Row]:
    """Whole processes that do nothing but import."""
    times = import_times(rounds)
    yield Row(what="import", goal=1.10, ratio=ratio(times, TRAINHOOKS, TORCH), why=IMPORT)
    ours, theirs = UNCOLLECTED + TRAINHOOKS, UNCOLLECTED + TORCH
    yield Row(what="import, garbage collector off", goal=None, ratio=ratio(times, ours, theirs))
