"""`trainhooks runs show`: one run in all that its folder tells."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from trainhooks.checkpoint import Attempt, Manifest
from trainhooks.sinks import printable, show_table

from .curves import BLOCKS, LETTERS, Curves, curves_of, sparkline
from .exits import GOOD
from .finding import newest_run
from .folder import RunFolder, read_folder
from .numbers import moment, plain, print_json, short, size
from .overview import bests, row

ATTEMPT_HEAD = ("attempt", "resumed from", "changed", "host", "pid", "torch", "trainhooks")
CHECKPOINT_HEAD = ("step", "epoch", "attempt", "created", "size", "tags", "metrics", "notes")
CURVE_HEAD = ("value", "curve", "first", "last", "least", "most", "steps")


def show_run(url: str, as_json: bool) -> int:
    """Print what the folder of a run tells, or of the newest run of an experiment."""
    run = read_folder(newest_run(url))
    curves = curves_of(run)
    if as_json:
        print_json(document(run, curves))
    else:
        _print(run, curves)
    return GOOD


def document(run: RunFolder, curves: Curves) -> dict[str, object]:
    """Everything, as JSON has it."""
    superseded = {one.key for one in run.superseded}
    return row(run) | {
        "facts": dict(run.facts),
        "attempts": [
            {"number": one.number, "resumed_from": one.resumed_from, **one.facts, "changes": _changes(one)}
            for one in run.attempts
        ],
        "checkpoints": [_checkpoint(run, one, one.key in superseded) for one in run.manifests],
        "curves": {name: [[step, plain(value)] for step, value in line.items()] for name, line in curves.items()},
    }


def facts(run: RunFolder) -> Iterator[tuple[str, str]]:
    """What never changes of the run, in words: the configuration that it began with, and what it ran on."""
    yield from _flat("", run.facts)


def attempt_cells(one: Attempt) -> Sequence[str]:
    """An attempt's row of the table."""
    origin = "-" if one.resumed_from is None else f"step {one.resumed_from}"
    known = [str(one.facts.get(name, "-")) for name in ("host", "pid", "torch", "trainhooks")]
    return (str(one.number), origin, "; ".join(_changes(one)) or "-", *known)


def checkpoint_cells(run: RunFolder, one: Manifest) -> Sequence[str]:
    """A checkpoint's row of the table."""
    values = ", ".join(f"{name} {short(value)}" for name, value in sorted(one.metrics.items()))
    return (
        str(one.step),
        str(one.epoch),
        str(one.attempt),
        one.created[:19].replace("T", " "),
        size(_size(one)),
        ", ".join(tag for tag in one.tags if tag) or "-",
        values or "-",
        ", ".join(marks(run, one)),
    )


def marks(run: RunFolder, one: Manifest) -> list[str]:
    """What is special about a checkpoint."""
    best = [f"best {other.metric}" for other in bests(run) if other.key == one.key]
    said = {
        "superseded": one.key in {other.key for other in run.superseded},
        "not whole": not run.is_whole(one),
        "pinned": one.pinned,
    }
    return [*(word for word, holds in said.items() if holds), *best]


def curve_cells(name: str, line: Mapping[int, float], blocks: str) -> Sequence[str]:
    """A value's row of the table."""
    values, steps = list(line.values()), list(line)
    numbers = [one for one in values if not math.isnan(one)] or values
    told = (short(one) for one in (values[0], values[-1], min(numbers), max(numbers)))
    return (name, sparkline(values, marks=blocks), *told, f"{steps[0]} to {steps[-1]}")


def _print(run: RunFolder, curves: Curves) -> None:
    heading = " / ".join((run.name_of("project", 2), run.name_of("name", 1), run.found.run_id))
    print(printable(heading))
    print(printable(run.found.store.url))
    if run.started is not None:
        print(f"started {moment(run.started)} UTC")
    _print_table("Facts", ("fact", "value"), list(facts(run)))
    _print_table("Attempts", ATTEMPT_HEAD, [attempt_cells(one) for one in run.attempts])
    _print_table("Checkpoints", CHECKPOINT_HEAD, [checkpoint_cells(run, one) for one in run.manifests])
    blocks = BLOCKS if _can_show(BLOCKS) else LETTERS
    _print_table("Values", CURVE_HEAD, [curve_cells(name, line, blocks) for name, line in curves.items()])
    _print_table("Not readable", ("object", "because"), list(run.unreadable.items()))


def _print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        print(f"\n{title}", flush=True)
        show_table(head, rows)


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _checkpoint(run: RunFolder, one: Manifest, superseded: bool) -> dict[str, object]:
    return {
        "step": one.step,
        "epoch": one.epoch,
        "epochs": one.epochs,
        "attempt": one.attempt,
        "manifest": one.key,
        "created": one.created,
        "size": _size(one),
        "tags": [tag for tag in one.tags if tag],
        "metrics": {name: plain(value) for name, value in one.metrics.items()},
        "pinned": one.pinned,
        "superseded": superseded,
        "whole": run.is_whole(one),
    }


def _changes(one: Attempt) -> list[str]:
    """What had changed in the configuration when it went on."""
    return [change for change in str(one.facts.get("changes", "")).split("; ") if change]


def _size(one: Manifest) -> int:
    return sum(file.size for file in one.files)


def _flat(above: str, facts: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{above}{name}.", cast("Mapping[str, object]", value))
        else:
            parts = cast("list[object]", value) if isinstance(value, list) else [] if value is None else [value]
            yield f"{above}{name}", ", ".join(map(str, parts)) or "-"
