"""Batches: how they get to the device, and how they are handed out without their graph."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from copy import copy
from operator import is_
from typing import Any, TypeAlias, cast

import attrs
import torch
from torch import Tensor

Transfer: TypeAlias = Callable[[Any, torch.device], Any]
"""How a batch gets to the device."""
Change: TypeAlias = Callable[[Any], Any]

_CPU = torch.device("cpu")
_PLAIN = (tuple, list, dict)  # they cannot move themselves; their subclasses may


def move(batch: Any, device: torch.device) -> Any:
    """A batch on its device, copied without waiting where its memory is pinned.

    Tensors in tuples, lists, dicts, named tuples, dataclasses and attrs records are moved; an object with a method
    `to(device)` is asked; anything else passes as it is.
    """
    if type(batch) in (tuple, list):  # most batches, and most are there already
        on_cpu = device == _CPU
        for part in batch:
            if not isinstance(part, Tensor) or not (part.is_cpu if on_cpu else part.device == device):
                break
        else:
            return batch

    def there(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part if part.device == device else part.to(device, non_blocking=part.is_pinned())
        if type(part) not in _PLAIN and callable(to := getattr(part, "to", None)):
            return to(device)
        return _rebuilt(part, there)

    return there(batch)


def detached(value: Any) -> Any:
    """The same without autograd graph."""
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    if type(value) in (tuple, list):  # most batches, and most have no graph
        for part in value:
            if not isinstance(part, Tensor) or part.requires_grad:
                break
        else:
            return value
    return _rebuilt(value, detached)


def _rebuilt(value: Any, change: Change) -> Any:
    """A container with `change` applied to its parts; the same object where nothing changed, or if it is none."""
    if value is None:
        return None
    if isinstance(value, tuple | list):
        parts = cast("Sequence[Any]", value)
        changed = [change(one) for one in parts]
        if all(map(is_, changed, parts)):
            return parts
        make = cast("Callable[..., Any]", type(parts))
        return make(*changed) if hasattr(parts, "_fields") else make(changed)
    if isinstance(value, dict):
        pairs = cast("MutableMapping[object, Any]", value)
        news = {key: change(one) for key, one in pairs.items()}
        if all(news[key] is pairs[key] for key in pairs):
            return pairs
        twin = copy(pairs)
        twin.update(news)
        return twin
    return _record(value, change)


def _record(value: Any, change: Change) -> Any:
    changes = {name: change(getattr(value, name)) for name in fields_of(value)}
    if all(new is getattr(value, name) for name, new in changes.items()):
        return value
    twin = copy(value)
    for name, new in changes.items():
        object.__setattr__(twin, name, new)  # frozen records too
    return twin


def fields_of(value: object) -> Iterator[str]:
    """Names of the fields of a dataclass or an attrs record; none of anything else."""
    attributes: Iterable[attrs.Attribute[object]] = getattr(type(value), "__attrs_attrs__", ())
    yield from (one.name for one in attributes)
    yield from getattr(type(value), "__dataclass_fields__", ())
