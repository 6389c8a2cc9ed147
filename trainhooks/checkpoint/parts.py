"""What one process writes of a checkpoint: all of it, or what falls to one rank of a run whose model is sharded."""

from collections.abc import Mapping
from typing import final

from attrs import frozen
from torch import Tensor

from trainhooks.errors import CheckpointError

from .shards import SHARDS, Shards, document_of, file_of, is_sharded
from .tree import Json, Tree, encode

STATE = "state.json"
STATE_FORMAT = "trainhooks.state"
STATE_VERSION = 1


@final
@frozen(kw_only=True)
class Part:
    """What one process writes of a checkpoint."""

    files: Mapping[str, Mapping[str, Tensor]]
    """Tensors by their names in a file, by the name of the file."""
    documents: Mapping[str, Json]
    """What goes into files of JSON, by their names."""
    shared: bool = False
    """Whether other ranks write the rest of it."""

    @property
    def leads(self) -> bool:
        """Whether it holds what the parts are put together by."""
        return bool(self.documents)


def whole(tree: Tree) -> Part:
    """All of a state.

    Raises:
        CheckpointError: if it holds what cannot be saved.
    """
    skeleton, tensors = encode(tree)
    if (name := next((name for name, one in tensors.items() if is_sharded(one)), None)) is not None:
        raise CheckpointError(
            f"The state of the run holds a part of the sharded tensor {name!r}; it is saved in a run of several "
            "processes with parallel=fsdp()."
        )
    return Part(files=_grouped(tensors), documents={STATE: _state(skeleton)})


def share(tree: Tree, rank: int) -> Part:
    """What falls to one rank of a state that all ranks hold together. All of them call it; nothing is written yet.

    Args:
        tree: On rank 0 the state, on the others at least what is sharded of it, in the same places.
        rank: This one.

    Raises:
        CheckpointError: if the state holds what cannot be saved.
    """
    from .engine import planned  # of no use without process groups, and slow to import

    skeleton, tensors = encode(tree)
    slices, shards = planned({name: one for name, one in tensors.items() if is_sharded(one)}, rank)
    files: dict[str, dict[str, Tensor]] = {}
    for full, one in slices.items():
        files.setdefault(file_of(full, rank), {})[full.partition(":")[2]] = one
    if shards is None:
        return Part(files=files, documents={}, shared=True)
    unsharded = _grouped({name: one for name, one in tensors.items() if not is_sharded(one)})
    return Part(files={**unsharded, **files}, documents=_documents(skeleton, shards), shared=True)


def _documents(skeleton: Json, shards: Shards) -> dict[str, Json]:
    return {STATE: _state(skeleton), SHARDS: document_of(shards)}


def _state(skeleton: Json) -> Json:
    return {"format": STATE_FORMAT, "version": STATE_VERSION, "tree": skeleton}


def _grouped(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the file of the group that their names begin with, under the rest of their names."""
    groups: dict[str, dict[str, Tensor]] = {}
    for full, tensor in tensors.items():
        group, _, name = full.partition(":")
        groups.setdefault(f"{group}.safetensors", {})[name] = tensor
    return groups
