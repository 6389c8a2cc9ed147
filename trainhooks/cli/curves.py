"""The values of a run over its steps, and a line of blocks for each."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, cast

from trainhooks.checkpoint import Manifest
from trainhooks.errors import StorageError

from .folder import RunFolder

BLOCKS = "▁▂▃▄▅▆▇█"
LETTERS = "_.-=+*#@"
"""The same heights where there are no blocks."""
_NOTHING = "x"

Curves: TypeAlias = dict[str, dict[int, float]]
"""By name: the value at each step, in the order of the steps."""


def curves_of(run: RunFolder) -> Curves:
    """Every value that the run's checkpoints hold: at their own steps, and at the ends of the epochs before.

    Raises:
        StorageError: if the store cannot be read.
    """
    newest = run.newest_whole
    return curves(run.visible, [] if newest is None else _history(run, newest))


def curves(manifests: Iterable[Manifest], history: Iterable[Mapping[str, object]]) -> Curves:
    """The values by name and step; of a step that both tell of, the checkpoint's counts."""
    found: Curves = {}
    for row in history:
        step = row.get("updates")
        for name, value in row.items():
            if isinstance(step, int) and name not in ("epoch", "updates") and isinstance(value, int | float):
                found.setdefault(name, {})[step] = float(value)
    for one in manifests:
        for name, value in one.metrics.items():
            found.setdefault(name, {})[one.step] = value
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def sparkline(values: Sequence[float], width: int = 60, marks: str = BLOCKS) -> str:
    """A line of blocks, each as high as its value; with more values than `width`, as the mean of some in a row.

    What is NaN or infinite is an x.

    Example:
        >>> sparkline([1.0, 2.0, float("nan"), 8.0])
        '▁▂x█'
    """
    shown = min(len(values), width)
    parts = [values[at * len(values) // shown : (at + 1) * len(values) // shown] for at in range(shown)]
    means = [_mean([one for one in part if math.isfinite(one)]) for part in parts]
    finite = [one for one in means if one is not None]
    if not finite:
        return _NOTHING * shown
    low, reach = min(finite), max(finite) / 2 - min(finite) / 2  # halves, which never overflow
    top = len(marks) - 1
    return "".join(
        _NOTHING if one is None else marks[round(top * ((one / 2 - low / 2) / reach)) if reach else top // 2]
        for one in means
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(one / len(values) for one in values) if values else None


def _history(run: RunFolder, newest: Manifest) -> list[Mapping[str, object]]:
    """The rows of the finished epochs in a checkpoint's state; none if that cannot be read."""
    file = newest.file("state.json")
    if file is None:
        return []
    try:
        state = json.loads(bytes(run.found.store.get(file.key)))
        rows = state["tree"]["loop"]["history"]
    except (ValueError, LookupError, TypeError):
        return []
    except StorageError as error:
        if error.kind == "missing":  # it was removed since it was listed
            return []
        raise
    return [cast("Mapping[str, object]", row) for row in rows if isinstance(row, Mapping)]
