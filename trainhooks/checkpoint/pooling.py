"""The states of several ranks as one: what is a rank's own is gathered where the checkpoint is written, and given back.

| | saved |
|---|---|
| progress, model, optimizers, scaler, configuration | once, by rank 0: they are equal on all, or parts of one whole |
| random streams, generators, position in the data, the loop's own | of every rank |
| buffers of the model | by rank 0; of every other rank those that are not equal to rank 0's |
| states of hook sets that hold tensors | once, of the lowest rank that has the set |
| other states of hook sets | of every rank that has the set |
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from trainhooks.core import Rank
from trainhooks.distributed import Ranks
from trainhooks.errors import CheckpointError
from trainhooks.loop import State

from .decoding import decode
from .shards import is_sharded
from .tensors import layout_of, memory_of, read_tensors, write_tensors
from .tree import Json, encode

OTHERS = "ranks"
"""The entry of a state that holds what is its own of each rank from 1 on."""
BUFFERS = "buffers"
"""The entry of a rank's state that holds the buffers of its model, which are not sharded."""
_OWN = ("loop", "data", "random", "generators")

_Packed: TypeAlias = tuple[Json, bytearray]
"""A tree as JSON data, and a file of its tensors."""


def pooled(ranks: Ranks, state: State, device: torch.device) -> State | None:
    """On rank 0, the state of the whole run; None on the others. Every rank calls it with what it has.

    Args:
        ranks: The processes of the run.
        state: The state of this one, with those of its hook sets under `"hooks"`, and the model's buffers once more
            under `"buffers"`.
        device: Where rank 0 trains.

    Raises:
        CheckpointError: if the state of a rank holds what cannot be saved; there, and on rank 0.
    """
    index = ranks.rank.index
    hooks: dict[str, Any] = state["hooks"]
    buffers: dict[str, Tensor] = {name: one for name, one in state[BUFFERS].items() if not is_sharded(one)}
    digests = {name: _digest(one) for name, one in buffers.items()}
    said = ranks.gather(([name for name, one in hooks.items() if _has_tensors(one)], digests))
    owners = _owners([names for names, _ in said])
    mine = {name: one for name, one in hooks.items() if owners.get(name, index) == index}
    of_first = said[0][1]
    differing = {name: one for name, one in buffers.items() if digests[name] != of_first.get(name)}
    packed = None if index == 0 else _packed({**_own(state), "hooks": mine, BUFFERS: differing})
    found = ranks.gather_to_first(packed)
    if isinstance(packed, CheckpointError):
        raise packed
    if index:
        return None
    others = [_unpacked(one, rank, device) for rank, one in enumerate(found) if rank]
    for name, owner in owners.items():
        if owner:
            mine[name] = others[owner - 1]["hooks"].pop(name)
    shared = {name: one for name, one in state.items() if name != BUFFERS}
    return {**shared, "hooks": mine, OTHERS: others}


def part_of(state: Mapping[str, Any], rank: Rank) -> State:
    """What a pooled state holds for one rank of a run that goes on, which may have more or fewer than before.

    A rank that did not exist goes on as rank 0 does, but for its random streams, the generators and the position of
    its data, and the epoch's means: of these it has none.
    """
    others: Sequence[State] = state.get(OTHERS, ())
    shared = {name: one for name, one in state.items() if name != OTHERS}
    was = 1 + len(others)
    loops = [state["loop"], *(one["loop"] for one in others)]
    if rank.index == 0:
        own: State = {}
    elif rank.index < was:
        own = dict(others[rank.index - 1])
        own["hooks"] = {**state["hooks"], **own["hooks"]}
        own["model"] = {**state["model"], **own.pop(BUFFERS)}
    else:
        own = {"random": None, "generators": {}, "data": None}
    # What the ranks that are no more had counted is not lost: it goes to those that are.
    means = [one["means"] for one in loops[rank.index :: rank.world]]
    loop: State = {**own.get("loop", state["loop"]), "means": means}
    return {**shared, **own, "loop": loop}


def _own(state: State) -> State:
    return {name: state[name] for name in _OWN}


def _digest(tensor: Tensor) -> bytes:
    there = tensor.detach().cpu().contiguous()
    return hashlib.sha256(memory_of(there)).digest()


def _owners(by_rank: Sequence[Sequence[str]]) -> dict[str, int]:
    """The lowest rank that has each name."""
    owners: dict[str, int] = {}
    for rank, names in enumerate(by_rank):
        for name in names:
            owners.setdefault(name, rank)
    return owners


def _packed(state: State) -> _Packed | CheckpointError:
    """A state as it travels, which is as it is saved; tensors of some dtypes cannot be pickled."""
    try:
        skeleton, tensors = encode(state)
        if (name := next((name for name, one in tensors.items() if is_sharded(one)), None)) is not None:
            raise CheckpointError(
                f"The state of the run holds a part of the sharded tensor {name!r}, whose other parts are not there: "
                "its hook set is not called on every rank."
            )
        layout = layout_of(tensors)
        file = bytearray(layout.size)
        write_tensors(torch.frombuffer(file, dtype=torch.uint8), layout, tensors)
    except CheckpointError as error:
        return error
    return skeleton, file


def _unpacked(packed: _Packed | CheckpointError | None, rank: int, device: torch.device) -> State:
    if isinstance(packed, CheckpointError):
        raise CheckpointError(f"Rank {rank}: {packed}")
    assert packed is not None
    skeleton, file = packed
    return cast("State", decode(skeleton, read_tensors([file], len(file)), device=device))


def _has_tensors(tree: object) -> bool:
    return any(True for _ in _tensors_in(tree))


def _tensors_in(tree: object) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for one in cast("Mapping[object, object]", tree).values():
            yield from _tensors_in(one)
    elif isinstance(tree, list | tuple):
        for one in cast("Sequence[object]", tree):
            yield from _tensors_in(one)
