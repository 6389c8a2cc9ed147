"""Files of tensors in the safetensors format: a header of JSON, then the tensors' bytes, without holes.

The package of that name reads them. They are written into memory that is there already, and read from a stream into
tensors of their own, so that neither way needs a second copy.
"""

import ctypes
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TypeAlias, TypeGuard, cast, final

import torch
from attrs import frozen
from torch import Tensor

from trainhooks.errors import CheckpointError

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes that may be looked at without a copy."""

NAMES: Mapping[torch.dtype, str] = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
}
"""What the format calls each dtype."""
_DTYPES = {name: dtype for dtype, name in NAMES.items()}
_METADATA = "__metadata__"
_LENGTH = struct.Struct("<Q")


@final
@frozen(kw_only=True)
class Place:
    """Where one tensor lies in a file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    """Its first byte, counted from that of the first tensor."""
    end: int
    """The byte after its last."""


@final
@frozen(kw_only=True)
class Layout:
    """Where everything lies in a file of tensors."""

    header: bytes
    """The file's first bytes; as many as a multiple of eight, so that each tensor is aligned."""
    places: tuple[Place, ...]
    """The tensors, one directly after the other."""
    size: int
    """The whole file, in bytes."""


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """Where these tensors go: those of greater elements first, which aligns them all; otherwise in the order given.

    Raises:
        CheckpointError: if the format has no name for a tensor's dtype.
    """
    return _layout_of(tuple((name, tensor.dtype, tensor.shape) for name, tensor in tensors.items()))


@lru_cache(maxsize=8)  # the state of a run keeps its shapes from save to save
def _layout_of(tensors: tuple[tuple[str, torch.dtype, torch.Size], ...]) -> Layout:
    places: list[Place] = []
    end = 0
    for name, dtype, shape in sorted(tensors, key=lambda one: -one[1].itemsize):
        if dtype not in NAMES:
            raise CheckpointError(f"The tensor {name!r} is of the dtype {dtype}, which cannot be saved.")
        begin, end = end, end + shape.numel() * dtype.itemsize
        places.append(Place(name=name, dtype=dtype, shape=tuple(shape), begin=begin, end=end))
    entries: dict[str, object] = {_METADATA: {"format": "pt"}}
    for one in places:
        entries[one.name] = {"dtype": NAMES[one.dtype], "shape": one.shape, "data_offsets": (one.begin, one.end)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Layout(header=_LENGTH.pack(len(text)) + text, places=tuple(places), size=_LENGTH.size + len(text) + end)


def write_tensors(memory: Tensor, layout: Layout, tensors: Mapping[str, Tensor], *, non_blocking: bool = False) -> None:
    """Copy tensors to where they lie in a file.

    Args:
        memory: The file, as a tensor of bytes on the CPU that begins at a multiple of eight.
        layout: What `layout_of` gives for the tensors.
        tensors: The tensors by name, on any device.
        non_blocking: Whether this may return before tensors of a GPU have arrived, if the memory is pinned.
    """
    start = len(layout.header)
    memory[:start].copy_(torch.frombuffer(bytearray(layout.header), dtype=torch.uint8))
    with torch.no_grad():
        sizes = [one.end - one.begin for one in layout.places]
        parts = cast("tuple[Tensor, ...]", memory[start:].split(sizes))
        for one, part in zip(layout.places, parts, strict=True):
            tensor = tensors[one.name]
            part.view(one.dtype).view_as(tensor).copy_(tensor, non_blocking=non_blocking)


def read_tensors(chunks: Iterable[Buffer], size: int) -> dict[str, Tensor]:
    """The tensors of a file that comes piece by piece, each in memory of its own.

    Args:
        chunks: The file's bytes, in pieces of any length.
        size: How many bytes they are together; no more memory than this is asked for.

    Raises:
        CheckpointError: if they are not a whole file of tensors.
    """
    pieces = _Pieces(iter(chunks))
    (length,) = cast("tuple[int]", _LENGTH.unpack(pieces.take(_LENGTH.size)))
    if length > size - _LENGTH.size:
        raise CheckpointError("it is not a file of tensors: its header would be longer than the file")
    tensors: dict[str, Tensor] = {}
    for place in _places(bytes(pieces.take(length)), size - _LENGTH.size - length):
        tensor = torch.empty(place.shape, dtype=place.dtype)
        pieces.fill(memory_of(tensor))
        tensors[place.name] = tensor
    if not pieces.at_end():
        raise CheckpointError("it is longer than it should be")
    return tensors


def memory_of(tensor: Tensor) -> memoryview:
    """The bytes of a dense tensor on the CPU, which must outlive them."""
    size = tensor.numel() * tensor.element_size()
    return memoryview((ctypes.c_ubyte * size).from_address(tensor.data_ptr())).cast("B") if size else memoryview(b"")


def _places(header: bytes, size: int) -> list[Place]:
    """What a header says, if it accounts for each of so many bytes of tensors."""
    try:
        entries: object = json.loads(header)
        if not _is_object(entries):
            raise ValueError("it is not an object")
        places = sorted(
            (_place(name, entry) for name, entry in entries.items() if name != _METADATA),
            key=lambda one: (one.begin, one.end),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"it is not a file of tensors: its header cannot be read ({error})") from None
    position = 0
    for one in places:
        if one.begin != position or one.end - one.begin != math.prod(one.shape) * one.dtype.itemsize:
            raise CheckpointError(f"it is not a file of tensors: {one.name!r} does not lie where its header says")
        position = one.end
    if position != size:
        raise CheckpointError("it is not a file of tensors: its header does not account for all of its bytes")
    return places


def _place(name: str, entry: object) -> Place:
    if not _is_object(entry):
        raise ValueError(f"{name!r} is not an object")
    begin, end = cast("tuple[int, int]", entry["data_offsets"])
    shape = tuple(cast("list[int]", entry["shape"]))
    if any(type(number) is not int or number < 0 for number in (begin, end, *shape)):
        raise ValueError(f"{name!r} has a size that is none")
    return Place(name=name, dtype=_DTYPES[cast("str", entry["dtype"])], shape=shape, begin=begin, end=end)


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


@final
class _Pieces:
    """A stream of bytes that is read in other pieces than it comes in."""

    def __init__(self, chunks: Iterator[Buffer]) -> None:
        self._chunks = chunks
        self._open = memoryview(b"")

    def take(self, size: int) -> bytearray:
        """The next so many bytes."""
        taken = bytearray(size)
        self.fill(memoryview(taken))
        return taken

    def fill(self, memory: memoryview) -> None:
        """Read as many bytes as there is memory for."""
        position = 0
        while position < len(memory):
            if not self._open:
                self._open = self._next()
            part = self._open[: len(memory) - position]
            memory[position : position + len(part)] = part
            self._open = self._open[len(part) :]
            position += len(part)

    def at_end(self) -> bool:
        """Whether all is read; this reads on."""
        return not self._open and all(not chunk for chunk in self._chunks)

    def _next(self) -> memoryview:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise CheckpointError("it is shorter than it should be")
        return memoryview(chunk).cast("B")
