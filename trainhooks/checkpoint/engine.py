"""PyTorch's distributed checkpointing as this package uses it: it plans who holds which part; files are ours.

It lets no rank write or read while others wait for it in a collective: parts are only noted when it would write them,
and copied and written later.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from trainhooks.errors import CheckpointError

from .shards import Sharded, Shards, Slice, check_part, file_of

ReadPart = Callable[[str], Mapping[str, Tensor]]
"""The parts in a file of the checkpoint, under full names."""


def planned(tensors: Mapping[str, Tensor], rank: int) -> tuple[dict[str, Tensor], Shards | None]:
    """Who writes which part of these tensors. All ranks call it, with tensors of the same names.

    Args:
        tensors: By full name; of each, this rank holds a part.
        rank: This one.

    Returns:
        The parts that this rank writes, by the names of the tensors: they are not copied. On rank 0 also where all
        parts will be.

    Raises:
        CheckpointError: if they do not make up whole tensors; on all ranks.
    """
    notes = _Notes(rank)
    with _told():
        planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        state_dict_saver.save(dict(tensors), storage_writer=notes, planner=planner)
    return notes.parts, notes.shards


def load(targets: Mapping[str, Tensor], shards: Shards, read: ReadPart) -> None:
    """Fill tensors, whole ones or those of which this rank holds a part. All ranks call it, with equal names.

    Args:
        targets: By full name.
        shards: Where the parts are.
        read: Reads one file; each rank reads those that it needs, once.

    Raises:
        CheckpointError: if one of the ranks cannot; on all of them.
    """
    with _told():
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        state_dict_loader.load(dict(targets), storage_reader=_Parts(shards, read), planner=planner)


@contextmanager
def _told() -> Generator[None]:
    """Say in our own words what went wrong on which rank."""
    try:
        yield
    except CheckpointException as error:
        failures = cast("Mapping[int, tuple[BaseException, object]]", error.failures)
        why = "; ".join(f"rank {rank}: {one[0]}" for rank, one in sorted(failures.items()))
        raise CheckpointError(f"The parts that the ranks hold could not be brought together: {why}") from None


def _done(value: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(value)
    return future


@final
class _Notes(StorageWriter):
    """Notes which parts a rank is to write, and on rank 0 where each part of all ranks will be."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self.parts: dict[str, Tensor] = {}
        self.shards: Shards | None = None

    def reset(self, checkpoint_id: object = None) -> None:
        """Nothing is kept."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing is opened."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """The plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """The plans as they are."""
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        """Note this rank's parts."""
        results: list[WriteResult] = []
        for item in plan.items:
            name = item.index.fqn
            assert name not in self.parts, "a rank holds one part of a tensor"
            part = cast("Tensor", planner.resolve_data(item))
            self.parts[name] = part
            begin = tuple(item.index.offset or ())
            results.append(WriteResult(item.index, 0, Slice(file_of(name, self._rank), begin, tuple(part.shape))))
        return _done(results)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Note where each part will be."""
        slices: dict[str, list[Slice]] = {}
        for one in (one for of_rank in results for one in of_rank):
            slices.setdefault(one.index.fqn, []).append(one.storage_data)
        self.shards = {
            name: Sharded(entry.properties.dtype, tuple(entry.size), tuple(slices[name]))
            for name, entry in metadata.state_dict_metadata.items()
            if isinstance(entry, TensorStorageMetadata)
        }

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: object) -> bool:
        """It takes none."""
        return False


@final
class _Parts(StorageReader):
    """Reads the parts that a rank needs."""

    def __init__(self, shards: Shards, read: ReadPart) -> None:
        self._shards, self._read = shards, read

    def reset(self, checkpoint_id: object = None) -> None:
        """Nothing is kept."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What there is to read."""
        return Metadata({name: _metadata(one) for name, one in self._shards.items()})

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing is opened."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """The plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """The plans as they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> "Future[None]":
        """Read file by file, and copy from each what is wanted of it."""
        wanted: dict[str, list[tuple[Any, Slice]]] = {}
        for item in plan.items:
            begin = tuple(item.storage_index.offset or ())
            part = next(one for one in self._shards[item.storage_index.fqn].slices if one.begin == begin)
            wanted.setdefault(part.file, []).append((item, part))
        for file, items in wanted.items():
            found = self._read(file)
            for item, part in items:
                name = item.storage_index.fqn
                if name not in found:
                    raise CheckpointError(f"the part of {name!r} that should be in {file} is not there")
                check_part(name, part, found[name])
                asked = Slice(file, tuple(item.storage_offsets), tuple(item.lengths)).of(found[name])
                target = planner.resolve_tensor(item).detach()
                target.copy_(asked)
                planner.commit_tensor(item, target)
        return _done(None)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: object) -> bool:
        """It takes none."""
        return False


def _metadata(one: Sharded) -> TensorStorageMetadata:
    chunks = [ChunkStorageMetadata(torch.Size(part.begin), torch.Size(part.shape)) for part in one.slices]
    return TensorStorageMetadata(TensorProperties(dtype=one.dtype), torch.Size(one.shape), chunks)
