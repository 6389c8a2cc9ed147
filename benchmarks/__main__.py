"""Measure everything, print it, and write it to RESULTS.md."""

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeAlias

import torch

from .counting import calls_by_hand, calls_by_trainhooks
from .hunt import ATTEMPTS
from .importing import shares_of_import
from .programs import OPTIMIZERS, bare, whole
from .report import (
    CHECKPOINTS,
    HUNT,
    INSTRUCTIONS,
    INTRODUCTION,
    PROCESSES,
    machine,
    table_of_attempts,
    table_of_calls,
    table_of_import,
    table_of_instructions,
    table_of_ladder,
    table_of_rows,
    table_of_starts,
    verdict,
    write_core,
)
from .rows import (
    STEPS,
    Row,
    hooks_times,
    rows_of_a_larger_model,
    rows_of_a_realistic_set,
    rows_of_accumulation,
    rows_of_growth,
    rows_of_hooks,
    rows_of_import,
    rows_of_processes,
    rows_of_tricks,
    times_of_tricks,
)
from .saving import rows_of_checkpoints
from .starting import start_with
from .tricks import instructions_of_loops

Section: TypeAlias = tuple[str, str, Sequence[Row]]
"""A title, what is said, and the rows of it whose goals are judged."""


def of_steps() -> Iterator[Section]:
    """What a step costs, with and without hooks."""
    times = {optimizer: hooks_times(optimizer) for optimizer in OPTIMIZERS}
    hooks = [row for optimizer in OPTIMIZERS for row in rows_of_hooks(optimizer, times[optimizer])]
    yield "Hooks that do nothing", table_of_rows("ours / by hand", hooks), hooks
    growth = [row for optimizer in OPTIMIZERS for row in rows_of_growth(optimizer, times[optimizer])]
    yield "Growth", table_of_rows("n hooks / none", growth), growth
    programs = [*rows_of_accumulation(), *rows_of_a_realistic_set(), *rows_of_a_larger_model()]
    yield "Programs", table_of_rows("ours / by hand", programs), programs
    calls = {
        one: (calls_by_hand(one), calls_by_trainhooks(one, bare), calls_by_trainhooks(one, whole))
        for one in (0, 1, 10, 100)
    }
    yield "Python calls a step, SGD", table_of_calls(calls), ()
    starts = [start_with(count) for count in (0, 10, 100, 1000)]
    step = min(times["SGD"]["by hand, 0"]) / STEPS
    yield "Before the first step, in steps of the hand-written loop with SGD", table_of_starts(starts, step), ()


def of_the_hunt() -> Iterator[Section]:
    """Where the time of a step goes, and what was tried to save it."""
    times = {optimizer: times_of_tricks(optimizer) for optimizer in OPTIMIZERS}
    yield "The hunt", f"{HUNT}\n{table_of_ladder(times)}", ()
    tricks = [row for optimizer in OPTIMIZERS for row in rows_of_tricks(optimizer, times[optimizer])]
    yield "Against loops by hand with the tricks", table_of_rows("ours / by hand", tricks), tricks
    yield "Instructions a step", f"{INSTRUCTIONS}\n{table_of_instructions(instructions_of_loops())}", ()
    yield "What else was tried", table_of_attempts(ATTEMPTS), ()


def of_the_rest() -> Iterator[Section]:
    """Importing, several processes, and checkpoints."""
    imports = list(rows_of_import())
    yield "Import, whole processes", table_of_rows("trainhooks / torch", imports), imports
    shares = table_of_import(shares_of_import())
    yield "Imported on top of torch, as shares of torch's own import, garbage collector off", shares, ()
    processes = list(rows_of_processes())
    yield "Two processes", f"{PROCESSES}\n{table_of_rows('ours / by hand', processes)}", processes
    checkpoints = rows_of_checkpoints()
    yield "Checkpoints", f"{CHECKPOINTS}\n{table_of_rows('ours / theirs', checkpoints)}", checkpoints


def main() -> None:
    began = time.perf_counter()
    torch.set_num_threads(1)
    parts, rows = [INTRODUCTION, machine()], list[Row]()
    print(machine())
    for title, body, found in chain(of_steps(), of_the_hunt(), of_the_rest()):
        parts.append(f"\n## {title}\n\n{body}")
        print(parts[-1], flush=True)
        rows += found
    parts.append(f"\n## Goals\n\n{verdict(rows)}")
    print(parts[-1])
    write_core("\n".join(parts))
    print(f"\nWritten to RESULTS.md after {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
