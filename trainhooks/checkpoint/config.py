"""The configuration of a run, as a checkpoint carries it, and what of it may change when the run goes on."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, cast, final

import torch
from attrs import frozen

from trainhooks.core import HookSet, Run
from trainhooks.loop import DueEvaluation

_MAY_CHANGE = ("epochs", "max_updates", "world_size", "evaluations", "observers", "hyperparams")


@final
@frozen
class Difference:
    """A field of the configuration that is not what it was."""

    field: str
    """Its name; `hyperparams.lr` for one hyperparameter."""
    was: object
    """In the checkpoint; None if it was not there."""
    now: object
    """In the run that goes on; None if it is not there."""
    may_change: bool
    """Whether a run can go on with this."""

    def __str__(self) -> str:
        return f"{self.field}: {self.was!r} -> {self.now!r}"


def config_of(
    run: Run,
    sets: Sequence[HookSet],
    evaluations: Sequence[DueEvaluation],
    objectives: Sequence[str],
    hyperparams: Mapping[str, object],
) -> dict[str, Any]:
    """What a run was asked to do, as plain data."""
    return {
        "epochs": run.epochs,
        "max_updates": run.max_updates,
        "accumulate": run.accumulate,
        "precision": run.precision,
        "seed": run.seed,
        "world_size": run.rank.world,
        "objectives": list(objectives),
        "hooks": [f"{one.name} (order {one.order})" for one in sets if one.writes],
        "observers": [f"{one.name} (order {one.order})" for one in sets if not one.writes],
        "evaluations": [f"{one.name}: {', '.join(('loss', *one.metrics))}" for one in evaluations],
        "hyperparams": plain(hyperparams),
    }


def versions() -> dict[str, str]:
    """What the run is computed with."""
    return {"python": platform.python_version(), "torch": torch.__version__, "trainhooks": version("trainhooks")}


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """What is not what it was, field by field."""
    return [
        Difference(name, before, after, name.partition(".")[0] in _MAY_CHANGE)
        for name, before, after in _fields(was, now)
        if before != after
    ]


def _fields(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    for name in dict.fromkeys([*was, *now]):
        before, after = was.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            inner = _fields(cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after))
            yield from ((f"{name}.{key}", one, other) for key, one, other in inner)
        elif isinstance(before, list) and isinstance(after, list):
            names, others = cast("list[str]", before), cast("list[str]", after)
            yield name, _without(names, others), _without(others, names)
        else:
            yield name, before, after


def _without(names: list[str], others: list[str]) -> list[str]:
    """What is not in both, or, if they differ in their order alone, everything."""
    return [one for one in names if one not in others] if sorted(names) != sorted(others) else names


def plain(value: object) -> Any:
    """`value` as JSON can hold it: what is no plain data is told by its `repr`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in cast("Mapping[object, object]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(one) for one in cast("Sequence[object]", value)]
    return repr(value)
