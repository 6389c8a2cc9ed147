"""`trainhooks runs ls`: a row for each run."""

import sys
from collections.abc import Mapping, Sequence
from typing import final

from attrs import frozen

from trainhooks.checkpoint import best_of
from trainhooks.sinks import show_table
from trainhooks.store import open_store

from .exits import GOOD
from .finding import runs_in
from .folder import RunFolder, read_folder
from .numbers import moment, plain, print_json, several, short

HEAD = ("project", "name", "run", "steps", "newest whole", "attempts", "best", "started")


@final
@frozen(kw_only=True)
class Best:
    """The best checkpoint by one of the values that a run watches."""

    metric: str
    mode: str
    """`min` or `max`."""
    value: float
    step: int
    key: str
    """Of its manifest."""

    def as_json(self) -> Mapping[str, object]:
        """As `--json` has it."""
        return {
            "metric": self.metric,
            "mode": self.mode,
            "value": plain(self.value),
            "step": self.step,
            "manifest": self.key,
        }


def list_runs(url: str, as_json: bool) -> int:
    """Print a row for each run at a place or below it."""
    store = open_store(url)
    runs = [read_folder(one) for one in runs_in(store)]
    if as_json:
        print_json([row(one) for one in runs])
        return GOOD
    if runs:
        show_table(HEAD, [cells(one) for one in runs])
    else:
        print(f"There is no run in {store.url}.", file=sys.stderr)
    for one in runs:
        if one.unreadable:
            what = several(len(one.unreadable), "record")
            print(f"{what} of {one.found.store.url} cannot be read; see trainhooks runs verify.", file=sys.stderr)
    return GOOD


def row(run: RunFolder) -> dict[str, object]:
    """What is told of a run in one row, as JSON has it."""
    whole = run.newest_whole
    return {
        "url": run.found.store.url,
        "project": run.name_of("project", 2),
        "name": run.name_of("name", 1),
        "run": run.found.run_id,
        "started": None if run.started is None else run.started.isoformat(),
        "steps": run.visible[0].step if run.visible else None,
        "newest_whole": None if whole is None else {"step": whole.step, "manifest": whole.key},
        "attempts": len(run.attempts),
        "best": [one.as_json() for one in bests(run)],
        "unreadable": dict(run.unreadable),
    }


def cells(run: RunFolder) -> Sequence[str]:
    """What is told of a run in one row of the table."""
    whole = run.newest_whole
    best = [f"{one.metric} {short(one.value)} at {one.step}" for one in bests(run)]
    return (
        run.name_of("project", 2),
        run.name_of("name", 1),
        run.found.run_id,
        str(run.visible[0].step) if run.visible else "-",
        "-" if whole is None else str(whole.step),
        str(len(run.attempts)),
        ", ".join(best) or "-",
        moment(run.started) or "-",
    )


def bests(run: RunFolder) -> list[Best]:
    """The best checkpoint by each value that the run watches, of those that count."""
    watched = run.visible[0].monitors if run.visible else ()
    found = [(metric, mode, best_of(run.visible, metric, mode)) for metric, mode in watched]
    return [
        Best(metric=metric, mode=mode, value=one.metrics[metric], step=one.step, key=one.key)
        for metric, mode, one in found
        if one is not None
    ]
