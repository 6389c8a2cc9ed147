"""Tensors of which each rank holds a part: who writes which, what is said of it, and how they are put together."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor

from tests.ranks import on_ranks
from trainhooks.checkpoint.engine import load, planned
from trainhooks.checkpoint.parts import share, whole
from trainhooks.checkpoint.shards import Sharded, Shards, Slice, assembled, document_of, shards_in
from trainhooks.distributed import join, rank_here
from trainhooks.errors import CheckpointError

CPU = torch.device("cpu")
NUMBERS = torch.arange(15.0).view(5, 3)
SHARDS: Shards = {
    "model:w": Sharded(
        torch.float32,
        (5, 3),
        (Slice("model.0.safetensors", (0, 0), (3, 3)), Slice("model.1.safetensors", (3, 0), (2, 3))),
    ),
    "model:one": Sharded(
        torch.bfloat16, (1,), (Slice("model.0.safetensors", (0,), (1,)), Slice("model.1.safetensors", (1,), (0,)))
    ),
}


def sharded(tensor: Tensor, *placements: Placement) -> DTensor:
    return distribute_tensor(tensor, init_device_mesh("cpu", (rank_here().world,)), placements)


def plan() -> tuple[dict[str, list[Any]], Shards | None]:
    here = rank_here()
    join(here, CPU)
    tensors = {"model:w": sharded(NUMBERS, Shard(0)), "model:one": sharded(torch.ones(1).bfloat16(), Shard(0))}
    parts, shards = planned(tensors, here.index)
    return {name: one.tolist() for name, one in parts.items()}, shards


def test_each_rank_writes_its_part_and_rank_0_knows_where_all_are() -> None:
    (first, shards), (second, nothing) = on_ranks(2, plan)
    assert first == {"model:w": NUMBERS[:3].tolist(), "model:one": [1.0]}
    assert second == {"model:w": NUMBERS[3:].tolist(), "model:one": []}
    assert shards == SHARDS
    assert nothing is None


def replicated() -> tuple[list[str], Shards | None]:
    here = rank_here()
    join(here, CPU)
    parts, shards = planned({"model:w": sharded(NUMBERS, Replicate())}, here.index)
    return list(parts), shards


def test_what_every_rank_has_whole_is_written_once() -> None:
    (first, shards), (second, _) = on_ranks(2, replicated)
    assert sorted(first + second) == ["model:w"]
    assert shards is not None
    assert [one.shape for one in shards["model:w"].slices] == [(5, 3)]


def read_again(placements: Sequence[Placement]) -> list[list[float]]:
    """Each rank reads what it needs of what two wrote, and the ranks put it together."""
    here = rank_here()
    join(here, CPU)
    target = sharded(torch.zeros(5, 3), *placements)
    files = {"model.0.safetensors": NUMBERS[:3], "model.1.safetensors": NUMBERS[3:]}
    load({"model:w": target}, SHARDS, lambda file: {"model:w": files[file]})
    return cast("list[list[float]]", target.full_tensor().tolist())


@pytest.mark.parametrize("placements", [[Shard(0)], [Shard(1)], [Replicate()]])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_parts_are_read_into_any_other_parts(placements: list[Placement], world: int) -> None:
    assert on_ranks(world, read_again, placements) == [NUMBERS.tolist()] * world


def one_cannot_read() -> str:
    here = rank_here()
    join(here, CPU)

    def read(file: str) -> dict[str, Tensor]:
        if here.index == 1:
            raise CheckpointError(f"{file} is gone")
        return {"model:w": NUMBERS[:3]}

    with pytest.raises(CheckpointError) as caught:
        load({"model:w": sharded(torch.zeros(5, 3), Shard(0))}, SHARDS, read)
    return str(caught.value)


def test_a_rank_that_cannot_read_is_named_on_all() -> None:
    said = "The parts that the ranks hold could not be brought together: rank 1: model.1.safetensors is gone"
    assert on_ranks(2, one_cannot_read) == [said, said]


def test_what_the_file_says_of_the_parts_is_read_as_it_was() -> None:
    text = json.dumps(document_of(SHARDS)).encode()
    assert shards_in([text[:7], text[7:]], len(text)) == SHARDS


@pytest.mark.parametrize(
    "tensors",
    [
        None,
        {"model:w": {}},
        {"model:w": {"dtype": "F31", "shape": [1], "slices": []}},
        {"model:w": {"dtype": "F32", "shape": 1, "slices": []}},
        {"model:w": {"dtype": "F32", "shape": [1], "slices": [{"file": "model.0.safetensors"}]}},
    ],
)
def test_a_file_that_does_not_say_where_the_parts_are_is_no_such_file(tensors: Any) -> None:
    text = json.dumps({"format": "trainhooks.shards", "version": 1, "tensors": tensors}).encode()
    with pytest.raises(CheckpointError, match="it does not say where the parts of tensors are"):
        shards_in([text], len(text))


PARTS = {"model.0.safetensors": {"model:w": NUMBERS[:3]}, "model.1.safetensors": {"model:w": NUMBERS[3:]}}


def test_parts_make_the_whole() -> None:
    found = assembled(SHARDS, ["model:w"], PARTS.items())
    assert {name: one.tolist() for name, one in found.items()} == {"model:w": NUMBERS.tolist()}


def test_a_part_that_is_missing_or_of_another_shape_is_an_error() -> None:
    with pytest.raises(CheckpointError, match=r"'model:w' that should be in model\.1\.safetensors is not there"):
        assembled(SHARDS, ["model:w"], list(PARTS.items())[:1])
    other = {**PARTS, "model.1.safetensors": {"model:w": NUMBERS}}
    with pytest.raises(CheckpointError, match=r"in model.1.safetensors has the shape \(5, 3\), not \(2, 3\)"):
        assembled(SHARDS, ["model:w"], other.items())


def parts_of_a_state() -> tuple[list[str], list[str], str]:
    here = rank_here()
    join(here, CPU)
    state = {"model": {"w": sharded(NUMBERS, Shard(0)), "b": torch.ones(1)}, "step": 3}
    part = share(state, here.index)
    with pytest.raises(CheckpointError) as caught:
        whole(state)
    return [f"{file}: {', '.join(one)}" for file, one in part.files.items()], list(part.documents), str(caught.value)


def test_rank_0_also_writes_what_is_whole_and_what_the_parts_are_put_together_by() -> None:
    (first, documents, refusal), (second, nothing, _) = on_ranks(2, parts_of_a_state)
    assert first == ["model.safetensors: b", "model.0.safetensors: w"]
    assert documents == ["state.json", "shards.json"]
    assert second == ["model.1.safetensors: w"]
    assert nothing == []
    assert refusal.startswith("The state of the run holds a part of the sharded tensor 'model:w'")
