"""The data of an epoch, batch by batch, from any batch on where the data can do that."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard, cast

import torch

from trainhooks.core import KeepsState, Rank, keeps_its_own_state
from trainhooks.data import Cursor
from trainhooks.errors import RunDefinitionError

from .saver import Position
from .streams import Streams, generators_of


def length_of(data: object) -> int | None:
    """How many batches `data` has, if it knows."""
    try:
        return len(data)  # type: ignore[arg-type]  # asking is the way to know
    except (TypeError, NotImplementedError):
        return None


def keeps_position(data: object) -> TypeGuard[KeepsState]:
    """Whether `data` knows which batch comes next, such as torchdata's `StatefulDataLoader`."""
    return keeps_its_own_state(data) and not isinstance(data, Cursor)


def within_epoch(data: object, accumulate: int) -> Position:
    """What lets a run with this data go on within an epoch."""
    if isinstance(data, Cursor):
        return "cursor"
    looks_ahead = length_of(data) is None and accumulate > 1  # then the data's own position is a batch too far
    return "own" if keeps_position(data) and not looks_ahead else "lost"


def remaining(data: Iterable[Any], epoch: int, done: int, rank: Rank, device: torch.device) -> Iterable[Any]:
    """The batches of an epoch that are still to come, the first `done` of them left out."""
    if isinstance(data, Cursor):
        return cast("Cursor[Any]", data).epoch_batches(epoch, done, rank)
    source: object = data
    assert not done or keeps_position(source), "a run resumes within an epoch only where its data can"
    return continued(data, device) if done else data


def continued(data: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """An iteration of data that keeps its position; what it draws from random streams was drawn when it first began."""
    streams = Streams.now(device)
    generators = [(one, one.get_state()) for one in generators_of("", data).values()]
    batches = iter(data)
    streams.restore()
    for generator, state in generators:
        generator.set_state(state)
    return batches


def batches_of(
    data: Iterable[Any], length: int | None, done: int, *, looks_ahead: bool
) -> Iterator[tuple[Any, bool]]:
    """Each batch, and whether it is known to be the last: by `length`, or by fetching one batch ahead.

    Args:
        data: The batches that are still to come.
        length: Batches of the whole epoch, if that is known.
        done: Batches of the epoch that came before.
        looks_ahead: Whether to fetch one batch ahead where there is no length.
    """
    if length is None and looks_ahead:
        yield from _one_ahead(data)
        return
    for index, batch in enumerate(data, start=done + 1):
        yield batch, index == length


def _one_ahead(data: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    batches = iter(data)
    for first in batches:
        held = first
        for following in batches:
            yield held, False
            held = following
        yield held, True


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
