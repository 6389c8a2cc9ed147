"""A writer saves in the background what the state was, waits for buffers, and tells what became durable."""

import threading

import torch

from tests.checkpoint.faults import FaultyStore
from tests.checkpoint.runs import state_of
from tests.checkpoint.saves import FIRST_FILE, save, stalling, steps, writer_on
from tests.checkpoint.trees import same
from trainhooks.checkpoint import Writer, begin_attempt, manifests_of, newest_whole, read
from trainhooks.checkpoint.snapshots import SnapshotPool
from trainhooks.store import open_store


def test_the_manifest_tells_what_was_saved_and_the_state_comes_back() -> None:
    store = open_store("memory://")
    writer = Writer(store, begin_attempt(store, resumed_from=None), clock=lambda: 0.0, versions={"torch": "2"})
    writer.save(
        state_of(7), step=7, epoch=2, epochs=1, metrics={"val/loss": 0.5}, tags=["mine"], pinned=True, resumable=False,
        monitors=[("val/loss", "min")], world_size=3, extra={"at": 1}, background=False,
    )  # fmt: skip
    (saved,) = writer.finished()
    assert (saved.step, saved.epoch, saved.epochs, saved.attempt, saved.serial) == (7, 2, 1, 1, 0)
    assert (saved.metrics, saved.tags, saved.pinned, saved.resumable) == ({"val/loss": 0.5}, ("mine",), True, False)
    assert (saved.monitors, saved.world_size, saved.extra) == ((("val/loss", "min"),), 3, {"at": 1})
    assert (saved.created, saved.versions) == ("1970-01-01T00:00:00.000+00:00", {"torch": "2"})
    assert [file.name for file in saved.files] == ["model.safetensors", "optimizers.safetensors", "state.json"]
    assert manifests_of(store) == [saved]
    assert same(read(store, saved), state_of(7))
    assert writer.finished() == []


def test_a_state_that_is_overwritten_right_after_the_save_is_saved_as_it_was() -> None:
    """Keeps P28."""
    store, writer = stalling(FIRST_FILE)
    save(writer, 1, background=True)
    assert store.stalled.wait(300)
    state = state_of(2)
    writer.save(state, step=2, epoch=0, epochs=0)
    state["model"]["w"].fill_(-1)
    state["progress"]["updates"] = -1
    store.released.set()
    assert writer.wait(300)
    found = newest_whole(store.inner)
    assert found is not None
    assert same(found[1], state_of(2))


def test_a_save_in_the_background_returns_before_its_store_does_and_is_told_when_it_is_durable() -> None:
    store, writer = stalling(FIRST_FILE)
    assert save(writer, 1, background=True)
    assert store.stalled.wait(300)
    assert writer.finished() == []
    assert not writer.wait(0.01)
    assert steps(store.inner) == []
    store.released.set()
    assert writer.wait(300)
    assert [one.step for one in writer.finished()] == [1]


def test_a_save_that_is_not_in_the_background_is_durable_when_it_returns_after_those_before_it() -> None:
    store = open_store("memory://")
    writer = writer_on(store)
    save(writer, 1, background=True)
    save(writer, 2)
    assert steps(store) == [2, 1]
    assert [one.step for one in writer.finished()] == [1, 2]


def test_saves_that_come_faster_than_the_store_takes_them_wait_for_a_buffer() -> None:
    """Keeps P31."""
    store, writer = stalling(FIRST_FILE)
    save(writer, 1, background=True)
    save(writer, 2, background=True)
    third = threading.Thread(target=lambda: save(writer, 3, background=True), daemon=True)
    third.start()
    third.join(0.1)
    assert third.is_alive()
    store.released.set()
    third.join(300)
    assert writer.wait(300)
    assert steps(store.inner) == [3, 2, 1]


def test_or_they_are_left_out_but_for_pinned_ones_and_those_that_are_waited_for() -> None:
    """Keeps P31."""
    inner = open_store("memory://")
    store = FaultyStore(inner, "stalls", FIRST_FILE)
    writer = Writer(store, begin_attempt(inner, resumed_from=None), pool=SnapshotPool(1), on_full="skip")
    assert save(writer, 1, background=True)
    assert not save(writer, 2, background=True)
    done: list[bool] = []
    pinned = threading.Thread(target=lambda: done.append(save(writer, 3, background=True, pinned=True)), daemon=True)
    pinned.start()
    pinned.join(0.1)
    assert pinned.is_alive()
    store.released.set()
    pinned.join(300)
    assert save(writer, 4)
    assert done == [True]
    assert steps(inner) == [4, 3, 1]


def test_two_saves_of_one_step_are_two_checkpoints() -> None:
    store = open_store("memory://")
    writer = writer_on(store)
    save(writer, 1)
    save(writer, 1)
    assert [one.key for one in manifests_of(store)] == [
        "manifests/0000000001-000001-1.json", "manifests/0000000001-000001.json",
    ]  # fmt: skip


def test_a_file_that_the_store_writes_in_parts_comes_back() -> None:
    store = open_store("memory://")
    writer = writer_on(store)
    state = {"model": {"w": torch.arange(5_000_000, dtype=torch.float32)}}
    writer.save(state, step=1, epoch=0, epochs=0, background=False)
    found = newest_whole(store)
    assert found is not None
    assert same(found[1], state)
