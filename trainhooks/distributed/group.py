"""The processes of a run, as its loop talks to them: small exchanges, made by all of them in one order."""

import atexit
import itertools
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar, cast, final

import torch
import torch.distributed as dist
from attrs import field, frozen
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore

from trainhooks.core import Rank

from .rank import restart_count

T = TypeVar("T")

_GROUPS = itertools.count()
_LAST_BREATH: Final = 0.05
"""Seconds for the threads of a group to free what they hold."""


@final
@frozen(eq=False)
class Sums:
    """Sums over all ranks on their way."""

    values: Tensor
    work: Any = field(repr=False)

    def wait(self) -> Tensor:
        """The sums; those of a device are not waited for on the host."""
        self.work.wait()
        return self.values


@final
@frozen(eq=False)
class Ranks:
    """The processes of a run. Each method is a collective: every rank calls it, with the others and in their order.

    Numbers and objects go through the CPU, and no method waits for a device.
    """

    rank: Rank
    """This process."""

    def any(self, flag: bool) -> bool:
        """Whether one of the ranks says so."""
        return self.most(float(flag)) > 0.0

    def most(self, number: float) -> float:
        """The greatest of the ranks' numbers."""
        values = torch.tensor([number], dtype=torch.float64)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return values.item()

    def gather(self, value: T) -> list[T]:
        """What each rank gives, in the order of ranks; it must be possible to pickle."""
        found: list[Any] = [None] * self.rank.world
        dist.all_gather_object(found, value)
        return cast("list[T]", found)

    def gather_to_first(self, value: T) -> list[T]:
        """What each rank gives, in the order of ranks, on rank 0; nothing on the others."""
        found: list[Any] | None = [None] * self.rank.world if self.rank.index == 0 else None
        dist.gather_object(value, found)
        return cast("list[T]", found or [])

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, which must be possible to pickle. If it raises there, every rank raises that."""
        raised: Exception | None = None
        said: list[Any] = [b""]
        if self.rank.index == 0:
            try:
                said = [pickle.dumps((make(), None))]
            except Exception as error:  # the others wait, and must hear of it
                raised, said = error, [_parcel(error)]
        dist.broadcast_object_list(said)
        if raised is not None:
            raise raised
        value, other = pickle.loads(said[0])
        if other is not None:
            raise other
        return cast("T", value)

    def sum_later(self, values: Tensor) -> Sums:
        """Begin to sum a tensor over all ranks, in place; training goes on meanwhile."""
        group = dist.group.WORLD
        assert group is not None, "the ranks have met"
        # `dist.all_reduce` does the same, and takes as long to ask for it as a small model's forward.
        return Sums(values, group.allreduce([values]))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, in place."""
        for one in tensors:
            one.div_(self.rank.world)
        for sums in [self.sum_later(one) for one in tensors]:
            sums.wait()

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Give every rank the tensors of rank 0, in place; those of the meta device have nothing to give."""
        with torch.no_grad():
            for one in tensors:
                if not one.is_meta:
                    dist.broadcast(one, 0)


def _parcel(error: Exception) -> bytes:
    """An error for the other ranks; in words, where it cannot be pickled, or not be built again."""
    try:
        parcel = pickle.dumps((None, error))
        pickle.loads(parcel)
    except Exception:
        return pickle.dumps((None, RuntimeError(f"Rank 0 raised {type(error).__name__}: {error}")))
    return parcel


def join(rank: Rank, device: torch.device, timeout: float | None = None) -> Ranks:
    """Meet the other processes of the job.

    A group that is there already is used; one that is made here stays until the program ends it, or ends. Where the
    launcher restarts processes, each round meets under names of its own, so that none takes the addresses of the one
    before for those of the living.

    Args:
        rank: This process, as the launcher says.
        device: Where the run trains.
        timeout: Seconds after which a collective that lacks a rank fails; None for torch's own.
    """
    if dist.is_initialized():
        return Ranks(rank)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, index, world = next(cast("Any", dist).rendezvous("env://"))
    # Several machines count their restarts by themselves, and may disagree.
    round_ = restart_count() if rank.local_world == rank.world else 0
    options: dict[str, Any] = {} if timeout is None else {"timeout": timedelta(seconds=timeout)}
    # Its functions have the group that is there when they are loaded as a default, and keep it for ever.
    import torch.distributed.nn  # noqa: F401  # pyright: ignore[reportUnusedImport]

    dist.init_process_group(
        backend, store=PrefixStore(f"trainhooks/{round_}/{next(_GROUPS)}", store), rank=index, world_size=world,
        **options,
    )  # fmt: skip
    atexit.register(_leave)
    return Ranks(rank)


def _leave() -> None:
    """End the group with the program: a thread of it that frees a tensor when the interpreter is gone aborts all.

    Its threads end with it unless something still holds it, as the caches of sharded tensors do; then they are given
    the time to finish. After an exception the others may be gone, and there is nobody to wait for.
    """
    if dist.is_initialized() and not hasattr(sys, "last_value"):
        dist.destroy_process_group()
        time.sleep(_LAST_BREATH)
