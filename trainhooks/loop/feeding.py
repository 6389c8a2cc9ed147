"""The data of an epoch, batch by batch, from any batch on where the data can do that."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, repeat
from typing import Any, TypeGuard, cast

import torch

from trainhooks.core import KeepsState, Rank, Run, keeps_its_own_state
from trainhooks.data import Cursor, SizedCursor
from trainhooks.errors import RunDefinitionError

from .evening import EvenBatches, Item, even_length, refuse_none
from .saver import Position
from .streams import Streams, generators_of
from .together import Together


def length_of(data: object, rank: Rank | None = None) -> int | None:
    """How many batches of an epoch `data` has, for this one of several processes; None if that is not known."""
    try:
        if rank is not None and rank.world > 1 and isinstance(data, Cursor):
            return data.length(rank) if isinstance(data, SizedCursor) else None
        return len(data)  # type: ignore[arg-type]  # asking is the way to know
    except (TypeError, NotImplementedError):
        return None


def length_of_epoch(data: object, rank: Rank, together: Together | None, epoch: int) -> int | None:
    """How many batches an epoch has, in every process of the run; None if that is not known."""
    own = length_of(data, rank)
    if together is None:
        return own
    return even_length(own, isinstance(data, Cursor), together.ranks, together.parallel.uneven, epoch)


def batches_left(
    data: Iterable[Any], run: Run, together: Together | None, epoch: int, done: int, length: int | None
) -> Iterator[Item]:
    """What is left of an epoch after `done` of its batches, which has `length` in all if that is known."""
    source = remaining(data, epoch, done, run.rank, run.device)
    if together is None:
        return batches_of(source, length, done, looks_ahead=run.accumulate > 1)
    left = None if length is None else length - done
    stand_in = partial(stand_in_of, data, epoch, run.rank) if isinstance(data, Cursor) else None
    return iter(EvenBatches(source, left, together.ranks, together.parallel.uneven, epoch, stand_in))


def batch_size_of(data: object) -> int | None:
    """Samples of a batch in each process, if the data can begin anywhere and says so."""
    size: object = getattr(data, "batch_size", None)
    return size if isinstance(size, int) and isinstance(data, Cursor) else None


def place_now(fed: int, was: tuple[int, int | None], now: tuple[int, int | None]) -> int | None:
    """How many batches of an epoch were fed, counted as a run counts them that goes on; None within one of its batches.

    Args:
        fed: Batches fed, in each process.
        was: How many processes there were, and samples of a batch in each; None where that is not known.
        now: Likewise.
    """
    (world, size), (world_now, size_now) = was, now
    samples, of_a_batch = fed * world, world_now
    if size is not None and size_now is not None:
        samples, of_a_batch = samples * size, of_a_batch * size_now
    return None if samples % of_a_batch else samples // of_a_batch


def keeps_position(data: object) -> TypeGuard[KeepsState]:
    """Whether `data` knows which batch comes next, such as torchdata's `StatefulDataLoader`."""
    return keeps_its_own_state(data) and not isinstance(data, Cursor)


def within_epoch(data: object, accumulate: int, world: int = 1) -> Position:
    """What lets a run with this data go on within an epoch."""
    if isinstance(data, Cursor):
        return "cursor"
    looks_ahead = length_of(data) is None and (accumulate > 1 or world > 1)  # then the data's own position is too far
    return "own" if keeps_position(data) and not looks_ahead else "lost"


def remaining(data: Iterable[Any], epoch: int, done: int, rank: Rank, device: torch.device) -> Iterable[Any]:
    """One process' batches of an epoch that are still to come, the first `done` of them left out."""
    if isinstance(data, Cursor):
        own = length_of(data, rank) if rank.world > 1 else None  # others may have more than this one
        start = done if own is None else min(done, own)
        return cast("Cursor[Any]", data).epoch_batches(epoch, start, rank)
    source: object = data
    assert not done or keeps_position(source), "a run resumes within an epoch only where its data can"
    return continued(data, device) if done else data


def stand_in_of(data: Cursor[Any], epoch: int, rank: Rank) -> Any:
    """A batch for a process that has had none: its own last one, or the first of all.

    Raises:
        RunDefinitionError: if the data cannot give one.
    """
    own = length_of(data, rank) or 0
    place = (own - 1, rank) if own else (0, Rank(world=rank.world))
    for batch in data.epoch_batches(epoch, *place):
        return batch
    refuse_none(epoch, f"rank {rank.index} has none")


def continued(data: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """An iteration of data that keeps its position; what it draws from random streams was drawn when it first began."""
    streams = Streams.now([device])
    generators = [(one, one.get_state()) for one in generators_of("", data).values()]
    batches = iter(data)
    streams.restore()
    for generator, state in generators:
        generator.set_state(state)
    return batches


def batches_of(
    data: Iterable[Any], length: int | None, done: int, *, looks_ahead: bool
) -> Iterator[Item]:
    """Each batch, and whether it is known to be the last: by `length`, or by fetching one batch ahead.

    Args:
        data: The batches that are still to come.
        length: Batches of the whole epoch, if that is known.
        done: Batches of the epoch that came before.
        looks_ahead: Whether to fetch one batch ahead where there is no length.
    """
    if length is None and looks_ahead:
        return _one_ahead(data)
    if length is None or length <= done:
        return zip(data, repeat(False), repeat(False))  # ends with the data
    is_last = chain(repeat(False, length - done - 1), (True,), repeat(False))
    return zip(data, is_last, repeat(False))  # likewise


def _one_ahead(data: Iterable[Any]) -> Iterator[Item]:
    batches = iter(data)
    for first in batches:
        held = first
        for following in batches:
            yield held, False, False
            held = following
        yield held, True, False


def refuse_empty_data(epoch: int) -> None:
    """Say why there is no batch.

    Raises:
        RunDefinitionError: always.
    """
    if epoch == 0:
        raise RunDefinitionError("The data gave no batch; train needs at least one in each epoch.")
    raise RunDefinitionError(
        f"The data gave no batch in epoch {epoch}: it is one-shot (a generator or an iterator) and was used up. Give "
        "something that can be iterated again, such as a list or a DataLoader, or epochs=1."
    )
