"""The data of an epoch, batch by batch, and whether a batch is the last."""

from collections.abc import Iterable, Iterator
from typing import Any

from trainhooks.errors import RunDefinitionError


def length_of(data: object) -> int | None:
    """How many batches `data` has, if it knows."""
    try:
        return len(data)  # type: ignore[arg-type]  # asking is the way to know
    except (TypeError, NotImplementedError):
        return None


def batches_of(data: Iterable[Any], length: int | None, *, looks_ahead: bool) -> Iterator[tuple[Any, bool]]:
    """Each batch, and whether it is known to be the last: by `length`, or by fetching one batch ahead."""
    if length is None and looks_ahead:
        yield from _one_ahead(data)
        return
    for index, batch in enumerate(data, start=1):
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
