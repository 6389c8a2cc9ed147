"""Real processes that are told to stop, or killed, and started again."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.multiprocessing.spawn import ProcessExitedException

from tests.run.elastic import Plan, left_in, ran
from tests.run.ranked import store_of, stored_by
from trainhooks import Experiment, launch
from trainhooks.checkpoint import manifests_of, runs_of, verify
from trainhooks.store import open_store

HOUSE = Path(__file__).parents[2]


def start(folder: Path, policy: str = "raise") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.run.victim", str(folder), policy], cwd=HOUSE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], update: int) -> None:
    """Read what it prints until it has finished so many updates."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdecimal() and int(line) >= update:
            return
    raise AssertionError(process.stderr.read() if process.stderr else "")


def end_of(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    out, errors = process.communicate(timeout=300)
    return out.splitlines(), errors


def saved_steps(folder: Path) -> list[int]:
    """The updates of all checkpoints, each of them whole, oldest first."""
    runs = [run for run, _ in runs_of(open_store(Experiment("tests", "resuming", folder / "runs")))]
    found = [(run, one) for run in runs for one in manifests_of(run)]
    for run, one in found:
        verify(run, one)
    return sorted(one.step for _, one in found)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    lines, errors = end_of(start(tmp_path_factory.mktemp("whole")))
    assert lines, errors
    return json.loads(lines[-1])


def finished(folder: Path) -> Any:
    lines, errors = end_of(start(folder))
    assert lines, errors
    return json.loads(lines[-1])


@pytest.mark.parametrize("policy", ["raise", "return"])
def test_sigterm_leaves_one_whole_checkpoint_and_the_run_goes_on(
    tmp_path: Path, policy: str, uninterrupted: Any
) -> None:
    """Keeps P34, in one process."""
    process = start(tmp_path, policy)
    wait_for(process, 4)
    process.send_signal(signal.SIGTERM)
    lines, errors = end_of(process)
    updates = [int(line) for line in lines if line.isdecimal()]
    assert len(updates) <= 2, "it left within one update"
    assert "the earlier handler was called" in lines
    assert process.returncode == (143 if policy == "raise" else 0), errors
    if policy == "return":
        assert json.loads(lines[-1])["end"] == "signal 15"
    assert saved_steps(tmp_path)[-1] == max([4, *updates])
    assert finished(tmp_path) == uninterrupted


def test_sigterm_to_one_process_of_several_ends_all_with_its_code_and_one_whole_checkpoint(tmp_path: Path) -> None:
    """Keeps P34."""
    with pytest.raises(ProcessExitedException, match="ended with exit code 143, and returned nothing") as caught:
        launch(ran, tmp_path, Plan(deed="term"))
    assert caught.value.exit_code == 143
    left = left_in(tmp_path)
    assert [one.end for one in left] == ["SystemExit(143)"] * 2
    assert left[1].handled == [15]
    (step,) = {one.updates for one in left}
    found = manifests_of(store_of(tmp_path))
    assert [one.step for one in found] == [step, 3]
    verify(store_of(tmp_path), found[0])
    assert "PREEMPTED" not in stored_by(tmp_path), "the exit code says it"


def test_ctrl_c_finishes_the_update_saves_and_raises(tmp_path: Path, uninterrupted: Any) -> None:
    """Keeps P35."""
    process = start(tmp_path)
    wait_for(process, 4)
    process.send_signal(signal.SIGINT)
    lines, errors = end_of(process)
    assert process.returncode in (130, -signal.SIGINT)
    assert "KeyboardInterrupt" in errors
    assert saved_steps(tmp_path)[-1] == max([4, *(int(line) for line in lines if line.isdecimal())])
    assert finished(tmp_path) == uninterrupted


@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(
    tmp_path: Path, seed: int, uninterrupted: Any
) -> None:
    """Keeps P23 and P17."""
    dice, acknowledged = random.Random(seed), 0
    for _ in range(2):
        process = start(tmp_path)
        wait_for(process, min(acknowledged + dice.randint(1, 6), 22))
        process.send_signal(signal.SIGKILL)
        end_of(process)
        newest = max(saved_steps(tmp_path), default=0)
        assert newest >= acknowledged
        acknowledged = newest
    assert finished(tmp_path) == uninterrupted
