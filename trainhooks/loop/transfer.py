"""Batches: how they get to the device, and how they are handed out without their graph."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trainhooks.core import INSIDE, changed, name_of
from trainhooks.errors import HookDefinitionError

Transfer: TypeAlias = Callable[[Any, torch.device], Any]
"""How a batch gets to the device."""

_CPU = torch.device("cpu")
_PLAIN = (tuple, list, dict)  # they cannot move themselves; their subclasses may


def move(batch: Any, device: torch.device) -> Any:
    """A batch on its device, copied without waiting where its memory is pinned.

    Tensors are moved in whatever can be rebuilt (`trainhooks.core.containers` says what that is); an object with a
    method `to(device)` is asked; anything else passes as it is.
    """
    kind: object = type(batch)  # pyright: ignore[reportUnknownVariableType]
    if kind in _PLAIN:  # most batches, and most are there already
        on_cpu = device == _CPU
        parts: Iterable[Any] = batch.values() if kind is dict else batch
        for part in parts:
            if not isinstance(part, Tensor) or not (part.is_cpu if on_cpu else part.device == device):
                break
        else:
            return batch

    def there(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part if part.device == device else part.to(device, non_blocking=_is_pinned(part))
        if type(part) not in _PLAIN and (to := _own_to(part)) is not None:
            return to(device)
        return INSIDE

    return changed(batch, there)


def transfer_of(given: Transfer | None) -> Transfer:
    """How a run's batches get to the device: as `given` says, which returns the batch, or by the rule."""
    if given is None:
        return move

    def transfer(batch: Any, device: torch.device) -> Any:
        there = given(batch, device)
        if there is None and batch is not None:
            raise HookDefinitionError(
                f"transfer returns the batch on the device, but {name_of(given)!r} returned None. Did it forget to?"
            )
        return there

    return transfer


def detached(value: Any) -> Any:
    """The same without autograd graph, as far as it can be rebuilt; the very object where there is none to leave."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    kind: object = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in _PLAIN:  # most batches, and most have no graph
        parts: Iterable[Any] = value.values() if kind is dict else value
        for part in parts:
            if not isinstance(part, Tensor) or part.requires_grad:
                break
        else:
            return value
    return changed(value, _detached)


def _detached(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.detach() if part.requires_grad else part
    return INSIDE


def _is_pinned(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.is_pinned()


def _own_to(part: Any) -> Callable[[torch.device], Any] | None:
    """The method `to` of an object."""
    if isinstance(part, type):
        return None
    try:
        to: object = getattr(part, "to", None)
    except Exception:  # a dict whose keys are its attributes may raise KeyError
        return None
    return to if callable(to) else None
