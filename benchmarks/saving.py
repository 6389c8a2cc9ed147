"""What saves and reading them cost, against a plain copy and torch's own files; `python -m benchmarks.saving` alone."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, final

import torch
from attrs import define, field, frozen
from torch import Tensor, nn

from trainhooks.checkpoint import Writer, begin_attempt, newest_whole
from trainhooks.store import Data, ObjectInfo, Store, open_store

from .reasons import COPIES
from .report import table_of_rows
from .rows import Row
from .timing import Act, ratio, take_turns

ROUNDS: Final = 15
MEMORY_ROUNDS: Final = 3
SPARE: Final = 64.0
"""MiB that a save or a reading may take beyond its buffers."""


@final
@frozen(kw_only=True, eq=False)
class Training:
    """A model and its Adam after a step; the sizes of the default make a state of 104 MB."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of them; the tensors are theirs."""
        return {"model": self.model.state_dict(), "optimizers": [self.optimizer.state_dict()]}

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors of the state."""
        states: Iterable[dict[str, Tensor]] = self.optimizer.state_dict()["state"].values()
        return [*self.model.state_dict().values(), *(one for state in states for one in state.values())]


def training_of(layers: int = 24, units: int = 600) -> Training:
    """So many square layers, trained by a step."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(units, units) for _ in range(layers)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, units)).sum().backward()
    optimizer.step()
    return Training(model=model, optimizer=optimizer)


@final
@define(eq=False)
class Saving:
    """Saves into a folder of a disk, and takes them away again."""

    training: Training
    folder: Path
    store: Store = field(init=False)
    writer: Writer = field(init=False)
    _steps: "count[int]" = field(factory=lambda: count(1), init=False)

    def __attrs_post_init__(self) -> None:
        self.store = open_store(str(self.folder / "ours"))
        self.writer = Writer(self.store, begin_attempt(self.store, resumed_from=None))

    @property
    def file(self) -> Path:
        """Where torch writes."""
        return self.folder / "theirs.pt"

    def ours(self, *, background: bool) -> None:
        """A checkpoint."""
        self.writer.save(self.training.state, step=next(self._steps), epoch=0, epochs=0, background=background)

    def theirs(self) -> None:
        """What one writes by hand, durable when it returns."""
        torch.save(self.training.state, self.file)
        for path in (self.file, self.folder):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def remove(self) -> None:
        """Take all files away, once they are there."""
        self.writer.wait()
        for one in self.writer.finished():
            self.store.delete([one.key, *(file.key for file in one.files)])
        self.file.unlink(missing_ok=True)


@final
@define(eq=False)
class CountedReads:
    """A store that counts how often each object is read."""

    inner: Store
    reads: Counter[str] = field(factory=Counter[str])

    @property
    def url(self) -> str:
        return self.inner.url

    def put(self, key: str, data: Data, *, create: bool = False) -> None:
        self.inner.put(key, data, create=create)

    def get(self, key: str) -> memoryview:
        self.reads[key] += 1
        return self.inner.get(key)

    def stream(self, key: str) -> Iterator[bytes]:
        self.reads[key] += 1
        return self.inner.stream(key)

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return self.inner.list(prefix)

    def head(self, key: str) -> ObjectInfo:
        return self.inner.head(key)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(keys)

    def at(self, prefix: str) -> Store:
        return self.inner.at(prefix)


def rows_of_saving(training: Training, folder: Path, rounds: int = ROUNDS) -> Iterator[Row]:
    """How long the loop is held by a save in the background, and by one that it waits for."""
    saving = Saving(training, folder)
    buffers = [one.clone() for one in training.tensors]
    acts = {
        "copy": Act(lambda: [to.copy_(one) for to, one in zip(buffers, training.tensors, strict=True)]),
        "background": Act(lambda: saving.ours(background=True), saving.remove),
        "torch.save": Act(saving.theirs, saving.remove),
        "waited for": Act(lambda: saving.ours(background=False), saving.remove),
    }
    with torch.no_grad():
        times = take_turns(acts, rounds=rounds)
    saving.writer.close()
    yield Row(what="a save in the background / a copy", goal=1.3, ratio=ratio(times, "background", "copy"), why=COPIES)
    what = "a save that is waited for / torch.save and fsync"
    yield Row(what=what, goal=1.3, ratio=ratio(times, "waited for", "torch.save"))


def rows_of_reading(training: Training, folder: Path, rounds: int = ROUNDS) -> Iterator[Row]:
    """How long it takes to find and read the newest checkpoint, and how often an object is read."""
    saving = Saving(training, folder)
    saving.ours(background=False)
    saving.theirs()
    store = CountedReads(saving.store)
    acts = {
        "torch.load": Act(lambda: torch.load(saving.file, weights_only=True)),
        "ours": Act(lambda: newest_whole(store)),
    }
    times = take_turns(acts, rounds=rounds)
    saving.writer.close()
    yield Row(what="finding and reading the newest / torch.load", goal=None, ratio=ratio(times, "ours", "torch.load"))
    store.reads.clear()
    newest_whole(store)
    reads = {"most": [float(max(store.reads.values()))], "once": [1.0]}
    yield Row(what="reads of an object / 1", goal=1.0, ratio=ratio(reads, "most", "once"))


def rows_of_memory(rounds: int = MEMORY_ROUNDS) -> Iterator[Row]:
    """The peak memory of a process that saves faster than its store writes, and of one that reads."""
    found = [_memory() for _ in range(rounds)]
    sizes = {
        "saving": [saving for _, saving, _ in found],
        "buffers": [2 * state + SPARE for state, _, _ in found],
        "reading": [reading for _, _, reading in found],
        "state": [state + SPARE for state, _, _ in found],
    }
    what = "memory: eight saves at once / two buffers and 64 MiB"
    yield Row(what=what, goal=1.0, ratio=ratio(sizes, "saving", "buffers"))
    yield Row(what="memory: reading / the state and 64 MiB", goal=1.0, ratio=ratio(sizes, "reading", "state"))


def _memory() -> tuple[float, float, float]:
    """MiB of a state, and what saving it and reading it add to a process of their own."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.checkpoint.memory", folder]
        root = Path(__file__).parents[1]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    state, saving, reading = map(float, done.stdout.split())
    return state, saving, reading


def rows_of_checkpoints() -> list[Row]:
    """Everything that is measured of saves."""
    training = training_of()
    rows: list[Row] = []
    parts: tuple[Callable[[Training, Path], Iterator[Row]], ...] = (rows_of_saving, rows_of_reading)
    for part in parts:
        with TemporaryDirectory(dir=Path.cwd()) as folder:  # a temporary folder may be in memory
            rows.extend(part(training, Path(folder)))
    return [*rows, *rows_of_memory()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table_of_rows("ours / theirs", rows_of_checkpoints()))
