"""SIGTERM to a run of several real processes under torchrun: to one of them, to torchrun, to all and their workers."""

import json
from pathlib import Path

import pytest

from tests.ranks import on_ranks, torchrun
from tests.run.elastic import Left, Plan, Reader, left_in, ran
from tests.run.ranked import store_of, stored_by
from trainhooks.checkpoint import manifests_of, verify


def whole_steps(folder: Path) -> list[int]:
    """The updates of all checkpoints, each of them whole, oldest first."""
    store = store_of(folder)
    found = manifests_of(store)
    for one in found:
        verify(store, one)
    return sorted(one.step for one in found)


def left_early(folder: Path) -> list[Left]:
    """What each rank left, having left in good order, at one step, whole and marked."""
    left = left_in(folder)
    (step,) = {one.updates for one in left}
    assert step in (4, 5), "within one update"
    assert [one.end for one in left] == ["SystemExit(0)"] * 2
    assert all(one.restored for one in left)
    assert whole_steps(folder) == [3, step]
    mark = json.loads(bytes(store_of(folder).get("PREEMPTED")))
    assert mark == {"signal": 15, "step": step, "attempt": 1}
    return left


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Left]:
    return on_ranks(2, ran, tmp_path_factory.mktemp("undisturbed"), Plan(), fresh=True)


def test_sigterm_to_one_process_ends_all_and_the_next_attempt_goes_on(
    tmp_path: Path, undisturbed: list[Left]
) -> None:
    """Keeps P34."""
    first = torchrun("tests.run.elastic", str(tmp_path), Plan(deed="term").text())
    assert first.returncode == 0, first.stderr
    assert [one.handled for one in left_early(tmp_path)] == [[], [15]]
    second = on_ranks(2, ran, tmp_path, Plan(), fresh=True)
    assert [one.begun for one in second] == [whole_steps(tmp_path)[1]] * 2
    assert [one.model for one in second] == [one.model for one in undisturbed]
    assert [one.average for one in second] == [one.average for one in undisturbed]
    assert "PREEMPTED" not in stored_by(tmp_path)


def test_sigterm_to_torchrun_reaches_all_which_leave_together(tmp_path: Path) -> None:
    """Keeps P34."""
    plan = Plan(deed="term agent", pause=0.5, policy="return", updates=54)
    ended = torchrun("tests.run.elastic", str(tmp_path), plan.text())
    assert ended.returncode == 1, "torchrun has no other code for a signal that it got itself"
    left = left_in(tmp_path)
    (step,) = {one.updates for one in left}
    assert 4 <= step < 54
    assert [one.end for one in left] == ["Interrupted(signal=15)"] * 2
    assert [one.handled for one in left] == [[15], [15]]
    assert whole_steps(tmp_path)[-1] == step
    assert json.loads(bytes(store_of(tmp_path).get("PREEMPTED")))["step"] == step


@pytest.mark.parametrize("reader", ["torch workers", "seeded workers"])
def test_sigterm_to_a_process_and_its_data_workers_is_answered_by_the_process(tmp_path: Path, reader: Reader) -> None:
    """Keeps P34."""
    plan = Plan(deed="term group", reader=reader)
    ended = torchrun("tests.run.elastic", str(tmp_path), plan.text())
    assert ended.returncode == 0, ended.stderr
    assert [one.handled for one in left_early(tmp_path)] == [[], [15]]
