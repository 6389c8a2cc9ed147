"""The configuration of a run, as a checkpoint carries it, and what of it may change when the run goes on."""

import ast
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, cast, final

import torch
from attrs import frozen

from trainhooks.core import HookSet, Run, key_of, told
from trainhooks.loop import DueEvaluation
from trainhooks.store import stored

_FACTORY = "made by"
_WRAPPERS = {
    "for_rank()": "ranks", "for_device()": "devices", "when()": "when", "quarantine()": "quarantined",
    "timed()": "timed",
}  # fmt: skip
"""A wrapper, as it is written, and the field of a set that it fills."""
_LONGEST = 2_000
"""Of two texts together, in characters: longer ones are not parsed."""
_LISTED = ("objectives", "hooks", "observers", "evaluations")
_MAY_CHANGE = ("epochs", "max_updates", "world_size", "evaluations", "observers", "hyperparams")


@final
@frozen
class Difference:
    """A field of the configuration that is not what it was."""

    field: str
    """Its name; `hyperparams.lr` for one hyperparameter, `checkpoint: keep_last` for an argument of a set's factory."""
    was: object
    """In the checkpoint; None if it was not there."""
    now: object
    """In the run that goes on; None if it is not there."""
    may_change: bool
    """Whether a run can go on with this."""

    def __str__(self) -> str:
        if ": " in self.field:
            return f"{self.field} {self.was or 'nothing'} -> {self.now or 'nothing'}"
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
        "settings": _settings_of(sets),
        "hyperparams": stored(hyperparams),
    }


def _settings_of(sets: Sequence[HookSet]) -> dict[str, dict[str, str]]:
    """What each set was made with, argument by argument, and under which wrappers, as texts."""
    found: dict[str, dict[str, str]] = {}
    for one in sets:
        alike = sum(other.name == one.name for other in sets[: len(found)])
        made = {} if one.settings is None else {_FACTORY: told(one.settings.factory), **one.settings.told()}
        wrapped = {
            word: told(value)
            for word, field in _WRAPPERS.items()
            if (value := getattr(one, field)) not in (None, False)
        }
        found[f"{one.name} ({alike + 1})" if alike else one.name] = {**made, **wrapped}
    return found


def versions() -> dict[str, str]:
    """What the run is computed with."""
    return {"python": platform.python_version(), "torch": torch.__version__, "trainhooks": version("trainhooks")}


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """What is not what it was, field by field."""
    settings = was.get("settings", {}), now.get("settings", {})
    fields = _fields({**was, "settings": None}, {**now, "settings": None})
    return [
        *(
            Difference(name, before, after, name.partition(".")[0] in _MAY_CHANGE)
            for name, before, after in fields
            if before != after
        ),
        *(Difference(name, before, after, may_change=True) for name, before, after in _arguments(*settings)),
    ]


def _arguments(
    was: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, str | None, str | None]]:
    """What changed of the settings of sets that are in both; of one that another factory made, only that."""
    for name in (one for one in now if one in was):
        before, after = was[name], now[name]
        same_factory = before.get(_FACTORY) == after.get(_FACTORY)
        for argument in dict.fromkeys([*before, *after]) if same_factory else [_FACTORY]:
            if not _tell_the_same(before.get(argument), after.get(argument)):
                yield f"{name}: {argument}", before.get(argument), after.get(argument)


def _tell_the_same(one: str | None, other: str | None) -> bool:
    """Whether two texts tell of arguments that are equal, as 1 and 1.0 are, or a list and a tuple."""
    if one == other or one is None or other is None or len(one) + len(other) > _LONGEST:
        return one == other
    try:
        return key_of(ast.literal_eval(one)) == key_of(ast.literal_eval(other))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # not plain data
        return False


def _fields(was: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, object, object]]:
    for key in dict.fromkeys([*was, *now]):
        before, after, name = was.get(key), now.get(key), f"{within}{key}"
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _fields(cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after), f"{name}.")
        elif name in _LISTED and before is not None and after is not None:
            names, others = cast("list[str]", before), cast("list[str]", after)
            yield name, _without(names, others), _without(others, names)
        else:
            yield name, before, after


def _without(names: list[str], others: list[str]) -> list[str]:
    """What is not in both, or, if they differ in their order alone, everything."""
    return [one for one in names if one not in others] if sorted(names) != sorted(others) else names
