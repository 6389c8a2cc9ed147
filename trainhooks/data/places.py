"""Which samples make up which batch: a pure function of the seed and the epoch."""

from collections.abc import Iterator
from typing import cast, final

import torch
from attrs import frozen

from .streams import word_of


@final
@frozen
class Place:
    """Where a batch stands, and what it is made of."""

    epoch: int
    """From 0."""
    number: int
    """Among the batches of the epoch, over all processes, from 0."""
    samples: list[int]
    """Indices of its samples, in order."""


@final
@frozen(kw_only=True)
class EpochPlaces:
    """The places of some batches of an epoch, in order: what a `DataLoader` takes as its sampler."""

    samples: int
    """How many samples the dataset has."""
    batch_size: int
    seed: int
    shuffle: bool
    epoch: int
    numbers: range
    """Which batches of the epoch."""

    def __iter__(self) -> Iterator[Place]:
        order = self._order() if self.shuffle else torch.arange(self.samples)
        for number in self.numbers:
            begin = number * self.batch_size
            picked = order[begin : begin + self.batch_size]
            yield Place(self.epoch, number, cast("list[int]", picked.tolist()))

    def _order(self) -> torch.Tensor:
        generator = torch.Generator()
        generator.manual_seed(word_of("order", self.seed, self.epoch))
        return torch.randperm(self.samples, generator=generator)
