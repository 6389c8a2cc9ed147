"""Hooks that keep what a run records: in memory, or in a table of comma-separated values."""

import csv as csv_format
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import final

from attrs import evolve, field, frozen

from trainhooks.core import HookSet, Progress, Recorded, TrainBegin, Unit, stateful

_COUNTS = ("epoch", "updates", "batches")


@final
@frozen(kw_only=True)
class Entry:
    """One record."""

    at: Progress
    """Progress when it was recorded."""
    by: str
    """Name of the hook set that recorded it; `"loop"` for the loop's own."""
    values: Mapping[str, float]
    """The values, by name."""


@final
@frozen
class History:
    """Every record of a run, in the order recorded; what `history` keeps."""

    entries: list[Entry] = field(factory=list[Entry])
    """The records; grows with the run."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all values, in the order in which they first came."""
        return tuple(dict.fromkeys(name for entry in self.entries for name in entry.values))

    def series(self, name: str, unit: Unit = "updates") -> list[tuple[int, float]]:
        """Each value of one name, with the count of finished `unit` at which it was recorded."""
        return [(getattr(one.at, unit), one.values[name]) for one in self.entries if name in one.values]


def history() -> HookSet:
    """Keep every record of the run in memory, as the state `result.hook_states["history"]`, a `History`.

    `TrainResult.history` has a row for each epoch; this has each record, those of single batches included.

    Example:
        >>> history()
        HookSet('history': on_record)
    """

    def on_record(ctx: Recorded, kept: History) -> tuple[History, None]:
        kept.entries.append(Entry(at=ctx.at, by=ctx.by, values=ctx.values))
        return kept, None

    return stateful("history", History, on_record=on_record)


@final
@frozen(kw_only=True)
class Sheet:
    """How far `csv` has written its file."""

    columns: tuple[str, ...] = _COUNTS
    """The names in the first line."""
    start: int = 0
    """Where the newest row begins, in bytes from the file's begin."""
    row: Mapping[str, float] = field(factory=dict[str, float])
    """The newest row; empty before the first."""


def csv(path: str | os.PathLike[str]) -> HookSet:
    """Write what the run records to a file of comma-separated values, a row for each moment at which anything is.

    What is recorded at one moment, such as an epoch's mean loss and its evaluations, shares a row. The columns are
    `epoch` (the epoch we are in, from 0), `updates` and `batches` (finished by then), and each value's name, in the
    order in which they first came; a cell is empty where nothing was recorded. Rows are in the file as soon as the
    record is delivered. Only rank 0 writes. For the rows of epochs alone: `when(every(1, "epochs"), csv(path))`.

    Args:
        path: The file; its folder is made if need be. A file that is there already is replaced when a run starts.

    Raises:
        OSError: when the run starts, if the file cannot be written.

    Example:
        >>> csv("runs/first/metrics.csv")
        HookSet('csv': on_record)
    """
    file = Path(path)

    def init(begin: TrainBegin) -> Sheet:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("r+b" if begin.resumed and file.exists() else "wb"):
            return Sheet()

    def on_record(ctx: Recorded, sheet: Sheet) -> tuple[Sheet, None]:
        counts = {"epoch": ctx.at.epoch, "updates": ctx.at.updates, "batches": ctx.at.batches}
        return _written(file, sheet, counts, ctx.values), None

    return stateful("csv", init, ranks=frozenset({0}), on_record=on_record)


def _written(file: Path, sheet: Sheet, counts: Mapping[str, float], values: Mapping[str, float]) -> Sheet:
    """Write values into the newest row if they belong to its moment, else into a new row below it."""
    new = tuple(name for name in values if name not in sheet.columns)
    if new or not sheet.row:
        sheet = _widened(file, sheet, new)
    start, row = sheet.start, {**counts, **values}
    if sheet.row:
        if all(sheet.row[name] == count for name, count in counts.items()):
            row = {**sheet.row, **values}
        else:
            start += len(_line(sheet.columns, sheet.row))
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(_line(sheet.columns, row))
        opened.truncate()
    return evolve(sheet, start=start, row=row)


def _widened(file: Path, sheet: Sheet, new: Sequence[str]) -> Sheet:
    """Give the file more columns, whole or not at all."""
    columns = (*sheet.columns, *new)
    with file.open("rb") as opened:
        kept = opened.read(sheet.start).decode()
    rows = list(csv_format.DictReader(io.StringIO(kept)))
    lines = b"".join([_line(columns, dict(zip(columns, columns, strict=True))), *(_line(columns, row) for row in rows)])
    draft = file.with_name(f"{file.name}.part")
    draft.write_bytes(lines + (_line(columns, sheet.row) if sheet.row else b""))
    os.replace(draft, file)
    return evolve(sheet, columns=columns, start=len(lines))


def _line(columns: Iterable[str], row: Mapping[str, object]) -> bytes:
    line = io.StringIO()
    csv_format.writer(line, lineterminator="\n").writerow([row.get(name, "") for name in columns])
    return line.getvalue().encode()
