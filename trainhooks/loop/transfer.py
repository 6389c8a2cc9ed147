"""Batches: how they get to the device, and how they are handed out without their graph."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import attrs
import torch
from torch import Tensor

Transfer: TypeAlias = Callable[[Any, torch.device], Any]
"""How a batch gets to the device."""
Leaf: TypeAlias = Callable[[Tensor], Tensor]


def move(batch: Any, device: torch.device) -> Any:
    """A batch on its device: tensors in tuples, lists, mappings, named tuples and records; the rest passes as it is."""

    def there(tensor: Tensor) -> Tensor:
        if tensor.device == device:
            return tensor
        return tensor.to(device, non_blocking=tensor.is_pinned())

    return _mapped(batch, there, device)


def detached(value: Any) -> Any:
    """The same without autograd graph."""
    return _mapped(value, lambda tensor: tensor.detach() if tensor.requires_grad else tensor, None)


def _mapped(value: Any, leaf: Leaf, device: torch.device | None) -> Any:
    """`value` with `leaf` applied to every tensor in it; the same object where nothing changed."""
    if isinstance(value, Tensor):
        return leaf(value)
    if isinstance(value, tuple | list):
        items = [_mapped(one, leaf, device) for one in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        pairs = {key: _mapped(one, leaf, device) for key, one in value.items()}
        return value if all(pairs[key] is value[key] for key in pairs) else pairs
    if value is None or isinstance(value, str | bytes | int | float | bool):
        return value
    if (names := tuple(_fields(value))) and not isinstance(value, type):
        changes = {name: _mapped(getattr(value, name), leaf, device) for name in names}
        if all(changes[name] is getattr(value, name) for name in names):
            return value
        copy = object.__new__(type(value))
        for name in names:
            object.__setattr__(copy, name, changes[name])
        return copy
    if device is not None and callable(to := getattr(value, "to", None)):
        return to(device)
    return value


def _fields(value: object) -> Iterator[str]:
    if attrs.has(type(value)):
        return (one.name for one in attrs.fields(type(value)))
    return iter(getattr(value, "__dataclass_fields__", {}))
