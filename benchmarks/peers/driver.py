"""What a system is asked to do, and the form in which its file says how it does that."""

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias, final

from torch import Tensor, nn
from torch.optim import Optimizer

Batch: TypeAlias = tuple[Tensor, Tensor]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

MAX_NORM: Final = 1.0
PATIENCE: Final = 1000
"""Epochs without a better mean loss that stop a realistic run: it looks after each epoch and never stops."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Realistic:
    """Each step's loss kept, a clip, a schedule; after each epoch the mean loss, early stopping, a row of a file."""

    path: Path
    """The CSV file gets a row for each epoch; a system whose own file has a fixed name puts it into the same folder."""
    updates: int
    """Of the whole run."""
    updates_an_epoch: int

    def factor(self, update: int) -> float:
        """The learning rate of an update, counted from 0, as a share of the first: linear decay."""
        return 1.0 - update / (self.updates + 1)


class Book:
    """What a realistic run keeps by itself where its system has nothing for that."""

    def __init__(self, path: Path) -> None:
        self.losses: list[float] = []
        """Of each step; whoever trains appends to it."""
        self.mean = float("inf")
        """Loss of the newest epoch."""
        self._path = path
        self._closed = 0
        self._best, self._bad = float("inf"), 0
        path.write_text("")

    def close_epoch(self) -> bool:
        """Write a row with the mean loss of the epoch, and say whether to stop: `PATIENCE` epochs brought no better."""
        new = self.losses[self._closed :]
        self.mean = sum(new) / len(new)
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow((self._closed, self.mean))
        self._closed = len(self.losses)
        self._best, self._bad = (self.mean, 0) if self.mean < self._best else (self._best, self._bad + 1)
        return self._bad >= PATIENCE


class Source:
    """Ready batches in memory, and a clock that is read when a batch is asked for.

    A step is what lies between two requests, so what a system does before the first batch of an epoch and after its
    last is not timed. The clock is read at the request of the third batch and of the last.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches
        self.clock: Callable[[], float] = time.process_time
        self.readings: list[tuple[float, float]] = []
        """Of each epoch."""
        self.timed = len(batches) - 3
        """Steps between the two readings of an epoch."""

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches[:2]
        began = self.clock()
        yield from self.batches[2:-1]
        self.readings.append((began, self.clock()))
        yield self.batches[-1]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training, from a fresh model to its final weights."""

    model: nn.Module
    optimizer: Optimizer
    """SGD over all parameters."""
    rate: float
    """The optimizer's, for a system that has optimizers of its own."""
    data: Source
    epochs: int
    loss: Loss
    """The mean of squared errors."""
    hooks: int = 0
    """Hooks that do nothing: so many on the begin of each batch, and as many on its end."""
    realistic: Realistic | None = None


class System(Protocol):
    """A file of this folder that trains with one system, in the smallest form which that system recommends.

    Hooks have the system's own form, and a body that does nothing.
    """

    HOOKS: tuple[str, str]
    """Names of the functions that are called at the begin and the end of a batch; they are counted by these."""

    def train(self, job: Job) -> Sequence[float]:
        """Train `job.model` in place, and give back the loss of each step if the job is realistic."""
        ...
