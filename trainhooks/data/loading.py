"""`seeded_loader`: batches of a dataset, in an order that a seed decides."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, cast, final, overload

from attrs import evolve, field, frozen
from torch import Tensor
from torch.utils.data import Subset, TensorDataset
from typing_extensions import TypeVar

from trainhooks.core import Rank
from trainhooks.errors import RunDefinitionError

from .arguments import (
    Collate,
    Samples,
    check_collate_fn,
    check_count,
    check_place,
    check_rank,
    check_seed,
    checked_length,
)
from .cursor import ALONE

if TYPE_CHECKING:
    from .reading import Readers

T = TypeVar("T")
B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


@final
class _Unknown:
    """No sample is one of these, so a dataset of them is a `Dataset[Any]`."""


@final
@frozen(kw_only=True, eq=False, repr=False)
class SeededLoader(Generic[B_co]):
    """Batches that depend on the seed and their place alone; a `Cursor`. Made by `seeded_loader`."""

    samples: int
    """How many samples the dataset has."""
    batch_size: int
    seed: int
    shuffle: bool
    drop_last: bool
    at_most: int | None
    """Batches of an epoch for one process; None for all."""
    _readers: "Readers[B_co]" = field(alias="readers")

    def epoch_batches(self, epoch: int, start: int = 0, rank: Rank = ALONE) -> Iterator[B_co]:
        """The batches of one epoch that fall to one process, from the `start`-th on; those before are not read.

        Raises:
            RunDefinitionError: if the epoch has no such place, or the world no such rank.
        """
        from .places import EpochPlaces

        length = self.length(rank)
        check_place("epoch_batches", epoch, start, rank, length)
        numbers = range(rank.index + start * rank.world, rank.index + length * rank.world, rank.world)
        return self._readers.read(EpochPlaces(
            samples=self.samples, batch_size=self.batch_size, seed=self.seed, shuffle=self.shuffle, epoch=epoch,
            numbers=numbers,
        ))  # fmt: skip

    def length(self, rank: Rank = ALONE) -> int:
        """How many batches of an epoch fall to one process."""
        check_rank("length", rank)
        length = self.samples // (self.batch_size * rank.world)
        if not self.drop_last:
            batches = -(-self.samples // self.batch_size)
            length = -((rank.index - batches) // rank.world)
        return length if self.at_most is None else min(length, self.at_most)

    def first(self, n: int) -> "SeededLoader[B_co]":
        """A loader of the first `n` batches of each epoch, as of each process; see `trainhooks.data.first`.

        Raises:
            RunDefinitionError: if `n` is no whole number from 1 on.
        """
        n = check_count("first", "n", n, 1)
        return evolve(self, at_most=n if self.at_most is None else min(n, self.at_most))

    def __iter__(self) -> Iterator[B_co]:
        """The batches of epoch 0, each time; `epoch_batches` gives those of the others."""
        return self.epoch_batches(0)

    def __len__(self) -> int:
        return self.length()

    def __repr__(self) -> str:
        return f"SeededLoader({self.samples} samples, batch_size={self.batch_size}, seed={self.seed})"


@overload
def seeded_loader(  # how many tensors there are is not in the type, so any tuple may be expected of it
    dataset: TensorDataset | Subset[tuple[Tensor, ...]], *, batch_size: int, seed: int, shuffle: bool = True,
    drop_last: bool = False, num_workers: int = 0, collate_fn: None = None,
) -> SeededLoader[tuple[Any, ...]]: ...  # fmt: skip
@overload
def seeded_loader(
    dataset: Samples[_Unknown], *, batch_size: int, seed: int, shuffle: bool = True, drop_last: bool = False,
    num_workers: int = 0, collate_fn: None = None,
) -> SeededLoader[Any]: ...  # fmt: skip
@overload
def seeded_loader(  # the numbers of a batch become a tensor
    dataset: Samples[tuple[Tensor, float]], *, batch_size: int, seed: int, shuffle: bool = True,
    drop_last: bool = False, num_workers: int = 0, collate_fn: None = None,
) -> SeededLoader[tuple[Tensor, Tensor]]: ...  # fmt: skip
@overload
def seeded_loader(
    dataset: Samples[T], *, batch_size: int, seed: int, shuffle: bool = True, drop_last: bool = False,
    num_workers: int = 0, collate_fn: None = None,
) -> SeededLoader[T]: ...  # fmt: skip
@overload
def seeded_loader(
    dataset: Samples[T], *, batch_size: int, seed: int, shuffle: bool = True, drop_last: bool = False,
    num_workers: int = 0, collate_fn: Callable[[list[T]], B],
) -> SeededLoader[B]: ...  # fmt: skip
def seeded_loader(
    dataset: Samples[object], *, batch_size: int, seed: int, shuffle: bool = True, drop_last: bool = False,
    num_workers: int = 0, collate_fn: object = None,
) -> SeededLoader[object]:  # fmt: skip
    """Batches of a dataset, in an order that depends on the seed and the epoch alone.

    `train` goes on anywhere in them after a stop, reads no sample that was used, and gives each process its share:
    each `batch_size` samples of the epoch's order go to the next process, so that every sample comes once, without
    padding, and the processes differ by one batch at most. torch's `DataLoader` does the reading.

    Before `dataset[i]` is called, the global random streams of python, numpy and torch's CPU are seeded from (seed,
    epoch, i), and afterwards they are put back: augmentation is the same with any number of workers and after a
    resume, and changes nothing outside. A dataset with `__getitems__` is called once for a batch, and seeded so. A
    generator that the dataset keeps for itself is not known here; make it in `__getitem__`, from
    `torch.initial_seed()`.

    Args:
        dataset: Samples by index: `__getitem__` and `__len__`, such as a `TensorDataset` or a list.
        batch_size: Samples of a batch, in each process.
        seed: Any whole number.
        shuffle: Whether each epoch has an order of its own; otherwise it is the dataset's.
        drop_last: Leave out what is too little to give each process a full batch.
        num_workers: Processes that read ahead; 0 reads in this one. They stay, with their copy of the dataset, as long
            as the loader.
        collate_fn: Makes a batch of a list of samples, by default as torch's `default_collate` does, but tuples stay
            tuples. It may draw from the random streams too.

    Raises:
        RunDefinitionError: if an argument is none of these, or no batch can be made.

    Example:
        >>> import torch
        >>> loader = seeded_loader(list(range(10)), batch_size=4, seed=0, shuffle=False)
        >>> [batch.tolist() for batch in loader]
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        >>> [batch.tolist() for batch in loader.epoch_batches(epoch=3, start=2)]
        [[8, 9]]
    """
    from .fetching import Fetch  # a run with other data does not load what reads
    from .reading import Readers

    samples = checked_length(dataset)
    batch_size = check_count("seeded_loader", "batch_size", batch_size, 1)
    num_workers = check_count("seeded_loader", "num_workers", num_workers, 0)
    seed = check_seed(seed)
    check_collate_fn(collate_fn)
    if drop_last and samples < batch_size:
        raise RunDefinitionError(
            f"seeded_loader with drop_last=True has no batch: the dataset has {samples} samples, and "
            f"batch_size={batch_size}; give a smaller batch_size, or drop_last=False."
        )
    readers = Readers(Fetch[object](dataset, seed, cast("Collate | None", collate_fn)), num_workers)
    return SeededLoader(
        samples=samples, batch_size=batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last, at_most=None,
        readers=readers,
    )  # fmt: skip
