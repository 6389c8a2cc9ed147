"""The benchmarks compare what they say, refuse to time programs that train differently, and report exactly."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from attrs import evolve
from torch import nn
from torch.optim import Optimizer

from benchmarks import realistic
from benchmarks.counting import calls_by_hand, calls_by_trainhooks, calls_of
from benchmarks.importing import shares_in
from benchmarks.programs import OPTIMIZERS, Program, batches, by_hand, tiny
from benchmarks.report import table, table_of_rows, verdict
from benchmarks.rows import FORMS, GOALS, Row, hooks_times, rows_of_accumulation, rows_of_hooks
from benchmarks.saving import CountedReads, rows_of_reading, rows_of_saving, training_of
from benchmarks.starting import start_with
from benchmarks.timing import Act, Ratio, WeightsDifferError, race, ratio, take_turns
from trainhooks.store import open_store

SGD = OPTIMIZERS["SGD"]


def row(what: str, goal: float | None, median: float) -> Row:
    return Row(what=what, goal=goal, ratio=Ratio(median=median, minimum=0.5, of_the_best=0.625))


def test_programs_take_turns_and_the_first_round_is_not_counted() -> None:
    turns: list[str] = []

    def program(name: str) -> Program:
        return lambda model, optimizer: turns.append(name)

    times = race({"one": program("one"), "other": program("other")}, tiny, SGD, rounds=2)
    assert turns == ["one", "other"] * 3
    assert {name: len(taken) for name, taken in times.items()} == {"one": 2, "other": 2}


def test_programs_that_train_differently_are_not_compared() -> None:
    def astray(model: nn.Module, optimizer: Optimizer) -> None:
        by_hand(batches(2), (), ())(model, optimizer)
        with torch.no_grad():
            next(model.parameters()).mul_(1.0 + 2.0**-23)

    with pytest.raises(WeightsDifferError, match="The weights of 'astray' differ from those of 'by hand'"):
        race({"by hand": by_hand(batches(2), (), ()), "astray": astray}, tiny, SGD, rounds=1)


def test_the_garbage_collector_rests_while_a_program_runs_and_works_again_after_it() -> None:
    seen: list[bool] = []

    def fails(model: nn.Module, optimizer: Optimizer) -> None:
        seen.append(gc.isenabled())
        raise LookupError

    assert gc.isenabled()
    with pytest.raises(LookupError):
        race({"fails": fails}, tiny, SGD, rounds=1)
    assert (seen, gc.isenabled(), gc.get_freeze_count()) == ([False], True, 0)


def test_acts_take_turns_each_put_back_before_the_next() -> None:
    turns: list[str] = []

    def act(name: str) -> Act:
        return Act(lambda: turns.append(name), lambda: turns.append(f"after {name}"))

    times = take_turns({"one": act("one"), "other": act("other")}, rounds=2)
    assert turns == ["one", "after one", "other", "after other"] * 3
    assert {name: len(taken) for name, taken in times.items()} == {"one": 2, "other": 2}


def test_saves_are_taken_away_again(tmp_path: Path) -> None:
    rows = list(rows_of_saving(training_of(layers=2, units=3), tmp_path, rounds=2))
    assert [one.what for one in rows] == [
        "a save in the background / a copy",
        "a save that is waited for / torch.save and fsync",
    ]
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["ours/attempts/000001.json"]


def test_each_object_of_a_checkpoint_is_read_once(tmp_path: Path) -> None:
    rows = list(rows_of_reading(training_of(layers=2, units=3), tmp_path, rounds=1))
    assert rows[-1] == Row(
        what="reads of an object / 1", goal=1.0, ratio=Ratio(median=1.0, minimum=1.0, of_the_best=1.0)
    )


def test_reads_are_counted_by_object() -> None:
    store = CountedReads(open_store("memory://"))
    store.put("a", b"1")
    store.put("b", b"2")
    assert (bytes(store.get("a")), b"".join(store.stream("a")), store.reads) == (b"1", b"1", {"a": 2})


def test_the_import_leaves_out_what_only_a_run_with_an_experiment_needs() -> None:
    program = "import sys, trainhooks; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    late = ("cattrs", "obstore", "trainhooks.checkpoint", "trainhooks.hooks", "trainhooks.cli")
    assert [one for one in imported if one.startswith(late)] == []
    assert "trainhooks.loop" in imported


def test_a_ratio_compares_within_rounds_and_the_quickest_of_all() -> None:
    times = {"ours": (1.0, 6.0, 2.0), "by hand": (2.0, 4.0, 8.0)}
    assert ratio(times, "ours", "by hand") == Ratio(median=0.5, minimum=0.25, of_the_best=0.5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_with_any_count_of_hooks_the_weights_equal_those_of_the_hand_written_loop(optimizer: str) -> None:
    times = hooks_times(optimizer, steps=3, rounds=1)
    assert list(times) == [f"{kind}, {count}" for count in GOALS for kind in ("by hand", *FORMS)]


def test_with_windows_of_several_batches_the_weights_equal_those_of_the_hand_written_loop() -> None:
    rows = list(rows_of_accumulation(steps=8, rounds=1))
    assert [one.what for one in rows] == [
        f"{optimizer}, accumulate: 4, hooks: 0, step: {form}" for optimizer in OPTIMIZERS for form in FORMS
    ]


@pytest.mark.parametrize("each_batch", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_realistic_set_trains_and_writes_what_the_hand_written_loop_does(
    tmp_path: Path, optimizer: str, each_batch: bool
) -> None:
    task = realistic.task_in(tmp_path, 40, each_batch=each_batch)
    rows: list[int] = []

    def written(program: Program) -> Program:
        def wrapped(model: nn.Module, optimizer: Optimizer) -> None:
            program(model, optimizer)
            rows.append(len(task.path.read_text().splitlines()))

        return wrapped

    programs = {"by hand": written(realistic.by_hand(task)), "ours": written(realistic.by_trainhooks(task))}
    race(programs, tiny, OPTIMIZERS[optimizer], rounds=1)
    by_hand_rows = 42 if each_batch else 2
    ours = 41 if each_batch else 3  # a header; an epoch's values share the row of its last batch
    assert rows == [by_hand_rows, ours] * 2


def test_python_calls_are_counted_with_the_function_itself() -> None:
    def called() -> int:
        return len("C functions are not counted")

    def calling() -> int:
        return called() + called()

    assert calls_of(calling) == 3


def test_who_watches_the_garbage_collector_is_not_counted() -> None:
    def watch(phase: str, facts: dict[str, int]) -> None:
        seen.append(phase)

    def littering() -> None:
        for _ in range(10_000):
            cycle: list[object] = []
            cycle.append(cycle)

    seen: list[str] = []
    gc.callbacks.append(watch)
    try:
        littering()
        assert seen  # it is called where nobody counts
        assert calls_of(littering) == 1
    finally:
        gc.callbacks.remove(watch)
    assert gc.isenabled()


def test_each_further_hook_costs_one_python_call_an_event() -> None:
    assert calls_by_hand(5) - calls_by_hand(0) == 10.0
    assert [calls_by_trainhooks(6, form) - calls_by_trainhooks(1, form) for form in FORMS.values()] == [10.0, 10.0]


def test_a_start_has_every_part() -> None:
    start = start_with(3)
    assert start.hooks == 3
    assert min(start.compose, start.specialise, start.train) > 0.0


def test_an_import_log_is_read_from_torch_on_and_summed_by_package() -> None:
    log = """\
