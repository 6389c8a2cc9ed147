"""From the samples of a batch to the batch, and the batch to pinned memory; tuples stay tuples on both ways."""

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, cast, final, runtime_checkable

import torch
from attrs import frozen
from typing_extensions import TypeVar

from trainhooks.core import INSIDE, changed

B_co = TypeVar("B_co", covariant=True)


def collated(samples: Sequence[object]) -> object:
    """The samples as one batch, as torch's `default_collate` makes it, but with tuples where the samples have them.

    Raises:
        RuntimeError: if sequences of the samples differ in length.
    """
    sample = samples[0]
    if isinstance(sample, tuple) or type(sample) is list:
        parts = cast("Sequence[Sequence[object]]", samples)
        if any(len(part) != len(parts[0]) for part in parts):
            raise RuntimeError(
                "The samples of a batch have sequences of different lengths; give seeded_loader collate_fn=, a "
                "function of the list of samples that pads or packs them."
            )
        return _like(parts[0], [collated(column) for column in zip(*parts, strict=True)])
    if type(sample) is dict:
        rows = cast("Sequence[dict[object, object]]", samples)
        return {key: collated([row[key] for row in rows]) for key in rows[0]}
    return cast("object", torch.utils.data.default_collate(list(samples)))


def _like(sequence: Sequence[object], parts: list[object]) -> object:
    """The parts in a list, a tuple or a named tuple, as the sequence is one."""
    kind: Callable[..., object] = type(sequence)
    if kind is list:
        return parts
    return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)


@final
@frozen(eq=False)
class Carried(Generic[B_co]):
    """A batch on its way to pinned memory: a `DataLoader` asks it to pin itself, and would make lists of tuples."""

    batch: B_co

    def pin_memory(self, _device: object = None) -> "Carried[B_co]":
        """The batch with its tensors in pinned memory."""
        return Carried(cast("B_co", pinned(self.batch)))


@runtime_checkable
class _Pinnable(Protocol):
    def pin_memory(self) -> object: ...


def pinned(value: object) -> object:
    """The value with its tensors in pinned memory; an object that can pin itself is asked."""
    return changed(value, _pinned)


def _pinned(part: object) -> object:
    if type(part) not in (tuple, list, dict) and isinstance(part, _Pinnable):
        return part.pin_memory()
    return INSIDE
