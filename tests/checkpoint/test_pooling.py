"""What ranks gather into one state, and what each of as many, fewer or more ranks gets back of it."""

from typing import Any

import numpy
import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from tests.ranks import on_ranks
from trainhooks.checkpoint.pooling import part_of, pooled
from trainhooks.core import Rank
from trainhooks.distributed import join, rank_here
from trainhooks.errors import CheckpointError

CPU = torch.device("cpu")


def loop_of(rank: int) -> dict[str, Any]:
    return {"fed": 6, "means": [{"loss": rank}], "history": [rank]}


def state_of(rank: int) -> dict[str, Any]:
    """The state of one rank; every value says whose it is."""
    return {
        "progress": {"updates": 3},
        "model": {"w": torch.ones(2), "seen": torch.tensor(rank), "same": torch.zeros(1)},
        "buffers": {"seen": torch.tensor(rank), "same": torch.zeros(1)},
        "loop": loop_of(rank),
        "data": {"place": rank},
        "random": {"numpy": numpy.array([rank, 2**32 - 1], dtype=numpy.uint32)},
        "generators": {"data": torch.full((3,), rank, dtype=torch.uint8)},
        "hooks": {
            "plain": [rank],
            "average": {"w": torch.full((2,), float(rank))},
            **({"second": rank} if rank else {}),
        },
    }


def pool(world_states: Any = state_of) -> Any:
    here = rank_here()
    ranks = join(here, CPU)
    return pooled(ranks, world_states(here.index), CPU)


def test_rank_0_gets_what_is_each_ranks_own_and_nothing_twice() -> None:
    whole, *rest = on_ranks(3, pool)
    assert rest == [None, None]
    assert whole["hooks"]["plain"] == [0]
    assert whole["hooks"]["average"]["w"].tolist() == [0.0, 0.0]
    assert "buffers" not in whole
    for rank, own in enumerate(whole["ranks"], start=1):
        assert own.keys() == {"loop", "data", "random", "generators", "hooks", "buffers"}
        assert own["loop"] == loop_of(rank)
        assert own["data"] == {"place": rank}
        assert own["random"]["numpy"].tolist() == [rank, 2**32 - 1]
        assert own["generators"]["data"].tolist() == [rank] * 3
        assert own["hooks"] == {"plain": [rank], "second": rank}
        assert {name: one.item() for name, one in own["buffers"].items()} == {"seen": rank}


def test_each_of_as_many_ranks_gets_its_own_back() -> None:
    whole, _ = on_ranks(2, pool)
    for rank in (0, 1):
        own = part_of(whole, Rank(index=rank, world=2))
        assert own["hooks"] | {"average": None} == {"plain": [rank], "average": None} | ({"second": 1} if rank else {})
        assert own["hooks"]["average"]["w"].tolist() == [0.0, 0.0]
        assert own["model"]["seen"].item() == rank
        assert own["model"]["w"].tolist() == [1.0, 1.0]
        assert own["data"] == {"place": rank}
        assert own["loop"] == {**loop_of(rank), "means": [[{"loss": rank}]]}
        assert "ranks" not in own


def test_fewer_ranks_take_over_the_means_and_the_place_of_those_that_are_gone() -> None:
    whole, _, _ = on_ranks(3, pool)
    first, second = (part_of(whole, Rank(index=rank, world=2)) for rank in (0, 1))
    assert first["loop"]["means"] == [[{"loss": 0}], [{"loss": 2}]]
    assert second["loop"]["means"] == [[{"loss": 1}]]
    assert first["loop"]["fed"] == second["loop"]["fed"] == 6


def test_a_rank_that_is_new_goes_on_as_rank_0_without_its_streams_and_means() -> None:
    whole, _ = on_ranks(2, pool)
    third = part_of(whole, Rank(index=2, world=3))
    assert third["loop"] == {"fed": 6, "means": [], "history": [0]}
    assert third["hooks"]["plain"] == [0]
    assert third["model"]["seen"].item() == 0
    assert (third["random"], third["generators"], third["data"]) == (None, {}, None)


def test_the_state_of_one_process_is_its_own() -> None:
    alone = {name: one for name, one in state_of(0).items() if name != "buffers"}
    own = part_of(alone, Rank())
    assert own["loop"] == {**loop_of(0), "means": [[{"loss": 0}]]}
    assert own["hooks"] is alone["hooks"]


def with_an_object_on_rank_1(rank: int) -> dict[str, Any]:
    state = state_of(rank)
    state["hooks"]["odd"] = object() if rank == 1 else 0
    return state


def refused(states: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        pool(states)
    return str(caught.value)


def test_what_cannot_be_saved_on_one_rank_is_an_error_there_and_where_it_is_written() -> None:
    first, second = on_ranks(2, refused, with_an_object_on_rank_1)
    assert second.startswith("The state of the run holds a builtins.object at hooks.odd, which a checkpoint cannot")
    assert first == f"Rank 1: {second}"


def with_a_part_on_rank_1(rank: int) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (2,))
    part = distribute_tensor(torch.ones(4), mesh, [Shard(0)])
    state = state_of(rank)
    if rank == 1:
        state["hooks"]["lonely"] = {"w": part}
    return state


def test_a_part_of_a_sharded_tensor_without_the_others_is_an_error() -> None:
    first, second = on_ranks(2, refused, with_a_part_on_rank_1)
    assert "the sharded tensor 'state:hooks.lonely.w', whose other parts are not there" in second
    assert first == f"Rank 1: {second}"
