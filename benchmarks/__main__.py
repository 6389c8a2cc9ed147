"""Measure everything, print it, and write it to RESULTS.md."""

import time

import torch

from .counting import calls_by_hand, calls_by_trainhooks
from .hunt import ATTEMPTS
from .importing import shares_of_import
from .programs import OPTIMIZERS, bare, whole
from .report import (
    CHECKPOINTS,
    INTRODUCTION,
    PROCESSES,
    machine,
    table_of_attempts,
    table_of_calls,
    table_of_import,
    table_of_ladder,
    table_of_rows,
    table_of_starts,
    verdict,
    write_core,
)
from .rows import (
    STEPS,
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


def main() -> None:
    began = time.perf_counter()
    torch.set_num_threads(1)
    parts = [INTRODUCTION, machine()]

    def say(title: str, body: str) -> None:
        parts.append(f"\n## {title}\n\n{body}")
        print(parts[-1], flush=True)

    print(machine())
    times = {optimizer: hooks_times(optimizer) for optimizer in OPTIMIZERS}
    hooks = [row for optimizer in OPTIMIZERS for row in rows_of_hooks(optimizer, times[optimizer])]
    say("Hooks that do nothing", table_of_rows("ours / by hand", hooks))
    growth = [row for optimizer in OPTIMIZERS for row in rows_of_growth(optimizer, times[optimizer])]
    say("Growth", table_of_rows("n hooks / none", growth))
    tricks_times = {optimizer: times_of_tricks(optimizer) for optimizer in OPTIMIZERS}
    say("The hunt", table_of_ladder(tricks_times))
    tricks = [row for optimizer in OPTIMIZERS for row in rows_of_tricks(optimizer, tricks_times[optimizer])]
    say("Against a loop by hand with all the tricks", table_of_rows("ours / by hand with all the tricks", tricks))
    say("What else was tried", table_of_attempts(ATTEMPTS))
    programs = [*rows_of_accumulation(), *rows_of_a_realistic_set(), *rows_of_a_larger_model()]
    say("Programs", table_of_rows("ours / by hand", programs))
    counts = (0, 1, 10, 100)
    calls = {
        one: (calls_by_hand(one), calls_by_trainhooks(one, bare), calls_by_trainhooks(one, whole)) for one in counts
    }
    say("Python calls a step, SGD", table_of_calls(calls))
    step = min(times["SGD"]["by hand, 0"]) / STEPS
    starts = [start_with(count) for count in (0, 10, 100, 1000)]
    say("Before the first step, in steps of the hand-written loop with SGD", table_of_starts(starts, step))
    imports = list(rows_of_import())
    say("Import, whole processes", table_of_rows("trainhooks / torch", imports))
    shares = table_of_import(shares_of_import())
    say("Imported on top of torch, as shares of torch's own import, garbage collector off", shares)
    processes = list(rows_of_processes())
    say("Two processes", f"{PROCESSES}\n{table_of_rows('ours / by hand', processes)}")
    checkpoints = rows_of_checkpoints()
    say("Checkpoints", f"{CHECKPOINTS}\n{table_of_rows('ours / theirs', checkpoints)}")
    say("Goals", verdict([*hooks, *tricks, *programs, *imports, *checkpoints, *processes]))
    write_core("\n".join(parts))
    print(f"\nWritten to RESULTS.md after {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
