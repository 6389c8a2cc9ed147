"""Batches reach the device whatever they are made of, and come back without their graph."""

from collections import OrderedDict, UserDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from attrs import define, frozen
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from trainhooks.loop import move
from trainhooks.loop.transfer import detached

META = torch.device("meta")
CPU = torch.device("cpu")


class Named(NamedTuple):
    x: Tensor
    label: str


@dataclass(frozen=True)
class Data:
    x: Tensor
    label: str = "a"
    extra: list[Tensor] = field(default_factory=list[Tensor])


@frozen
class Record:
    x: Tensor
    label: str = "a"


@define
class Slotted:
    x: dict[str, Tensor]


class Encoding(UserDict[str, Tensor]):
    def to(self, device: torch.device) -> "Encoding":
        return Encoding({name: value.to(device) for name, value in self.items()})


def ones() -> Tensor:
    return torch.ones(2)


def tensor_at(batch: Any, path: tuple[str | int, ...]) -> Tensor:
    """The tensor that these keys and fields, one after another, lead to."""
    for key in path:
        batch = getattr(batch, key) if isinstance(key, str) and hasattr(batch, key) else batch[key]
    assert isinstance(batch, Tensor)
    return batch


@pytest.mark.parametrize(
    ("batch", "path"),
    [
        (ones(), ()),
        ((ones(), 1), (0,)),
        ([ones(), "a"], (0,)),
        ({"x": ones(), 3: None}, ("x",)),
        (OrderedDict({"x": ones()}), ("x",)),
        (Named(ones(), "a"), ("x",)),
        (Data(ones()), ("x",)),
        (Data(ones(), extra=[ones()]), ("extra", 0)),
        (Record(ones()), ("x",)),
        (Slotted({"x": ones()}), ("x", "x")),
        (((ones(),), {"x": [ones()]}), (1, "x", 0)),
        (Encoding({"x": ones()}), ("x",)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_tensors_move_and_their_containers_stay_what_they_are(batch: object, path: tuple[str | int, ...]) -> None:
    moved = move(batch, META)
    assert type(moved) is type(batch)
    assert tensor_at(moved, path).device == META
    assert tensor_at(batch, path).device == CPU


ATOMS = ["text", None, 5, {1, 2}, object(), b"bytes", Named]


@pytest.mark.parametrize("batch", ATOMS, ids=lambda one: type(one).__name__)
def test_anything_else_passes_as_it_is(batch: object) -> None:
    assert move(batch, META) is batch
    assert detached(batch) is batch


def test_what_is_there_already_is_not_rebuilt() -> None:
    batch = {"x": (ones(), [Record(ones())])}
    assert move(batch, CPU) is batch
    assert detached(batch) is batch


def test_an_object_that_moves_itself_is_asked_first() -> None:
    packed = pack_sequence([torch.ones(3), torch.ones(2)])
    moved = move(packed, META)
    assert isinstance(moved, PackedSequence)
    assert moved.batch_sizes.device == CPU


def test_detaching_reaches_everywhere_and_leaves_the_original() -> None:
    x = torch.ones(2, requires_grad=True) * 2
    batch = {"x": [Data(x)], "y": ones()}
    free = detached(batch)
    assert not tensor_at(free, ("x", 0, "x")).requires_grad
    assert tensor_at(batch, ("x", 0, "x")) is x
    assert free["y"] is batch["y"]
