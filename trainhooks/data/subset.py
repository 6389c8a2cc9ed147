"""`first`: the beginning of the data, for quick looks."""

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Generic, Protocol, cast, final, overload

from attrs import frozen
from typing_extensions import TypeVar

from trainhooks.core import Rank
from trainhooks.errors import RunDefinitionError, shown

from .arguments import check_batches, check_count, check_place
from .cursor import ALONE, Cursor, SizedCursor
from .loading import SeededLoader

B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Batches(Protocol[B_co]):
    """Batches that can be iterated again and again; `len()` is a `TypeError` where the data does not know it."""

    def __iter__(self) -> Iterator[B_co]: ...
    def __len__(self) -> int: ...


@final
@frozen(eq=False)
class FirstBatches(Generic[B_co]):
    """The first `n` batches of each pass over `data`."""

    data: Iterable[B_co]
    n: int

    def __iter__(self) -> Iterator[B_co]:
        return islice(self.data, self.n)

    def __len__(self) -> int:
        return min(self.n, len(cast("Sized", self.data)))


@final
@frozen(eq=False)
class FirstOfCursor(Generic[B_co]):
    """The first `n` batches of each epoch of `data`; a `Cursor`."""

    data: Cursor[B_co]
    n: int

    def epoch_batches(self, epoch: int, start: int = 0, rank: Rank = ALONE) -> Iterator[B_co]:
        """The first `n` batches of one epoch that fall to one process, from the `start`-th of them on."""
        check_place("epoch_batches", epoch, start, rank, self.n)
        return islice(self.data.epoch_batches(epoch, start, rank), self.n - start)

    def length(self, rank: Rank = ALONE) -> int:
        """How many batches of an epoch fall to one process; a `TypeError` where the data does not know it."""
        if isinstance(self.data, SizedCursor):
            return min(self.n, self.data.length(rank))
        if rank.world > 1:
            raise TypeError(f"{type(self.data).__name__} does not say how many batches fall to one process.")
        return len(self)

    def __iter__(self) -> Iterator[B_co]:
        return islice(cast("Iterable[B_co]", self.data), self.n)

    def __len__(self) -> int:
        return min(self.n, len(cast("Sized", self.data)))


@overload
def first(data: SeededLoader[B], n: int) -> SeededLoader[B]: ...
@overload
def first(data: Iterable[B], n: int) -> Batches[B]: ...
def first(data: Iterable[object], n: int) -> Batches[object]:
    """The first `n` batches of the data, in each epoch: to overfit a little on purpose, or to see a program through.

    Data with a cursor keeps it, and its order: in each epoch these are the first `n` batches of that epoch. With
    several processes each has `n`. From other data not more than `n` batches are asked for; a `DataLoader` with
    workers reads some more ahead.

    Args:
        data: Anything that can be iterated again: a loader, a list of batches.
        n: How many, from 1 on; all, if there are fewer.

    Raises:
        RunDefinitionError: if `n` is less than 1, or the data is one-shot or gives no batches.

    Example:
        >>> len(first([1, 2, 3, 4], 2)), list(first([1, 2, 3, 4], 2))
        (2, [1, 2])
    """
    n = check_count("first", "n", n, 1)
    if isinstance(data, SeededLoader):
        return data.first(n)
    if isinstance(data, Iterator):
        raise RunDefinitionError(
            f"first takes data that can be iterated again, and a {type(data).__name__} is one-shot; give it a list of "
            "batches or a loader."
        )
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise RunDefinitionError(
            f"first takes something to iterate over, such as a loader or a list, got {shown(data)}."
        )
    if isinstance(data, Cursor):
        return FirstOfCursor(cast("Cursor[object]", data), n)
    check_batches("The data of first", data)
    return FirstBatches(data, n)
