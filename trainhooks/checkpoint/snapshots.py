"""Copies of a run's state in host memory, laid out as the files will be, in a bounded number of buffers."""

import mmap
import threading
from collections.abc import Iterable, Mapping
from typing import Any, cast, final

import torch
from attrs import define, field, frozen
from torch import Tensor

from .parts import Part, whole
from .tensors import Layout, layout_of, write_tensors
from .tree import Json, Tree

_ALIGNMENT = 64
"""Bytes; each file of a snapshot begins at a multiple."""


@final
@frozen(kw_only=True)
class Pending:
    """A file of a snapshot that is still to be written."""

    name: str
    """Such as `model.safetensors`."""
    data: memoryview
    """Its bytes, until the snapshot is released."""


@final
@define
class Snapshot:
    """The state of a run at one moment, or the part of it that one rank writes; later changes do not reach it."""

    documents: Mapping[str, Json]
    """What goes into files of JSON, by their names."""
    _slot: "_Slot | None"
    _pool: "SnapshotPool"
    _layouts: Mapping[str, Layout]
    _arrivals: list[torch.cuda.Event]

    def files(self) -> list[Pending]:
        """The files of tensors, once all tensors have arrived."""
        assert self._slot is not None, "a snapshot is written before it is released"
        for arrival in self._arrivals:
            arrival.synchronize()
        begins = _begins(self._layouts.values())
        return [
            Pending(name=name, data=self._slot.data[begin : begin + layout.size])
            for begin, (name, layout) in zip(begins, self._layouts.items(), strict=False)
        ]

    def release(self) -> None:
        """Give the memory back to the pool, unless that is done already."""
        if self._slot is not None:
            self._pool.give_back(self._slot)
            self._slot = None


@final
class SnapshotPool:
    """So many buffers at most, each as large as the largest state that it held; they are used again and again.

    Args:
        slots: How many snapshots there may be at once, 1 or more.
    """

    def __init__(self, slots: int = 2) -> None:
        self._free = [_Slot() for _ in range(slots)]
        self._changed = threading.Condition()

    def take(self, tree: Tree | Part, *, wait: bool = True) -> Snapshot | None:
        """Copy a state, or a part of one. Its tensors may change as soon as this returns.

        Args:
            tree: The state, see `encode`, or what one rank writes of it.
            wait: Whether to wait for a buffer if all are in use; if not, None is returned.

        Raises:
            CheckpointError: if the state holds what cannot be saved.
        """
        slot = self._free_slot(wait)
        if slot is None:
            return None
        try:
            part = tree if isinstance(tree, Part) else whole(tree)
            files = part.files
            layouts = {name: layout_of(members) for name, members in files.items()}
            devices = {tensor.device for members in files.values() for tensor in members.values() if tensor.is_cuda}
            begins = _begins(layouts.values())
            slot.reserve(begins[-1], pinned=bool(devices))
            for begin, (name, layout) in zip(begins, layouts.items(), strict=False):
                memory = slot.memory[begin : begin + layout.size]
                write_tensors(memory, layout, files[name], non_blocking=bool(devices))
            return Snapshot(part.documents, slot, self, layouts, [_recorded(device) for device in devices])
        except BaseException:
            self.give_back(slot)
            raise

    def give_back(self, slot: "_Slot") -> None:
        """Take a buffer back."""
        with self._changed:
            self._free.append(slot)
            self._changed.notify()

    def empty(self) -> None:
        """Give the memory of the free buffers back to the system; it is taken again when needed."""
        with self._changed:
            for slot in self._free:
                slot.drop()

    def _free_slot(self, wait: bool) -> "_Slot | None":
        with self._changed:
            while not self._free:
                if not wait:
                    return None
                self._changed.wait()
            return self._free.pop()  # the one used last: its pages are there


@final
@define(eq=False)
class _Slot:
    """One buffer. It is mapped, so that it can be pinned as it is and goes back to the system at once."""

    memory: Tensor = field(factory=lambda: torch.empty(0, dtype=torch.uint8))
    data: memoryview = field(factory=lambda: memoryview(b""))
    pinned: bool = False

    def reserve(self, size: int, *, pinned: bool) -> None:
        if len(self.data) < size:
            self.drop()
            mapped = mmap.mmap(-1, size)
            self.memory, self.data = torch.frombuffer(mapped, dtype=torch.uint8), memoryview(mapped)
        if pinned and not self.pinned and len(self.data):
            failed = cast("Any", torch.cuda.cudart()).cudaHostRegister(self.memory.data_ptr(), len(self.data), 0)
            self.pinned = not int(failed)  # where it fails, copies block

    def drop(self) -> None:
        if self.pinned:
            cast("Any", torch.cuda.cudart()).cudaHostUnregister(self.memory.data_ptr())
        self.memory, self.data, self.pinned = torch.empty(0, dtype=torch.uint8), memoryview(b""), False


def _begins(layouts: Iterable[Layout]) -> list[int]:
    """Where each file begins in a buffer, and where the last one ends."""
    begins = [0]
    for layout in layouts:
        end = begins[-1] + layout.size
        begins.append(end + -end % _ALIGNMENT)
    return begins


def _recorded(device: torch.device) -> torch.cuda.Event:
    """An event behind all that the device was asked to do so far."""
    arrival = torch.cuda.Event()
    arrival.record(torch.cuda.current_stream(device))
    return arrival
