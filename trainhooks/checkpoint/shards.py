"""Tensors of which each rank holds a part: how a checkpoint says which of its files holds which part.

    shards.json: {"format": ..., "version": 1, "tensors": {"model:0.weight": {"dtype": "F32", "shape": [4, 3],
        "slices": [{"file": "model.0.safetensors", "begin": [0, 0], "shape": [2, 3]}, ...]}}}

A file of parts holds each under the name that the whole tensor has.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast, final

import torch
from attrs import asdict, frozen
from torch import Tensor

from trainhooks.errors import CheckpointError

from .manifest import check_version, object_of
from .tensors import NAMES

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

SHARDS = "shards.json"
SHARDS_FORMAT = "trainhooks.shards"
SHARDS_VERSION = 1

Json: TypeAlias = object
_DTYPES = {name: dtype for dtype, name in NAMES.items()}


@final
@frozen
class Slice:
    """A part of a tensor."""

    file: str
    """The checkpoint's file that holds it."""
    begin: tuple[int, ...]
    """Where it begins in the whole, in each dimension."""
    shape: tuple[int, ...]

    def of(self, whole: Tensor) -> Tensor:
        """This part of the whole, as a view."""
        return whole[tuple(slice(begin, begin + size) for begin, size in zip(self.begin, self.shape, strict=True))]


@final
@frozen
class Sharded:
    """A tensor that lies in a checkpoint part by part."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    slices: tuple[Slice, ...]


Shards: TypeAlias = Mapping[str, Sharded]
"""The sharded tensors of a checkpoint by their full names, such as `model:0.weight`."""


@final
@frozen
class Absent:
    """Stands in a tree for a sharded tensor that is not read yet."""

    name: str
    """Its full name."""
    sharded: Sharded
    on_device: bool = False
    """Whether it was on the device of the run, rather than on the CPU."""


def is_sharded(value: object) -> "TypeGuard[DTensor]":
    """Whether a tensor is one of which this process holds a part."""
    module = sys.modules.get("torch.distributed.tensor")  # who has not loaded it has none
    return module is not None and isinstance(value, module.DTensor)


def file_of(full: str, rank: int) -> str:
    """The file with a rank's part of a tensor."""
    return f"{full.partition(':')[0]}.{rank}.safetensors"


def group_of(file: str) -> tuple[str, bool] | None:
    """The group of names of which a file holds the tensors, and whether as parts; None if it holds no tensors."""
    stem = file.removesuffix(".safetensors")
    if stem == file:
        return None
    group, dot, _ = stem.partition(".")
    return group, bool(dot)


def document_of(shards: Shards) -> dict[str, Json]:
    """What `shards.json` says."""
    tensors = {
        name: {"dtype": NAMES[one.dtype], "shape": one.shape, "slices": [asdict(part) for part in one.slices]}
        for name, one in shards.items()
    }
    return {"format": SHARDS_FORMAT, "version": SHARDS_VERSION, "tensors": tensors}


def shards_in(chunks: Iterable[bytes], _: int) -> Shards:
    """What is read from `shards.json`.

    Raises:
        CheckpointError: if it is something else.
    """
    data = object_of(b"".join(chunks), SHARDS_FORMAT)
    check_version(data, SHARDS_VERSION)
    try:
        entries = cast("Mapping[str, Mapping[str, Json]]", data["tensors"])
        return {name: _sharded(one) for name, one in entries.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"it does not say where the parts of tensors are ({error!r})") from None


def assembled(
    shards: Shards, names: Iterable[str], parts: Iterable[tuple[str, Mapping[str, Tensor]]]
) -> dict[str, Tensor]:
    """The whole tensors of these full names.

    Args:
        shards: What the checkpoint says of them.
        names: Which.
        parts: Each file's name and what is in it, under full names; each is dropped before the next is read.

    Raises:
        CheckpointError: if a part is missing, or not of the shape that it should have.
    """
    wanted = {name: shards[name] for name in names}
    whole = {name: torch.empty(one.shape, dtype=one.dtype) for name, one in wanted.items()}
    open_ = {(part.file, name): part for name, one in wanted.items() for part in one.slices}
    for file, found in parts:
        for name, tensor in found.items():
            if (part := open_.pop((file, name), None)) is not None:
                check_part(name, part, tensor)
                part.of(whole[name]).copy_(tensor)
    if open_:
        file, name = next(iter(open_))
        raise CheckpointError(f"the part of {name!r} that should be in {file} is not there")
    return whole


def check_part(name: str, part: Slice, tensor: Tensor) -> None:
    """Refuse a part of another shape than it should have."""
    if tensor.shape != part.shape:
        raise CheckpointError(
            f"the part of {name!r} in {part.file} has the shape {tuple(tensor.shape)}, not {part.shape}"
        )


def _sharded(entry: Mapping[str, Json]) -> Sharded:
    slices = cast("list[Mapping[str, Json]]", entry["slices"])
    parts = (Slice(str(one["file"]), _sizes(one["begin"]), _sizes(one["shape"])) for one in slices)
    return Sharded(_DTYPES[cast("str", entry["dtype"])], _sizes(entry["shape"]), tuple(parts))


def _sizes(value: Json) -> tuple[int, ...]:
    return tuple(cast("list[int]", value))
