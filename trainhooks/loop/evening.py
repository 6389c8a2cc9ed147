"""An epoch's batches over several processes: all of them make equally many, whatever each of them has."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn, TypeAlias, final

import torch
from attrs import define, field, frozen

from trainhooks.distributed import Ranks, Sums, Uneven
from trainhooks.errors import RunDefinitionError

_NONE: Final = object()
Item: TypeAlias = tuple[Any, bool, bool]
"""A batch, whether it is the epoch's last, and whether it only stands in for one that this process has not."""


def even_length(own: int | None, lends: bool, ranks: Ranks, uneven: Uneven, epoch: int) -> int | None:
    """How many batches an epoch has in every process; None if one of them does not know its own.

    Args:
        own: How many it has in this one.
        lends: Whether this process' data give it a batch to stand in where it has none.
        ranks: The processes.
        uneven: Their policy.
        epoch: Which one, for errors.

    Raises:
        RunDefinitionError: on every rank, if one of them has none, or they may not be unequal.
    """
    said = ranks.gather((own, lends))
    known = [one for one, _ in said if one is not None]
    if len(known) < len(said):
        return None
    found = f"the ranks have {', '.join(map(str, known))} batches"
    if uneven == "raise" and min(known) != max(known):
        _refuse_uneven(epoch, found)
    length = max(known) if uneven == "join" else min(known)
    if length == 0 or (uneven == "join" and (0, False) in said):
        refuse_none(epoch, found)
    return length


@final
@define(eq=False)
class EvenBatches:
    """What is left of an epoch in this process, made even with the others.

    With unknown lengths two batches are fetched ahead, and whether there is another one is asked of the other ranks
    while the one before is trained.
    """

    source: Iterable[Any]
    """This process' batches that are still to come."""
    left: int | None
    """How many every process makes from here on; None where that shows only at their end."""
    ranks: Ranks
    uneven: Uneven
    epoch: int
    stand_in: Callable[[], Any] | None
    """A batch for a process that has had none; None if its data cannot give one."""
    newest: Any = field(default=_NONE, init=False)

    def __iter__(self) -> Iterator[Item]:
        return self._ahead() if self.left is None else self._counted(self.left)

    def _counted(self, left: int) -> Iterator[Item]:
        batches = iter(self.source)
        for number in range(1, left + 1):
            yield self._item(next(batches, _NONE), last=number == left)
        if self.uneven != "truncate":
            next(batches, None)  # its end, where a loader puts its things away

    def _ahead(self) -> Iterator[Item]:
        batches = iter(self.source)
        fetched = deque([self._fetch(batches), self._fetch(batches)])
        more = self._is_there(fetched[0])
        self._check_first(fetched[0])
        while more:
            one = fetched.popleft()
            more = self._is_there(fetched[0])
            if more:
                fetched.append(self._fetch(batches))
            yield self._item(one.batch, last=not more)

    def _fetch(self, batches: Iterator[Any]) -> "_Fetched":
        batch = next(batches, _NONE)
        return _Fetched(batch, self.ranks.sum_later(torch.tensor([float(batch is not _NONE)], dtype=torch.float64)))

    def _check_first(self, one: "_Fetched") -> None:
        """Refuse, on every rank, that some have a first batch and another one has nothing to train with."""
        having, world = one.ranks_having(), self.ranks.rank.world
        if 0 < having < world:
            lacks = one.batch is _NONE and self.stand_in is None
            if self.uneven == "truncate" or self.ranks.any(lacks):
                refuse_none(self.epoch, f"{having} of {world} ranks have one")

    def _is_there(self, one: "_Fetched") -> bool:
        having = one.ranks_having()
        if self.uneven == "raise" and 0 < having < self.ranks.rank.world:
            _refuse_uneven(self.epoch, f"{having} of {self.ranks.rank.world} ranks have another batch")
        return having > 0 if self.uneven == "join" else having == self.ranks.rank.world

    def _item(self, batch: Any, *, last: bool) -> Item:
        if batch is not _NONE:
            self.newest = batch
            return batch, last, False
        if self.newest is _NONE:
            assert self.stand_in is not None, "a process whose data cannot lend it a batch has one"
            self.newest = self.stand_in()
        return self.newest, last, True


@final
@frozen(eq=False)
class _Fetched:
    batch: Any
    having: Sums
    """How many ranks have one, on its way."""

    def ranks_having(self) -> int:
        """How many have one."""
        return int(self.having.wait().item())


def refuse_none(epoch: int, found: str) -> NoReturn:
    """Say that a rank has no batch.

    Raises:
        RunDefinitionError: always.
    """
    raise RunDefinitionError(
        f"Epoch {epoch} has no batch for every rank: {found}. Give more data, a smaller batch_size or fewer processes; "
        "with uneven='join', trainhooks.data.seeded_loader lends a rank that has none one of another's."
    )


def _refuse_uneven(epoch: int, what: str) -> NoReturn:
    raise RunDefinitionError(
        f"In epoch {epoch} {what}, and uneven='raise'; make them equal (seeded_loader(..., drop_last=True)), or write "
        "uneven='join' or 'truncate'."
    )
