"""Of several processes of one run the latest counts: it alone saves, removes and sweeps, and others are told."""

import threading

import pytest

from tests.checkpoint.faults import FaultyStore
from tests.checkpoint.runs import Run, check, state_of
from tests.checkpoint.saves import save, steps, writer_on
from trainhooks.checkpoint import Writer, begin_attempt, manifests_of, sweep
from trainhooks.core import Keep
from trainhooks.errors import CheckpointError
from trainhooks.store import open_store


def test_of_two_writers_of_one_attempt_one_wins_each_step_and_the_other_is_told() -> None:
    """Keeps P69."""
    store = open_store("memory://")
    attempt = begin_attempt(store, resumed_from=None)
    writers = [Writer(store, attempt), Writer(store, attempt)]
    won: list[int] = []
    lost: list[str] = []

    def race(writer: Writer) -> None:
        for step in range(1, 21):
            save(writer, step)
            try:
                won.extend(one.step for one in writer.finished())
            except CheckpointError as error:
                lost.append(str(error))

    threads = [threading.Thread(target=race, args=(writer,), daemon=True) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(won) == list(range(1, 21))
    assert len(lost) == 20
    assert all("another process writes to the same run" in one for one in lost)
    assert [one.step for one in check(store, won)] == list(range(20, 0, -1))


def test_a_process_whose_run_a_later_attempt_has_gone_on_with_saves_no_more_and_says_so() -> None:
    """Keeps P69."""
    store = open_store("memory://")
    old = writer_on(store, Keep(last=1))
    save(old, 1)
    new = Writer(store, begin_attempt(store, resumed_from=1), [Keep(last=1)])
    assert save(old, 2)
    with pytest.raises(CheckpointError, match=r"attempt 2 has gone on with the run .* its attempt 1. It saves no more"):
        old.finished()
    assert not save(old, 3)
    assert "attempt 2" in str(old.unpublished)
    assert steps(store) == [1]
    save(new, 2)
    assert [(one.step, one.attempt) for one in manifests_of(store)] == [(2, 2)]


def test_an_attempt_that_was_overtaken_removes_nothing() -> None:
    inner = open_store("memory://")
    store = FaultyStore(inner, "stalls", 12)
    old = Writer(store, begin_attempt(inner, resumed_from=None), [Keep(last=1)])
    save(old, 1)
    retiring = len(store.calls) + len(["file", "file", "file", "attempts", "manifest"]) + 1
    store.at_call = retiring
    save(old, 2, background=True)
    assert store.stalled.wait(300)
    begin_attempt(inner, resumed_from=2)
    store.released.set()
    assert old.wait(300)
    assert steps(inner) == [2, 1]


def test_after_a_resume_from_an_older_step_the_dead_runs_checkpoints_count_no_more() -> None:
    """Keeps P62."""
    store = open_store("memory://")
    keep = [Keep(last=2, every=10), Keep(best=("loss", "min"))]
    first = Writer(store, begin_attempt(store, resumed_from=None), keep)
    for step, loss in ((10, 3.0), (20, 1.0), (30, 2.0)):
        first.save(
            state_of(step), step=step, epoch=0, epochs=0, metrics={"loss": loss}, pinned=step == 30, background=False
        )
    second = Writer(store, begin_attempt(store, resumed_from=10), keep)
    assert steps(store) == [10]
    second.save(state_of(15), step=15, epoch=0, epochs=0, metrics={"loss": 2.5}, background=False)
    assert [(one.step, one.attempt) for one in manifests_of(store)] == [(15, 2), (10, 1)]
    left = [one.key for one in store.list("manifests/")]
    assert left == [f"manifests/00000000{one}.json" for one in ("10-000001", "15-000002", "30-000001")]  # 30 is pinned


def test_nothing_is_removed_if_the_newest_is_not_all_there() -> None:
    """Keeps P26."""
    inner = open_store("memory://")
    writer = writer_on(inner, Keep(last=1))
    save(writer, 1)
    store = FaultyStore(inner, "stalls", len(["file", "file", "file", "attempts", "manifest"]) + 1)
    writer = Writer(store, begin_attempt(inner, resumed_from=1), [Keep(last=1)])
    save(writer, 2, background=True)
    assert store.stalled.wait(300)
    (damaged,) = [one for one in manifests_of(inner) if one.step == 2]
    inner.delete([damaged.files[0].key])
    store.released.set()
    assert writer.wait(300)
    assert steps(inner) == [2, 1]


def test_files_of_the_attempt_that_goes_on_are_not_swept_and_those_of_earlier_ones_are() -> None:
    store = open_store("memory://")
    Run(store).go(2)
    attempt = begin_attempt(store, resumed_from=2)
    old, own, later = (f"ckpt/0000000003-00000{number}-ab/state.json" for number in (1, 2, 3))
    odd = "ckpt/notes.txt"
    for key in (old, own, later, odd):
        store.put(key, b"x")
    assert sweep(store, attempt) == [old]
    assert {own, later, odd} <= {one.key for one in store.list("ckpt/")}


def test_files_of_a_manifest_that_cannot_be_read_are_not_swept() -> None:
    store = open_store("memory://")
    Run(store).go(1)
    (manifest,) = manifests_of(store)
    store.put(manifest.key, b"{}")
    assert sweep(store, begin_attempt(store, resumed_from=None)) == []
