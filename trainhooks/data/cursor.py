"""What a source of batches offers so that a run can go on anywhere in it."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from typing_extensions import TypeVar

from trainhooks.core import Rank

B_co = TypeVar("B_co", covariant=True)

ALONE = Rank()
"""The one process of a run that is not distributed."""


@runtime_checkable
class Cursor(Protocol[B_co]):
    """A source of batches that can begin anywhere in an epoch, without reading what came before.

    Equal arguments give equal batches, whatever was read before, in this process or in an earlier one.
    """

    def epoch_batches(self, epoch: int, start: int = 0, rank: Rank = ALONE) -> Iterator[B_co]:
        """The batches of one epoch that fall to one process, from the `start`-th on.

        Args:
            epoch: From 0.
            start: How many of this process' batches to leave out; where that is all of them, nothing is given.
            rank: Which process of how many.
        """
        ...


@runtime_checkable
class SizedCursor(Cursor[B_co], Protocol[B_co]):
    """A cursor that knows how many batches of an epoch fall to each process.

    Where one does not, the processes of a run ask each other before every batch whether there is another one.
    """

    def length(self, rank: Rank = ALONE) -> int:
        """How many batches of an epoch fall to one process.

        Raises:
            TypeError: if that is not known.
        """
        ...
