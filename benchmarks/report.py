"""The measurements as plain tables, in Markdown that reads well in a terminal."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch

from .hunt import PREDICTED, Attempt
from .rows import Row
from .starting import Start
from .timing import Times, ratio
from .tricks import ladder

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
PEERS: Final = "<!-- From here on: written by make bench-peers. -->"
"""A line of the file: what stands before it is written by one program, and what follows by another."""

INTRODUCTION = """\
# What the loop costs

Written by `make bench` (`python -m benchmarks`); a run takes a few minutes. Every number is a ratio of two programs
that took turns in one process on one thread, round by round, with the garbage collector at rest: their processor time
is compared, and after every round their weights were equal, bit for bit. The tiny model is `nn.Linear(8, 2)` on
batches of 4 that are ready in memory: a step of it is nearly all overhead. "hooks: n" are n no-ops on the begin of
each batch and n on its end, and the hand-written loop makes the same calls. `median` and `minimum` are of the rounds'
ratios, `best` compares the quickest round of the one with the quickest of the other. The goal is for the median;
below 1 the hand-written loop is slower.
"""

CHECKPOINTS = """\
The state is that of 24 layers of 600 units and their Adam, 104 MB. These are times of the clock on the wall, on a
local disk, again in turns. A save in the background holds the loop for one copy of the state; the other copy goes into
buffers that are there. Of a save that is waited for, both ways are durable when they return: file and folder. Finding
and reading compares every file with its sha256, which torch.load does not. The rows on memory are peaks of processes of
their own, with a state of 96 MiB.
"""

HUNT = """\
Each rung is a loop by hand with one trick more than the one before. The loop with the fourth leaves out what trainhooks
leaves out and does nothing else: it trains wrongly where a profiler, a hook on the optimizer or another kind of
batch comes in. The last one asks first whether that is so, takes the mean of the loss and counts, in one function.
"""

INSTRUCTIONS = """\
What Python's virtual machine executes in a step of SGD without hooks, counted without noise: what lies between the
loops, function by function. Kernels and the autograd engine are not in it; the loops share them.
"""

PROCESSES = """\
Two processes on gloo train one model by torch's `DistributedDataParallel`, in turns, by hand and by `train`; times are
of the clock on the wall, of the steps alone. A step of the smallest model is nearly all waiting for the other process,
and such waits differ from round to round by more than what is compared.
"""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with its columns in line: the first to the left, the others to the right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    shown = [f"| {' | '.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])} |" for line in lines]
    return "\n".join([shown[0], f"|{rule}|", *shown[1:]])


def table_of_rows(what: str, rows: Iterable[Row]) -> str:
    """Ratios, and whether the goals are met."""
    header = (what, "goal", "median", "minimum", "best", "met")
    return table(header, (_cells(row) for row in rows))


def _cells(row: Row) -> tuple[str, ...]:
    found = row.ratio
    met = "" if row.goal is None else "yes" if row.is_met() else "no"
    goal = "" if row.goal is None else f"{row.goal:.2f}"
    return row.what, goal, f"{found.median:.3f}", f"{found.minimum:.3f}", f"{found.of_the_best:.3f}", met


def table_of_ladder(times: Mapping[str, Times]) -> str:
    """What each trick brings, beside what was expected; the times are those of an optimizer by its name."""
    header = ("by hand with tricks / by hand", "predicted", "median", "minimum", "best")
    return table(header, (
        (f"{optimizer}, {rung}", f"{predicted:.2f}", f"{found.median:.3f}", f"{found.minimum:.3f}",
         f"{found.of_the_best:.3f}")
        for optimizer, taken in times.items()
        for rung, predicted in zip(ladder((), optimizer), PREDICTED[optimizer], strict=True)
        for found in [ratio(taken, rung, "by hand")]
    ))  # fmt: skip


def table_of_attempts(attempts: Iterable[Attempt]) -> str:
    """What was tried, each with its outcome."""
    header = ("attempt", "predicted", "found", "kept")
    rows = [(one.what, one.predicted, one.found, one.kept) for one in attempts]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ("---",) * len(header), *rows])


def table_of_starts(starts: Iterable[Start], step: float) -> str:
    """What comes before the first step, each in steps of the hand-written loop, which take `step` seconds."""
    header = ("hooks on each of two events", "compose", "specialise", "train without a step")
    return table(header, (
        (str(one.hooks), f"{one.compose / step:.1f}", f"{one.specialise / step:.1f}", f"{one.train / step:.1f}")
        for one in starts
    ))  # fmt: skip


def table_of_calls(calls: Mapping[int, tuple[float, float, float]]) -> str:
    """Python calls a step by the count of hooks: by hand, ours with either form of step."""
    header = ("hooks", "by hand", "bare loss", "supervised")
    return table(header, ((str(hooks), *(f"{count:.2f}" for count in counts)) for hooks, counts in calls.items()))


def table_of_instructions(columns: Mapping[str, Mapping[str, float]]) -> str:
    """Instructions a step by where they stand, a column for each program and their sums above."""
    places = list(dict.fromkeys(place for one in columns.values() for place in one))
    last = list(columns.values())[-1]
    places.sort(key=lambda place: last.get(place, 0.0), reverse=True)
    sums = ("all", *(f"{sum(one.values()):.0f}" for one in columns.values()))
    rows = [(place, *(f"{one[place]:.0f}" if place in one else "" for one in columns.values())) for place in places]
    return table(("where", *columns), [sums, *rows])


def table_of_import(shares: Mapping[str, float], most: int = 8) -> str:
    """The packages that cost most on top of torch, as shares of torch's own import."""
    return table(("package", "share"), ((name, f"{share:.1%}") for name, share in list(shares.items())[:most]))


def machine() -> str:
    """Versions and the machine, in words."""
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}; {os.cpu_count()} cores, {platform.machine()}, "
        f"{platform.system()}, shared with whatever else ran."
    )


def verdict(rows: Sequence[Row]) -> str:
    """Which goals are not met, by how much and why."""
    missed = [row for row in rows if not row.is_met()]
    asked = sum(row.goal is not None for row in rows)
    parts = [f"{asked - len(missed)} of {asked} goals are met."]
    for why in dict.fromkeys(row.why for row in missed):
        parts += ["", "Not met:", ""]
        parts += [
            f"- {row.what}: {row.ratio.median:.3f}, the goal is {row.goal:.2f}" for row in missed if row.why == why
        ]
        parts += ["", why] if why else []
    return "\n".join(parts)


def write_core(text: str, file: Path = RESULTS) -> None:
    """Replace what stands before the line `PEERS`, and keep what follows it."""
    _, line, peers = _parts(file)
    file.write_text(f"{text.rstrip()}\n" + (f"\n{line}{peers}" if line else ""))


def write_peers(text: str, file: Path = RESULTS) -> None:
    """Replace what follows the line `PEERS`, and keep what stands before it."""
    core, _, _ = _parts(file)
    file.write_text(f"{core.rstrip()}\n\n{PEERS}\n\n{text.rstrip()}\n")


def _parts(file: Path) -> tuple[str, str, str]:
    return (file.read_text() if file.exists() else "").partition(PEERS)