import time: self [us] | cumulative | imported package
import time:        90 |         90 |   torch.nn
import time:        10 |       1000 | torch
import time:        20 |         20 |     attr._make
import time:         5 |         25 |   attr
import time:       100 |        100 |     trainhooks.loop.live
import time:       200 |        300 |   trainhooks.loop
import time:         1 |        326 | trainhooks
"""
    assert shares_in(log) == {"trainhooks.loop": 0.3, "attr": 0.025, "trainhooks": 0.001}


def test_a_table_keeps_its_columns_in_line() -> None:
    assert table(("what", "ratio"), [("a", "0.5"), ("longer", "10.25")]) == (
        "| what   | ratio |\n"  #
        "|--------|------:|\n"
        "| a      |   0.5 |\n"
        "| longer | 10.25 |"
    )


def test_a_row_is_met_by_its_median_alone() -> None:
    rows = [row("reached", 0.75, 0.75), row("missed", 0.75, 0.7504), row("unasked", None, 3.0)]
    assert table_of_rows("what", rows) == (
        "| what    | goal | median | minimum |  best | met |\n"
        "|---------|-----:|-------:|--------:|------:|----:|\n"
        "| reached | 0.75 |  0.750 |   0.500 | 0.625 | yes |\n"
        "| missed  | 0.75 |  0.750 |   0.500 | 0.625 |  no |\n"
        "| unasked |      |  3.000 |   0.500 | 0.625 |     |"
    )


def test_the_verdict_names_every_goal_that_is_not_met_and_why() -> None:
    rows = [row("reached", 0.75, 0.7), row("missed", 0.75, 0.8), row("unasked", None, 3.0)]
    rows += [evolve(row("first", 1.0, 1.1), why="It waits."), evolve(row("second", 1.0, 1.2), why="It waits.")]
    assert verdict(rows) == (
        "1 of 4 goals are met.\n\nNot met:\n\n- missed: 0.800, the goal is 0.75\n\n"
        "Not met:\n\n- first: 1.100, the goal is 1.00\n- second: 1.200, the goal is 1.00\n\nIt waits."
    )
    assert verdict(rows[:1]) == "1 of 1 goals are met."


def test_every_goal_of_a_step_says_why_it_may_be_missed() -> None:
    times = hooks_times("SGD", steps=2, rounds=1)
    assert all(one.why for one in rows_of_hooks("SGD", times) if one.goal is not None)
