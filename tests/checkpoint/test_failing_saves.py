"""A save that fails, or a store that hangs, is told by name and harms nothing but itself."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from tests.checkpoint.faults import FaultyStore
from tests.checkpoint.runs import check, orphans
from tests.checkpoint.saves import FIRST_FILE, save, stalling, steps, why_not, writer_on
from trainhooks.checkpoint import Writer, begin_attempt
from trainhooks.core import Keep
from trainhooks.errors import CheckpointError, StorageError
from trainhooks.store import open_store


def test_a_failed_save_is_an_error_that_names_store_step_and_object_and_the_next_one_works() -> None:
    """Keeps P29."""
    inner = open_store("memory://")
    writer = Writer(FaultyStore(inner, "fails before", 3), begin_attempt(inner, resumed_from=None))
    save(writer, 5)
    with pytest.raises(CheckpointError) as raised:
        writer.finished()
    assert str(raised.value) == why_not(writer)
    assert str(raised.value).startswith("The checkpoint of step 5 was not saved: ckpt/0000000005-000001-")
    assert f"/state.json could not be written to {inner.url}. put ckpt/" in str(raised.value)
    assert isinstance(raised.value.__cause__, StorageError)
    assert steps(inner) == []
    save(writer, 6)
    assert why_not(writer) == "None"
    assert [one.step for one in writer.finished()] == [6]
    assert orphans(inner) == []  # what the failed save had written is gone


def test_what_became_durable_before_a_failure_is_told_after_it() -> None:
    inner = open_store("memory://")
    writer = Writer(FaultyStore(inner, "fails before", 6), begin_attempt(inner, resumed_from=None))
    for step in (1, 2, 3):
        save(writer, step)
    with pytest.raises(CheckpointError, match="of step 2 was not saved"):
        writer.finished()
    assert [one.step for one in writer.finished()] == [1, 3]


def test_several_failures_are_told_together() -> None:
    inner = open_store("memory://")
    store = FaultyStore(inner, "fails before", 1)
    writer = Writer(store, begin_attempt(inner, resumed_from=None))
    save(writer, 1)
    store.at_call = len(store.calls) + 2  # the first one clears away what the failed save left
    save(writer, 2)
    with pytest.raises(CheckpointError, match="of step 1") as raised:
        writer.finished()
    assert "of step 2" in raised.value.__notes__[0]


def test_it_is_a_warning_if_every_policy_says_so() -> None:
    """Keeps P29."""
    inner = open_store("memory://")
    attempt = begin_attempt(inner, resumed_from=None)
    writer = Writer(FaultyStore(inner, "fails before", 1), attempt, [Keep(last=1, on_failure="warn")])
    save(writer, 1)
    with pytest.warns(RuntimeWarning, match="The checkpoint of step 1 was not saved"):
        assert writer.finished() == []
    assert "of step 1" in str(writer.unpublished)
    mixed = [Keep(last=1, on_failure="warn"), Keep(last=2)]
    writer = Writer(FaultyStore(inner, "fails before", 1), attempt, mixed)
    save(writer, 1)
    with pytest.raises(CheckpointError):
        writer.finished()


def test_a_manifest_whose_answer_was_lost_keeps_its_files() -> None:
    inner = open_store("memory://")
    writer = Writer(FaultyStore(inner, "fails after", 5), begin_attempt(inner, resumed_from=None))
    save(writer, 1)
    with pytest.raises(CheckpointError, match=r"manifests/0000000001-000001.json could not be written"):
        writer.finished()
    save(writer, 2)
    assert [one.step for one in check(inner, [1, 2])] == [2, 1]


def test_the_thread_ends_with_the_writer_and_a_store_that_hangs_does_not_keep_it() -> None:
    others = set(threading.enumerate())
    store, writer = stalling(FIRST_FILE)
    save(writer, 1, background=True)
    assert store.stalled.wait(300)
    (thread,) = set(threading.enumerate()) - others
    assert thread.daemon
    assert not writer.close(timeout=0.01)
    store.released.set()
    thread.join(300)
    assert not thread.is_alive()
    assert steps(store.inner) == [1]


def save_a_third(writer: Writer) -> bool:
    return save(writer, 3, background=True)


@pytest.mark.parametrize("waits", [Writer.wait, save_a_third])
def test_a_signal_ends_the_wait_for_a_store_that_hangs_and_the_save_goes_on(waits: Callable[[Writer], object]) -> None:
    store, writer = stalling(FIRST_FILE)
    save(writer, 1, background=True)
    save(writer, 2, background=True)
    assert store.stalled.wait(300)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        waits(writer)
    store.released.set()
    assert writer.wait(300)
    assert steps(store.inner) == [2, 1]
    assert save(writer, 4)


def test_a_state_that_cannot_be_saved_is_refused_at_once() -> None:
    store = open_store("memory://")
    writer = writer_on(store, slots=1)
    with pytest.raises(CheckpointError, match=r"at hooks.mine"):
        writer.save({"hooks": {"mine": object()}}, step=1, epoch=0, epochs=0)
    assert save(writer, 2, background=False)
    assert steps(store) == [2]
