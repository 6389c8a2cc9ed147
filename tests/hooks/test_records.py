"""What a run records is kept whole: in memory, and in a table."""

import csv as csv_format
import errno
import os
from pathlib import Path

import pytest

from tests.core.places import place
from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import (
    BatchEnd,
    EpochEnd,
    Evaluation,
    HookDict,
    HookSet,
    Progress,
    Record,
    TrainResult,
    every,
    named,
    train,
    when,
)
from trainhooks.core import Scope, bind
from trainhooks.errors import DuplicateHookNameError
from trainhooks.hooks import History, csv, history


def run(*hooks: HookSet | HookDict, epochs: int = 2) -> TrainResult:
    model = linear()
    evaluations = [Evaluation("val", batches(1)), Evaluation("test", batches(1), when=every(4, "updates"))]
    return train(
        model, batches(3), squares, sgd(model), epochs=epochs, evaluations=evaluations, hooks=list(hooks)
    )  # fmt: skip


def kept(result: TrainResult) -> History:
    state = result.hook_states["history"]
    assert isinstance(state, History)
    return state


def loss_of_each_batch(ctx: BatchEnd) -> Record:
    return Record({"batch/loss": ctx.loss})


def late(ctx: EpochEnd) -> Record | None:
    return Record({"late": 0.5}) if ctx.at.epochs == 2 else None


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv_format.DictReader(file))


def test_history_keeps_every_record_with_its_moment_and_source() -> None:
    each_batch: HookDict = {"name": "each_batch", "on_batch_end": loss_of_each_batch}
    result = run(each_batch, history())
    entries = kept(result).entries
    assert [(one.by, one.at.updates, tuple(one.values)) for one in entries] == [
        *[("each_batch", update, ("batch/loss",)) for update in (1, 2, 3)],
        ("loop", 3, ("train/loss",)),
        ("loop", 3, ("val/loss",)),
        ("each_batch", 4, ("batch/loss",)),
        ("loop", 4, ("test/loss",)),
        *[("each_batch", update, ("batch/loss",)) for update in (5, 6)],
        ("loop", 6, ("train/loss",)),
        ("loop", 6, ("val/loss",)),
    ]
    assert entries[3].at == Progress(updates=3, batches=3, epochs=1, epoch=0, batch=2)


def test_history_gives_the_series_of_a_name() -> None:
    result = run(history())
    assert kept(result).names == ("train/loss", "val/loss", "test/loss")
    rows = result.history
    assert kept(result).series("val/loss") == [(3, rows[0]["val/loss"]), (6, rows[1]["val/loss"])]
    assert kept(result).series("val/loss", "epochs") == [(1, rows[0]["val/loss"]), (2, rows[1]["val/loss"])]
    assert kept(result).series("gone") == []


def test_history_is_new_in_each_run() -> None:
    """Keeps P12."""
    hook = history()
    first, second = kept(run(hook)), kept(run(hook))
    assert first == second
    assert first is not second


