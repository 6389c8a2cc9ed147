"""The data of an evaluation as it falls to this rank, and the forwards that a sharded model needs of every rank."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, Final, Protocol, runtime_checkable

from torch import nn

from trainhooks.distributed import Ranks

from .feeding import remaining
from .live import Live

_NO_MORE: Final = object()


def share_of(live: Live, data: Iterable[Any]) -> Iterable[tuple[Any, bool]]:
    """The batches of an evaluation that this rank makes a forward of, and whether each of them counts.

    Data with a cursor is split over the ranks without padding, each batch to one of them. Other data is read as this
    rank has it. Where the model is sharded, every forward takes all ranks: one that has no more batches takes part with
    its last one, which does not count, or with another rank's first one if it never had any.
    """
    run = live.run
    batches = remaining(data, 0, 0, run.rank, run.device)
    if live.together is None or not live.together.parallel.sharded:
        return zip(batches, repeat(True))
    return in_step(batches, live.together.ranks)


def in_step(batches: Iterable[Any], ranks: Ranks) -> Iterator[tuple[Any, bool]]:
    """As many batches on each rank, and whether each is its own."""
    source = iter(batches)
    batch = held = next(source, _NO_MORE)
    mine = batch is not _NO_MORE
    have = ranks.gather(mine)
    if any(have) and not all(have):
        giver = have.index(True)
        given = ranks.gather(batch if ranks.rank.index == giver else None)[giver]
        held = batch if mine else given
    more = any(have)
    while more:
        yield held, mine
        if mine:
            batch = next(source, _NO_MORE)
            mine = batch is not _NO_MORE
            held = batch if mine else held
        more = ranks.any(mine)


@runtime_checkable
class Sharded(Protocol):
    """A module of which each rank holds a part, as torch's `fully_shard` makes them."""

    def unshard(self) -> object:
        """Gather the parameters."""
        ...

    def reshard(self) -> None:
        """Free what was gathered."""
        ...


@contextmanager
def one_model(live: Live) -> Generator[None]:
    """Within it every rank looks at the model that rank 0 has, which is the one that a checkpoint holds.

    The ranks' buffers may differ, such as the running statistics of batch norm. On leaving, also on exceptions, each
    has its own again, and a sharded model holds its shards, also where a last forward left them gathered.
    """
    together, model = live.together, live.run.model
    if together is None:
        yield
        return
    buffers = [one for one in model.buffers() if one.is_contiguous()]  # one that overlaps itself is a constant
    own = [one.clone() for one in buffers]
    try:
        together.ranks.copy_from_first(buffers)
        yield
    finally:
        for buffer, kept in zip(buffers, own, strict=True):
            buffer.copy_(kept)
        if together.parallel.sharded:
            reshard(model)


def reshard(model: nn.Module) -> None:
    """Let every module of a sharded model hold its shards."""
    for module in model.modules():
        if isinstance(module, Sharded):
            module.reshard()
