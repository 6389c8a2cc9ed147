"""A process dies before or after any call to its store: what it left is whole, and the run goes on from it."""

import warnings

import pytest

from tests.checkpoint.faults import Death, Fault, FaultyStore
from tests.checkpoint.runs import KEEP, Run, check, loss_of, orphans, state_of
from trainhooks.checkpoint import Writer, begin_attempt, sweep
from trainhooks.errors import CheckpointError
from trainhooks.store import open_store

SAVES = 8


def calls_of_a_run() -> list[str]:
    """Every call of a first process and of one that goes on after it."""
    store = FaultyStore(open_store("memory://"))
    Run(store).go(SAVES)
    Run(store).go(3)
    return store.calls


def test_a_run_saves_retires_and_sweeps_so_that_there_is_something_to_die_in() -> None:
    calls = calls_of_a_run()
    puts = [one.split()[1].split("/")[0] for one in calls if one.startswith("put")]
    assert (puts.count("ckpt"), puts.count("manifests"), puts.count("attempts")) == (3 * (SAVES + 3), SAVES + 3, 2)
    assert sum(one.startswith("delete manifests") for one in calls) == SAVES + 3 - 2
    assert sum(one.startswith("delete ckpt") for one in calls) == 3 * (SAVES + 3 - 2)
    retired = calls.index(next(one for one in calls if one.startswith("delete ckpt")))
    assert calls[retired - 1].startswith("delete manifests")  # the manifest first


@pytest.mark.parametrize("fault", ["dies before", "dies after"])
def test_whatever_call_a_process_dies_at_the_newest_is_whole_and_the_best_is_there(fault: Fault) -> None:
    """Keeps P23, P26 and P32."""
    for at_call in range(1, len(calls_of_a_run()) + 1):
        inner = open_store("memory://")
        store = FaultyStore(inner, fault, at_call)
        acknowledged: list[int] = []
        for saves in (SAVES, 3):
            run = Run(store, acknowledged=acknowledged)
            try:
                run.go(saves)
            except Death:
                break
        assert store.dead
        manifests = check(inner, acknowledged)
        newest = manifests[0].step if manifests else 0
        after = Run(inner)
        after.go(2)
        assert after.acknowledged == [newest + 1, newest + 2]
        check(inner, acknowledged + after.acknowledged)
        assert orphans(inner) == []


@pytest.mark.parametrize("fault", ["fails before", "fails after"])
def test_whatever_call_fails_the_earlier_checkpoints_stay_and_the_next_save_works(fault: Fault) -> None:
    """Keeps P26 and P29."""
    at_call, reached = 0, True
    while reached:
        at_call += 1
        inner = open_store("memory://")
        attempt = begin_attempt(inner, resumed_from=None)
        store = FaultyStore(inner, fault, at_call)
        reached = saves_with_at_most_one_failure(store, Writer(store, attempt, KEEP))
        (newest, *_) = check(inner, [])
        sweep(inner, begin_attempt(inner, resumed_from=newest.step))
        assert orphans(inner) == []
    assert at_call > 8 * SAVES  # a save is three files, a look at the attempts, a manifest, and retention


def saves_with_at_most_one_failure(store: FaultyStore, writer: Writer) -> bool:
    """Save step after step over a store that fails once, and say whether it did."""
    acknowledged: list[int] = []
    told: list[str] = []
    for step in range(1, SAVES + 1):
        before = len(store.calls)
        writer.save(state_of(step), step=step, epoch=0, epochs=0, metrics={"loss": loss_of(step)}, background=False)
        failing = before < store.at_call <= len(store.calls)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                acknowledged += [one.step for one in writer.finished()]
            except CheckpointError as error:
                told.append(str(error))
                assert failing
                assert f"The checkpoint of step {step} was not saved" in told[0]
        for one in caught:
            told.append(str(one.message))
            assert failing
            assert f"The checkpoint of step {step} is saved, but older ones could not be removed" in told[0]
        check(store.inner, acknowledged)
    writer.close()
    reached = store.at_call <= len(store.calls)
    assert len(told) == reached
    assert len(acknowledged) >= SAVES - 1
    return reached