def test_csv_has_a_row_for_each_moment_and_a_column_for_each_value(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "metrics.csv"
    result = run(csv(path))
    rows = table(path)
    assert list(rows[0]) == ["epoch", "updates", "batches", "train/loss", "val/loss", "test/loss"]
    assert [(row["epoch"], row["updates"], row["batches"]) for row in rows] == [
        ("0", "3", "3"), ("1", "4", "4"), ("1", "6", "6"),
    ]  # fmt: skip
    for row, kept_row in zip((rows[0], rows[2]), result.history, strict=True):
        assert float(row["train/loss"]) == kept_row["train/loss"]
        assert float(row["val/loss"]) == kept_row["val/loss"]
    assert (rows[0]["test/loss"], rows[1]["train/loss"]) == ("", "")
    assert float(rows[1]["test/loss"]) == result.metrics["test/loss"]


def test_csv_takes_a_value_that_comes_late_into_a_column_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    run(csv(path), {"on_epoch_end": late}, epochs=3)
    rows = table(path)
    assert list(rows[0])[-1] == "late"
    assert [row["late"] for row in rows] == ["", "", "0.5", ""] + [""] * (len(rows) - 4)
    assert [row["updates"] for row in rows] == ["3", "4", "6", "8", "9"]
    assert all(row["train/loss"] and row["val/loss"] for row in rows if row["updates"] in ("3", "6", "9"))
    assert [one.name for one in tmp_path.iterdir()] == ["metrics.csv"]


def test_csv_drops_no_record_of_single_batches(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    result = run({"on_batch_end": loss_of_each_batch}, csv(path), history(), epochs=40)
    series = kept(result).series("batch/loss")
    assert [(int(row["updates"]), float(row["batch/loss"])) for row in table(path) if row["batch/loss"]] == series
    assert len(series) == 120


def test_a_row_is_in_the_file_once_its_record_is_delivered(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    lines: list[int] = []

    def look(ctx: EpochEnd) -> None:
        lines.append(len(table(path)))

    run(csv(path), {"on_epoch_end": look}, epochs=3)
    assert lines == [0, 2, 4]


def test_csv_of_every_second_epoch_holds_all_that_was_recorded_in_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    each_batch: HookDict = {"on_batch_end": loss_of_each_batch}
    run(each_batch, *when(every(2, "epochs"), csv(path)))
    assert [(row["epoch"], row["updates"]) for row in table(path)] == [("1", "4"), ("1", "5"), ("1", "6")]
    assert list(table(path)[0])[:3] == ["epoch", "updates", "batches"]


def test_a_run_replaces_the_file_of_an_earlier_one(tmp_path: Path) -> None:
    """Keeps P12."""
    path = tmp_path / "metrics.csv"
    hook = csv(path)
    run(hook, epochs=3)
    run(hook)
    again = path.read_text()
    run(csv(tmp_path / "other.csv"))
    assert again == (tmp_path / "other.csv").read_text()


def test_a_table_that_cannot_be_written_is_refused_before_the_first_batch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    seen: list[BatchEnd] = []
    with pytest.raises(OSError, match="file") as caught:
        run(csv(tmp_path / "file" / "metrics.csv"), {"on_batch_end": seen.append})
    assert "Raised in the init of the hook set 'csv'." in caught.value.__notes__
    assert seen == []


def test_two_tables_have_two_names(tmp_path: Path) -> None:
    one, other = csv(tmp_path / "one.csv"), csv(tmp_path / "other.csv")
    with pytest.raises(DuplicateHookNameError):
        run(one, other)
    run(one, named("other", other))
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "other.csv").read_text()


def test_values_are_written_so_that_they_are_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    numbers = [0.1 + 0.2, 1e-300, float("inf"), -0.0]

    def odd(ctx: EpochEnd) -> Record:
        return Record({"odd": numbers[ctx.at.epoch]})

    run({"on_epoch_end": odd}, csv(path), epochs=4)
    assert [float(row["odd"]) for row in table(path) if row["odd"]] == numbers


def test_a_name_may_hold_commas_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    name = 'loss, "in nats"'

    def nats(ctx: EpochEnd) -> Record:
        return Record({name: 0.25 * ctx.at.epochs})

    run({"on_epoch_end": nats}, csv(path), {"on_epoch_end": late}, epochs=3)
    assert [row[name] for row in table(path) if row[name]] == ["0.25", "0.5", "0.75"]


def test_a_row_that_becomes_shorter_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    hook = csv(path)
    at = Progress(updates=1, batches=1)
    begin = place("on_train_begin")
    assert hook.init is not None
    scope = Scope(name="csv", clock=lambda: 0.0, state=hook.init(begin))
    (write,) = (one.call for one in bind(hook, "on_record", scope))
    for value in (0.125, 0.5):
        write(place("on_record", at=at, since=at, by="x", values={"x": value}))
    assert path.read_text() == "epoch,updates,batches,x\n0,1,1,0.5\n"


def test_a_table_on_a_full_disk_is_an_error_at_its_next_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def write_a_part(descriptor: int, line: bytes) -> int:
        return write(descriptor, line[:3])

    monkeypatch.setattr(os, "write", write_a_part)
    with pytest.raises(OSError, match="Only a part of a row could be written") as caught:
        run(csv(tmp_path / "metrics.csv"))
    assert caught.value.errno == errno.ENOSPC


def test_rows_past_the_state_that_a_run_goes_on_from_are_cut_off(tmp_path: Path) -> None:
    """The state after two epochs, and the file of a run that died after four."""
    path = tmp_path / "metrics.csv"
    hook = csv(path)
    state = run(hook, epochs=2).hook_states["csv"]
    first = path.read_text()
    run(hook, epochs=4)
    assert path.read_text().startswith(first)
    scope = Scope(name="csv", clock=lambda: 0.0, state=state)
    at = Progress(updates=7, batches=7, epochs=2, epoch=2, batch=0)
    (bound,) = bind(hook, "on_record", scope)
    bound.call(place("on_record", at=at, since=at, by="loop", values={"val/loss": 0.5}))
    assert path.read_text() == first + "2,7,7,,0.5,\n"
