"""Training goes on while a checkpoint is written, as long as there is a buffer for the next one."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from torch import nn

from tests.checkpoint.faults import FaultyStore
from tests.loop.programs import linear
from tests.run.saved import experiment, run, state_of, steps
from trainhooks import BatchBegin, BatchEnd, CheckpointSaved, HookSet, TrainResult, every, load_weights
from trainhooks.checkpoint import Writer
from trainhooks.hooks import checkpoint
from trainhooks.store import Store

SAVING = checkpoint(when=every(4, "updates"), keep_last=None)


@define
class Watched:
    """A run that saves every four updates, to a store of which the first write stalls until it is released."""

    folder: Path
    stores: list[FaultyStore] = field(factory=list[FaultyStore])
    model: nn.Module = field(factory=linear)
    states: dict[int, object] = field(factory=dict[int, object])
    """The model after each update."""
    saved: list[int] = field(factory=list[int])
    """What the run was told to be durable."""
    released: list[int] = field(factory=list[int])
    """The updates that were finished when a batch began after the release."""
    results: list[TrainResult] = field(factory=list[TrainResult])
    """What the run gave, once it is over."""

    def writer(self, folder: Store, *arguments: Any, **more: Any) -> Writer:
        self.stores.append(FaultyStore(folder, "stalls", at_call=1))
        return Writer(self.stores[-1], *arguments, **more)

    @property
    def store(self) -> FaultyStore:
        [store] = self.stores
        return store

    def start(self, updates: int, *more: HookSet) -> threading.Thread:
        """Train on a thread, so that a run that waits for ever fails the test alone."""
        noting = HookSet(
            name="noting", on_batch_begin=self.begins, on_batch_end=self.ends, on_checkpoint_saved=self.hears
        )

        def train() -> None:
            self.results.append(run(self.folder, [SAVING, noting, *more], model=self.model, updates=updates))

        thread = threading.Thread(target=train, daemon=True)
        thread.start()
        return thread

    def begins(self, ctx: BatchBegin) -> None:
        if self.store.released.is_set():
            self.released.append(ctx.at.updates)

    def ends(self, ctx: BatchEnd) -> None:
        self.states[ctx.at.updates] = state_of(self.model)

    def hears(self, ctx: CheckpointSaved) -> None:
        self.saved.append(ctx.step)

    def check(self, saved: list[int]) -> None:
        """Each checkpoint is there, with the weights of its own update."""
        [result] = self.results
        assert steps(result) == self.saved == saved
        for step in saved:
            loaded = linear(seed=1)
            load_weights(loaded, experiment(self.folder), step)
            assert state_of(loaded) == self.states[step]


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    one = Watched(tmp_path)
    monkeypatch.setattr("trainhooks.run.saving.Writer", one.writer)
    yield one
    for store in one.stores:
        store.released.set()


def test_all_updates_up_to_the_save_that_needs_a_buffer_are_made_while_the_first_is_stalled(watched: Watched) -> None:
    """Keeps P30."""

    def release(ctx: BatchEnd) -> None:
        if ctx.at.updates == 11:  # saves at 4 and 8 were asked for, and both buffers are in use
            assert watched.store.stalled.wait(300)
            assert watched.saved == []
            watched.store.released.set()

    watched.start(14, HookSet(name="release", on_batch_end=release)).join(300)
    assert watched.released == [11, 12, 13]
    assert list(watched.states) == list(range(1, 15))
    watched.check([4, 8, 12])
    alone = linear()
    run(watched.folder / "without", [], model=alone, updates=14)
    assert state_of(alone) == watched.states[14]


def test_a_third_save_waits_for_a_buffer_and_every_checkpoint_is_durable_in_the_end(watched: Watched) -> None:
    """Keeps P31."""
    at_twelve = threading.Event()

    def note(ctx: BatchEnd) -> None:
        if ctx.at.updates == 12:
            at_twelve.set()

    training = watched.start(18, HookSet(name="at twelve", on_batch_end=note))
    assert at_twelve.wait(300)
    training.join(0.1)  # time to do wrong
    assert training.is_alive()
    assert list(watched.states) == list(range(1, 13))
    watched.store.released.set()
    training.join(300)
    assert watched.released == [12, 13, 14, 15, 16, 17]
    watched.check([4, 8, 12, 16])
