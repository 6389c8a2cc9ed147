"""torch's `DataLoader` at work: in this process, or with workers that stay from one epoch to the next."""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar, final

import torch
from attrs import define, field
from torch.utils.data import DataLoader

from .collating import Carried
from .fetching import Fetch
from .places import EpochPlaces, Place
from .workers import stand_firm

B = TypeVar("B")


@final
@define(eq=False)
class Feed:
    """The sampler of a `DataLoader` that is used again: the places of the epoch that is read now."""

    places: Iterable[Place]

    def __iter__(self) -> Iterator[Place]:
        return iter(self.places)


@final
@define(eq=False)
class Reader:
    """A `DataLoader`, with the workers that it starts when it is first used."""

    loader: Any
    feed: Feed
    busy: bool = False

    def end(self) -> None:
        """End the workers now.

        Once the loader is in a reference cycle, as every error makes one, torch waits five seconds for each of them:
        the queue through which they would hear of it is the first to go. There is no public call for it.
        """
        if self.loader._iterator is not None:
            self.loader._iterator._shutdown_workers()


@final
@define(eq=False)
class Readers(Generic[B]):
    """Those who fetch batches, one after another, in the order asked for."""

    fetch: Fetch[B]
    num_workers: int
    _all: list[Reader] = field(init=False, factory=list[Reader])

    def __attrs_post_init__(self) -> None:
        weakref.finalize(self, _end_all, self._all)

    def __reduce__(self) -> tuple[type["Readers[B]"], tuple[Fetch[B], int]]:
        return Readers, (self.fetch, self.num_workers)  # processes stay where they are

    def read(self, places: EpochPlaces) -> Iterator[B]:
        """The batches of these places. Whoever reads while another still does gets workers of their own."""
        if not places.numbers:
            return
        reader = next((reader for reader in self._all if not reader.busy), None) or self._new_reader()
        reader.busy, reader.feed.places = True, places
        try:
            for item in reader.loader:
                yield item.batch if isinstance(item, Carried) else item
        except GeneratorExit:
            reader.busy = False
            raise
        except BaseException:
            self._all.remove(reader)
            reader.end()
            raise
        reader.busy = False

    def _new_reader(self) -> Reader:
        feed, pins = Feed(()), torch.cuda.is_available()
        loader = DataLoader[Any](
            self.fetch, batch_size=None, sampler=feed, collate_fn=Carried if pins else _as_it_is, pin_memory=pins,
            generator=torch.Generator(),  # else it would draw from the global one
            num_workers=self.num_workers, persistent_workers=self.num_workers > 0, worker_init_fn=stand_firm,
        )  # fmt: skip
        self._all.append(Reader(loader, feed))
        return self._all[-1]


def _end_all(readers: list[Reader]) -> None:
    for reader in readers:
        reader.end()


def _as_it_is(batch: object) -> object:
    return batch
