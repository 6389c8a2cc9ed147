"""The tree that was encoded as JSON data and named tensors."""

import base64
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import cast, final

import torch
from attrs import evolve, frozen
from torch import Tensor

from trainhooks.errors import CheckpointError

from .shards import Absent
from .tree import Json, Tree


def decode(
    skeleton: Json,
    tensors: Mapping[str, Tensor],
    *,
    device: torch.device | None = None,
    sharded: Mapping[str, Tensor | Absent] = {},
) -> Tree:
    """The tree of which `encode` made this; it takes over the tensors.

    Args:
        skeleton: The JSON data.
        tensors: The tensors by name, on the CPU.
        device: Where the tensors go that were not on the CPU when they were encoded; None leaves them on the CPU.
        sharded: Those of which each process held a part, whole or not read yet.

    Raises:
        CheckpointError: if the skeleton is not what `encode` makes.
    """
    return _Decoder(tensors, device, sharded).decode(skeleton)


@final
@frozen
class _Decoder:
    tensors: Mapping[str, Tensor]
    device: torch.device | None
    sharded: Mapping[str, Tensor | Absent]

    def decode(self, data: Json) -> Tree:
        if isinstance(data, list):
            return [self.decode(one) for one in cast("list[Json]", data)]
        if not isinstance(data, dict):
            return data
        items = cast("dict[str, Json]", data)
        tag = next(iter(items), "")
        if not tag.startswith("$"):
            return {key: self.decode(one) for key, one in items.items()}
        if (read := _READERS.get(tag)) is None:
            raise CheckpointError(f"The checkpoint uses {tag!r}, which this version of trainhooks does not know.")
        return read(self, items)

    def all(self, data: Json) -> list[Tree]:
        return [self.decode(one) for one in cast("list[Json]", data)]

    def pairs(self, data: Json) -> dict[object, object]:
        return {self.decode(key): self.decode(one) for key, one in cast("list[tuple[Json, Json]]", data)}

    def tensor(self, mark: Mapping[str, Json]) -> Tensor:
        tensor = self.tensors[cast("str", mark["$tensor"])]
        if "dtype" in mark:
            dtype = _dtype(mark["dtype"])
            tensor = torch.view_as_complex(tensor) if dtype.is_complex else tensor.view(dtype)
        return self.moved(tensor, mark)

    def part(self, mark: Mapping[str, Json]) -> Tensor | Absent:
        found = self.sharded[cast("str", mark["$sharded"])]
        if isinstance(found, Absent):
            return evolve(found, on_device="device" in mark)
        return self.moved(found, mark)

    def moved(self, tensor: Tensor, mark: Mapping[str, Json]) -> Tensor:
        return tensor.to(self.device) if "device" in mark and self.device is not None else tensor

    def scalar(self, items: Mapping[str, Json]) -> object:
        value = cast("float", self.decode(items["$scalar"]))
        return torch.tensor(value, dtype=_dtype(items["dtype"])).numpy()[()]


def _dtype(name: Json) -> torch.dtype:
    found = getattr(torch, cast("str", name), None)
    if not isinstance(found, torch.dtype):
        raise CheckpointError(f"The checkpoint holds data of the dtype {name!r}, which this version of torch has not.")
    return found


_READERS: dict[str, Callable[[_Decoder, dict[str, Json]], Tree]] = {
    "$tensor": lambda decoder, items: decoder.tensor(items),
    "$sharded": lambda decoder, items: decoder.part(items),
    "$array": lambda decoder, items: decoder.tensor(cast("dict[str, Json]", items["$array"])).numpy(),
    "$scalar": lambda decoder, items: decoder.scalar(items),
    "$float": lambda _, items: float(cast("str", items["$float"])),
    "$tuple": lambda decoder, items: tuple(decoder.all(items["$tuple"])),
    "$size": lambda decoder, items: torch.Size(cast("list[int]", items["$size"])),
    "$set": lambda decoder, items: set(decoder.all(items["$set"])),
    "$frozenset": lambda decoder, items: frozenset(decoder.all(items["$frozenset"])),
    "$dict": lambda decoder, items: decoder.pairs(items["$dict"]),
    "$ordered": lambda decoder, items: OrderedDict(decoder.pairs(items["$ordered"])),
    "$counter": lambda decoder, items: Counter(cast("dict[object, int]", decoder.pairs(items["$counter"]))),
    "$bytes": lambda _, items: base64.b64decode(cast("str", items["$bytes"])),
    "$complex": lambda decoder, items: complex(*cast("list[float]", decoder.all(items["$complex"]))),
    "$dtype": lambda _, items: _dtype(items["$dtype"]),
    "$device": lambda _, items: torch.device(cast("str", items["$device"])),
}
