"""Hooks that keep what a run records: in memory, or in a table of comma-separated values."""

import csv as csv_format
import errno
import io
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from attrs import define, field, frozen

from trainhooks.core import HookSet, Progress, Recorded, TrainBegin, Unit, factory, stateful

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


@factory
def history() -> HookSet:
    """Keep every record of the run in memory, as the state `result.hook_states["history"]`, a `History`.

    `TrainResult.history` has a row for each epoch; this has each record, those of single batches included.

    Example:
        >>> history()
        history()
    """

    def on_record(ctx: Recorded, kept: History) -> tuple[History, None]:
        kept.entries.append(Entry(at=ctx.at, by=ctx.by, values=ctx.values))
        return kept, None

    return stateful("history", History, on_record=on_record)


@final
@define(kw_only=True)
class Sheet:
    """How far `csv` has written its file."""

    file: Path = field(eq=False, repr=False)
    """The file."""
    columns: tuple[str, ...] = _COUNTS
    """The names in the first line."""
    start: int = 0
    """Where the newest row begins, in bytes from the file's begin."""
    end: int = 0
    """Where it ends, and the next one begins."""
    row: Mapping[str, float] = field(factory=dict[str, float])
    """The newest row; empty before the first."""

    def state_dict(self) -> dict[str, object]:
        """What a checkpoint holds of it."""
        return {"columns": self.columns, "start": self.start, "end": self.end, "row": dict(self.row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, with the file as it was then: without the rows of a process that died later."""
        self.columns, self.start, self.end = tuple(state["columns"]), state["start"], state["end"]
        self.row = dict(state["row"])
        kept = _kept(self)
        if kept is None:
            warnings.warn(
                f"{self.file} does not hold the rows that this run wrote before its checkpoint. It is begun anew, and "
                "has the rows from here on.",
                RuntimeWarning,
                stacklevel=2,
            )
            kept, self.row = _header(self.columns), {}
            self.start = self.end = len(kept)
        _replace(self.file, kept + (_line(self.columns, self.row) if self.row else b""))


@factory
def csv(path: str | os.PathLike[str]) -> HookSet:
    """Write what the run records to a file of comma-separated values, a row for each moment at which anything is.

    What is recorded at one moment, such as an epoch's mean loss and its evaluations, shares a row. The columns are
    `epoch` (the epoch we are in, from 0), `updates` and `batches` (finished by then), and each value's name, in the
    order in which they first came; a cell is empty where nothing was recorded. Rows are in the file as soon as the
    record is delivered. Only rank 0 writes. For every tenth epoch alone: `when(every(10, "epochs"), csv(path))`.

    Args:
        path: The file; its folder is made if need be. A file that is there already is replaced when a run starts. A
            run that goes on from a checkpoint goes on with the file: rows past the checkpoint are removed at once.

    Raises:
        OSError: when the run starts, if the file cannot be written.

    Warns:
        RuntimeWarning: if a run goes on and the file is not there, or lacks rows: on another machine, perhaps. It is
            then begun anew.

    Example:
        >>> csv("runs/first/metrics.csv")
        csv(path='runs/first/metrics.csv')
    """
    file = Path(path)

    def init(begin: TrainBegin) -> Sheet:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("r+b" if begin.resumed and file.exists() else "wb"):
            return Sheet(file=file)

    def on_record(ctx: Recorded, sheet: Sheet) -> tuple[Sheet, None]:
        at = ctx.at
        counts = {"epoch": at.epoch, "updates": at.updates, "batches": at.batches}
        return _written(sheet, counts, ctx.values), None

    return stateful("csv", init, ranks=frozenset({0}), on_record=on_record)


def _written(sheet: Sheet, counts: Mapping[str, float], values: Mapping[str, float]) -> Sheet:
    """Write values into the newest row if they belong to its moment, else into a new row below it."""
    new = [name for name in values if name not in sheet.columns]
    if new or not sheet.row:
        sheet = _widened(sheet, new)
    start, row = sheet.end, {**counts, **values}
    if counts == {name: sheet.row.get(name) for name in counts}:
        start, row = sheet.start, {**sheet.row, **values}
    line = _line(sheet.columns, row)
    _overwrite(sheet.file, start, line)
    return Sheet(file=sheet.file, columns=sheet.columns, start=start, end=start + len(line), row=row)


def _overwrite(file: Path, start: int, line: bytes) -> None:
    """Make a line the file's last; a whole row costs fewer calls of the system than an `open` alone."""
    descriptor = os.open(file, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        os.lseek(descriptor, start, os.SEEK_SET)
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, "Only a part of a row could be written", str(file))
        if size > start + len(line):
            os.ftruncate(descriptor, start + len(line))
    finally:
        os.close(descriptor)


def _widened(sheet: Sheet, new: Sequence[str]) -> Sheet:
    """Give the file more columns, whole or not at all."""
    columns = (*sheet.columns, *new)
    with sheet.file.open("rb") as opened:
        kept = opened.read(sheet.start).decode()
    lines = _table(columns, csv_format.DictReader(io.StringIO(kept)))
    newest = _line(columns, sheet.row) if sheet.row else b""
    _replace(sheet.file, lines + newest)
    return Sheet(
        file=sheet.file, columns=columns, start=len(lines), end=len(lines) + len(newest), row=sheet.row
    )  # fmt: skip


def _kept(sheet: Sheet) -> bytes | None:
    """The file up to the newest row of a checkpoint, as it was then; None if that is not in it."""
    if not sheet.start:
        return b""
    try:
        content = sheet.file.read_bytes()
    except FileNotFoundError:
        return None
    if not content.startswith(_header(sheet.columns)):
        content = _narrowed(content, sheet.columns)
    kept = content[: sheet.start]
    return kept if len(kept) == sheet.start and kept.endswith(b"\n") else None


def _narrowed(content: bytes, columns: tuple[str, ...]) -> bytes:
    """A file without the columns that came later; nothing of a file that is another one."""
    rows = csv_format.DictReader(io.StringIO(content.decode(errors="replace")))
    try:
        return _table(columns, rows) if tuple(rows.fieldnames or ())[: len(columns)] == columns else b""
    except csv_format.Error:
        return b""


def _replace(file: Path, content: bytes) -> None:
    """Write a file anew, whole or not at all."""
    draft = file.with_name(f"{file.name}.part")
    draft.write_bytes(content)
    os.replace(draft, file)


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> bytes:
    return b"".join([_header(columns), *(_line(columns, row) for row in rows)])


def _header(columns: Iterable[str]) -> bytes:
    line = io.StringIO()
    csv_format.writer(line, lineterminator="\n").writerow(columns)
    return line.getvalue().encode()


def _line(columns: Iterable[str], row: Mapping[str, object]) -> bytes:
    """A row of numbers; they need no quotes, and are written so that they are read back equal."""
    return (",".join([str(row.get(name, "")) for name in columns]) + "\n").encode()
