"""Reading the samples of one batch, with the random streams that belong to them."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Protocol, cast, final

import torch
from attrs import field, frozen
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, get_worker_info
from typing_extensions import TypeVar

from .arguments import Collate, Samples
from .collating import collated
from .places import Place
from .streams import nth_word, seed_streams, streams_put_back, word_of

B_co = TypeVar("B_co", covariant=True)


@final
@frozen(eq=False)
class Fetch(Dataset[B_co]):
    """A dataset of batches, for a `DataLoader`: takes places, gives batches, in the main process or in a worker.

    Before each sample is read, and before a `collate_fn` is called, the random streams begin anew.
    """

    dataset: Samples[object]
    seed: int
    collate_fn: Collate | None
    """None: `collated`, which draws nothing."""
    _draws: bool = field(init=False)
    _whole: bool = field(init=False)
    _columns: tuple[Tensor, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_draws", not draws_nothing(self.dataset))
        object.__setattr__(self, "_whole", reads_whole_batches(self.dataset))
        object.__setattr__(self, "_columns", columns_of(self.dataset) if self.collate_fn is None else ())

    def __getitem__(self, place: Place) -> B_co:
        in_main = get_worker_info() is None
        draws = self._draws or self.collate_fn is not None
        try:
            with streams_put_back() if draws and in_main else nullcontext():
                return cast("B_co", self._batch(place))
        except StopIteration as error:  # would end the epoch without a word
            raise RuntimeError(
                f"The dataset or its collate_fn raised StopIteration in batch {place.number} of epoch {place.epoch}."
            ) from error

    def _batch(self, place: Place) -> object:
        if self._columns:
            rows = torch.tensor(place.samples)
            return tuple(column[rows] for column in self._columns)
        samples = self._samples(place)
        if self.collate_fn is None:
            return collated(samples)
        seed_streams(word_of("batch", self.seed, place.epoch, place.number))
        return self.collate_fn(samples)

    def _samples(self, place: Place) -> list[object]:
        if not self._draws:
            return [self.dataset[index] for index in place.samples]
        base = word_of("sample", self.seed, place.epoch)
        if self._whole:
            seed_streams(nth_word(base, place.samples[0]))
            return list(cast("_Whole", self.dataset).__getitems__(place.samples))
        samples: list[object] = []
        for index in place.samples:
            seed_streams(nth_word(base, index))
            samples.append(self.dataset[index])
        return samples


class _Whole(Protocol):
    def __getitems__(self, indices: list[int], /) -> Sequence[object]: ...


def draws_nothing(dataset: object) -> bool:
    """Whether reading a sample runs no code but Python's and torch's own, so that no stream need be seeded for it."""
    if type(dataset) is Subset:
        return draws_nothing(cast("object", dataset.dataset))
    if type(dataset) is ConcatDataset:
        return all(draws_nothing(part) for part in cast("list[object]", dataset.datasets))
    return type(dataset) in (TensorDataset, Tensor, list, tuple, range)


def reads_whole_batches(dataset: object) -> bool:
    """Whether the dataset has a faster way for many indices at once, as a `DataLoader` would use it."""
    if type(dataset) is Subset:  # has the method in any case
        return reads_whole_batches(cast("object", dataset.dataset))
    return callable(getattr(dataset, "__getitems__", None))


def columns_of(dataset: object) -> tuple[Tensor, ...]:
    """The tensors of a `TensorDataset`, whose rows can be taken at once: equal to stacking them, and faster."""
    if type(dataset) is not TensorDataset:
        return ()
    return dataset.tensors if all(map(_is_plain, dataset.tensors)) else ()


def _is_plain(column: Tensor) -> bool:
    return type(column) is Tensor and column.layout == torch.strided and column.is_contiguous()
