"""Where a run of several processes begins: rank 0 looks, all read, and all agree."""

import warnings
from collections.abc import Sequence, Set
from functools import partial
from typing import cast

import torch

from trainhooks.core import Rank
from trainhooks.distributed import Ranks
from trainhooks.errors import CheckpointError, StorageError
from trainhooks.loop import State
from trainhooks.store import Store

from .manifest import Manifest, UnknownVersionError
from .reading import read, verify_parts
from .resume import Obstacle, Resume, Start, find_start, place_of


def find_start_together(
    ranks: Ranks, store: Store, resume: Resume, obstacle: Obstacle, device: torch.device
) -> Start:
    """Find where a run of several processes begins, the same on each; see `find_start`.

    Rank 0 alone looks what is there, and warns. Each reads the checkpoint by itself; if one of them cannot, all pass it
    over for an older one.

    Args:
        ranks: The processes of the run.
        store: The experiment's folder.
        resume: As given to `train`.
        obstacle: Why the data cannot go on at a checkpoint.
        device: Where the tensors of hook states go that were not on the CPU.

    Raises:
        ResumeError: as `find_start`, on every rank.
        StorageError: if one of them cannot read the store, on every rank.
    """
    passed: set[str] = set()
    while True:
        found = ranks.from_first(partial(_look, store, resume, obstacle, passed))
        folder = store.at(found[0])
        if found[1] is None:
            return Start(folder, found[0])
        manifest = found[1]
        state, why = _read(folder, manifest, device, ranks.rank)
        said = ranks.gather(why)
        _refuse_unreadable(said)
        if not any(said):
            return Start(folder, found[0], manifest, state)
        passed.add(place_of(found[0], manifest))
        if ranks.rank.index == 0:
            warnings.warn(
                f"{manifest.name} in {folder.url} is damaged and passed over: {_by_rank(said)}",
                RuntimeWarning,
                stacklevel=3,
            )


def _look(store: Store, resume: Resume, obstacle: Obstacle, passed: Set[str]) -> tuple[str, Manifest | None]:
    """The newest checkpoint to go on from that was not passed over yet; nothing of it is read."""
    found = find_start(store, resume, obstacle, lambda folder, manifest: {}, passed)
    return found.run_id, found.manifest


def _read(
    folder: Store, manifest: Manifest, device: torch.device, rank: Rank
) -> tuple[State | None, CheckpointError | None]:
    """The state in a checkpoint, or why it cannot be read; the files of parts are shared out among the ranks."""
    try:
        verify_parts(folder, manifest, share=(rank.index, rank.world))
        return cast("State", read(folder, manifest, device=device, sharded=False)), None
    except CheckpointError as error:
        return None, error


def _refuse_unreadable(said: Sequence[CheckpointError | None]) -> None:
    """Raise what is no damage of the checkpoint."""
    for rank, error in enumerate(said):
        if isinstance(error, StorageError):
            raise StorageError(f"Rank {rank}: {error}", error.kind)
        if isinstance(error, UnknownVersionError):
            raise UnknownVersionError(f"Rank {rank}: {error}")


def _by_rank(said: Sequence[CheckpointError | None]) -> str:
    return "; ".join(f"rank {rank}: {error}" for rank, error in enumerate(said) if error is not None)
