"""Hyperparameters: what they may be given as, and how they are stored."""

import argparse
import dataclasses
import functools
import math
import numbers
from collections.abc import Mapping, Sequence, Set
from datetime import date, time, timedelta
from enum import Enum
from os import PathLike, fspath
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import attrs
import torch
from torch import Tensor

from trainhooks.core import HookSet, Settings, Trigger, told
from trainhooks.errors import RunDefinitionError, shown

_AS_TEXT = (date, time, timedelta, UUID, range, torch.dtype, torch.device, torch.layout, torch.memory_format)


def hyperparams_of(given: object) -> Mapping[str, object]:
    """A copy of hyperparameters by name, of whatever holds them.

    Args:
        given: A mapping, a dataclass, an attrs record, a pydantic model, a named tuple, or a namespace.

    Raises:
        RunDefinitionError: if it is none of these, a name is no str, or a value cannot be stored.
    """
    found = _by_name(given)
    if found is None or not all(isinstance(name, str) for name in found):
        raise RunDefinitionError(
            f"Experiment(hyperparams=...) maps names to values, got {shown(given)}; give a dict, a dataclass, an "
            "attrs record, a pydantic model, or a namespace."
        )
    for name, value in found.items():
        try:
            stored(value, str(name))
        except RecursionError:
            raise RunDefinitionError(
                f"Experiment(hyperparams=...) got as {name} what holds itself, or is nested too deep to be "
                f"stored; leave {name} out."
            ) from None
    return cast("dict[str, object]", dict(found))


def stored(value: object, name: str = "hyperparams") -> Any:
    """`value` as JSON holds it: NaN and infinities as words, paths and dtypes as text, a function by its name.

    Raises:
        RunDefinitionError: for what cannot be told in that way, such as a model or a tensor of several elements.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of an enum's member too
    if isinstance(value, Enum):
        return value.name or str(value)  # several flags at once may have no name
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return _finite_or_word(float(value))
    if isinstance(value, PathLike):
        return str(fspath(cast("PathLike[str]", value)))
    if isinstance(value, (*_AS_TEXT, numbers.Number)):
        return str(cast("object", value))
    if (single := _single(value)) is not None:
        return stored(single, name)
    if (fields := _by_name(value)) is not None:
        return {_key(key): stored(one, f"{name}.{key}") for key, one in fields.items()}
    if isinstance(value, Set):
        return sorted((stored(one, name) for one in cast("Set[object]", value)), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        several = enumerate(cast("Sequence[object]", value))
        return [stored(one, f"{name}[{index}]") for index, one in several]
    if _is_told(value):
        return told(value)
    raise RunDefinitionError(
        f"Experiment(hyperparams=...) got {shown(value)} as {name}; give numbers, text, and lists and dicts of them, "
        f"such as str(...) of it, or leave {name} out."
    )


def _by_name(value: object) -> Mapping[object, object] | None:
    """What holds values by name, as a mapping; None for anything else."""
    fields: Any = value
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value)
    if isinstance(value, type | HookSet | Trigger) or isinstance(getattr(fields, "settings", None), Settings):
        return None
    kind: type = type(value)
    if attrs.has(kind):
        return {one.name: getattr(value, one.name) for one in attrs.fields(kind)}
    if dataclasses.is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, argparse.Namespace | SimpleNamespace):
        return cast("Mapping[object, object]", vars(value))
    for method in ("model_dump", "_asdict"):  # pydantic's, and named tuples'
        if callable(getattr(kind, method, None)):
            return cast("Mapping[object, object]", getattr(fields, method)())
    return None


def _single(value: object) -> object:
    """The Python number in a tensor or array of one element without dimensions, or in NumPy's bool; else None."""
    array: Any = value
    is_array = isinstance(value, Tensor) or type(value).__module__.partition(".")[0] == "numpy"
    return array.item() if is_array and getattr(array, "ndim", None) == 0 else None


def _finite_or_word(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _key(key: object) -> str:
    return key.name if isinstance(key, Enum) else str(key)


def _is_told(value: object) -> bool:
    """Whether it is known by its name, or by what it was made with."""
    if isinstance(value, functools.partial | HookSet | Trigger | type):
        return True
    return hasattr(value, "__qualname__") or isinstance(getattr(cast("Any", value), "settings", None), Settings)
