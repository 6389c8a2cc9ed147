"""A hook that keeps what a run records in the run's own folder, on any store."""

import json
import math
from typing import final

from attrs import evolve, field, frozen

from trainhooks.core import HookSet, Recorded, Run, TrainBegin, TrainEnd, factory, stateful

from .arguments import check_count
from .artifacts import run_folder

_FOLDER = "records/"


@final
@frozen(kw_only=True)
class Segments:
    """How far `jsonl` has come."""

    written: int = 0
    """Segments that are in the store."""
    waiting: list[str] = field(factory=list[str])
    """Lines of the next one."""
    size: int = 0
    """Their length, in characters."""


@factory
def jsonl(*, segment: int = 65_536) -> HookSet:
    """Write what the run records to its folder as lines of JSON, in segments that are never changed.

    Each line is an object: `epoch` (the epoch we are in, from 0), `updates` and `batches` (finished by then), `by` (who
    recorded it) and `values`; a value that is NaN is null, an infinite one `"Infinity"` or `"-Infinity"`. Segments are
    `records/000001.jsonl` and so on in the run's folder, in order: an object store cannot append, and nothing is sent
    twice. A run that is resumed goes on with the lines of its checkpoint; what the process before wrote past it is
    removed. Only rank 0 writes.

    Args:
        segment: Characters after which a segment is written, 1 or more; the last one is written at the run's end.

    Raises:
        HookDefinitionError: if `segment` is no such number.
        NoExperimentError: when the run begins, if it has no experiment.
        StorageError: in the run, if the store cannot be written; under `quarantine` the run goes on without.

    Example:
        >>> jsonl()
        jsonl()
    """
    check_count("jsonl", "segment", segment, 1)

    def init(begin: TrainBegin) -> Segments:
        run_folder(begin.run, "jsonl")
        return Segments()

    def on_train_begin(ctx: TrainBegin, segments: Segments) -> tuple[Segments, None]:
        if ctx.resumed:
            folder = run_folder(ctx.run, "jsonl")
            known = {_key(number) for number in range(1, segments.written + 1)}
            folder.delete([one.key for one in folder.list(_FOLDER) if one.key not in known])
        return segments, None

    def on_record(ctx: Recorded, segments: Segments) -> tuple[Segments, None]:
        line = _line(ctx)
        segments.waiting.append(line)
        segments = evolve(segments, size=segments.size + len(line))
        return (_written(ctx.run, segments) if segments.size >= segment else segments), None

    def on_train_end(ctx: TrainEnd, segments: Segments) -> tuple[Segments, None]:
        return (_written(ctx.run, segments) if segments.waiting else segments), None

    return stateful(
        "jsonl", init, ranks=frozenset({0}), on_train_begin=on_train_begin, on_record=on_record,
        on_train_end=on_train_end,
    )  # fmt: skip


def _written(run: Run, segments: Segments) -> Segments:
    """Write the lines that wait."""
    number = segments.written + 1
    run_folder(run, "jsonl").put(_key(number), "".join(segments.waiting).encode())
    return Segments(written=number)


def _line(ctx: Recorded) -> str:
    values = {name: _plain(value) for name, value in ctx.values.items()}
    counts = {"epoch": ctx.at.epoch, "updates": ctx.at.updates, "batches": ctx.at.batches}
    return json.dumps({**counts, "by": ctx.by, "values": values}, allow_nan=False) + "\n"


def _plain(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _key(number: int) -> str:
    return f"{_FOLDER}{number:06d}.jsonl"
