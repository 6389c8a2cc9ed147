"""The table of a run that goes on is that of one that never stopped, or is begun anew with a warning."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.kept import recording, run
from trainhooks import BatchEnd, HookSet, Record, TrainBegin, at_points, every, named, quarantine, when
from trainhooks.hooks import checkpoint, csv

SAVED = 3
HEADER = "epoch,updates,batches,x,train/loss"


def go(folder: Path, *more: Any, updates: int, resume: Any = "never", table: Any = None) -> str:
    """A run with a record each update and a checkpoint after the third; what is in its table then."""
    path = folder / "metrics.csv"
    saver = checkpoint(when=at_points([SAVED], "updates"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*can never fire")
        run(
            folder / "runs", recording("x", 0.5), csv(path) if table is None else table, saver, *more,
            updates=updates, resume=resume,
        )  # fmt: skip
    return path.read_text()


def at_the_checkpoint(tmp_path: Path) -> str:
    return go(tmp_path / "reference", updates=SAVED)


def test_rows_past_the_checkpoint_are_gone_if_the_run_ends_without_writing_any(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert len(go(folder, updates=6).splitlines()) == 7
    assert go(folder, updates=SAVED, resume="must") == at_the_checkpoint(tmp_path)


def test_rows_past_the_checkpoint_are_gone_before_training_goes_on(tmp_path: Path) -> None:
    folder, seen = tmp_path / "run", list[str]()

    def look(ctx: TrainBegin) -> None:
        seen.append((folder / "metrics.csv").read_text())

    whole = go(folder, updates=6)
    assert go(folder, {"on_train_begin": look}, updates=6, resume="must") == whole
    assert seen == [at_the_checkpoint(tmp_path)]


def test_rows_of_some_updates_alone_are_cut_off_too(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    table = when(every(2, "updates"), csv(folder / "metrics.csv"))
    assert len(go(folder, updates=6, table=table).splitlines()) == 4
    assert len(go(folder, updates=SAVED, resume="must", table=table).splitlines()) == 2


def test_columns_that_came_past_the_checkpoint_are_gone(tmp_path: Path) -> None:
    def late(ctx: BatchEnd) -> Record | None:
        return Record({"late": 1.0}) if ctx.at.updates == 5 else None

    folder = tmp_path / "run"
    assert go(folder, {"on_batch_end": late}, updates=6).startswith(f"{HEADER},late\n")
    assert go(folder, updates=SAVED, resume="must") == at_the_checkpoint(tmp_path)


def test_a_value_that_joined_the_newest_row_past_the_checkpoint_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    go(folder, updates=SAVED)
    path = folder / "metrics.csv"
    whole = path.read_text()
    path.write_text(whole.removesuffix("\n") + "0.125\n")
    assert go(folder, updates=SAVED, resume="must") == whole


def test_a_newest_row_that_was_torn_is_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    whole = go(folder, updates=SAVED)
    (folder / "metrics.csv").write_text(whole[:-4])
    assert go(folder, updates=SAVED, resume="must") == whole


@pytest.mark.parametrize(
    "left", [None, "", HEADER, f"{HEADER}\n0,1,1,0.5,\n", "a,b\n1,2\n" * 99, "\0\N{SNOWMAN}" * 999]
)
def test_a_table_that_is_not_there_or_lacks_rows_is_begun_anew_with_a_warning(tmp_path: Path, left: Any) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    go(there, updates=SAVED)
    shutil.copytree(there / "runs", here / "runs")
    if left is not None:
        (here / "metrics.csv").write_text(left)
    with pytest.warns(RuntimeWarning, match=f"{here}/metrics.csv does not hold the rows that this run wrote"):
        found = go(here, updates=5, resume="must")
    counts = [line.split(",")[:4] for line in found.splitlines()]
    assert found.splitlines()[0] == HEADER
    assert counts[1:] == [["1", "4", "4", "0.5"], ["2", "5", "5", "0.5"]]


def test_a_table_that_was_begun_anew_goes_on_from_a_later_checkpoint(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    go(there, updates=SAVED)
    shutil.copytree(there / "runs", here / "runs")
    each = named("each", checkpoint(when=every(1, "updates")))
    with pytest.warns(RuntimeWarning, match="begun anew"):
        assert go(here, each, updates=SAVED, resume="must") == f"{HEADER}\n"
    with pytest.warns(RuntimeWarning, match="begun anew"):
        go(here, each, updates=4, resume="must")
    found = go(here, each, updates=5, resume="must").splitlines()
    assert [line.split(",")[:4] for line in found] == [
        ["epoch", "updates", "batches", "x"], ["1", "4", "4", "0.5"], ["2", "5", "5", "0.5"],
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*can never fire")
def test_a_run_saved_before_its_first_record_goes_on_with_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first, hooks = checkpoint(when=at_points([1], "updates")), (when(every(2, "epochs"), csv(path)),)
    run(tmp_path / "runs", *hooks, first, updates=4)
    assert len(path.read_text().splitlines()) == 2
    run(tmp_path / "runs", *hooks, first, updates=1, resume="must")
    assert path.read_text() == ""


def test_a_table_that_cannot_be_written_under_quarantine_lets_the_run_go_on(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    go(there, updates=SAVED)
    shutil.copytree(there / "runs", here / "runs")
    (here / "file").write_text("in the way")
    table: HookSet = quarantine(csv(here / "file" / "metrics.csv"))[0]
    (here / "metrics.csv").write_text("")
    with pytest.warns(RuntimeWarning, match="'csv' raised and was switched off"):
        go(here, updates=5, resume="must", table=table)
