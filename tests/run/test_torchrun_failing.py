"""Under torchrun, a process that fails says why before anything else, and the others end soon after."""

import time
from pathlib import Path

import pytest

from tests.ranks import Finished, torchrun
from tests.run.elastic import Plan, left_by, left_in


def failed(folder: Path, plan: Plan) -> tuple[Finished, float]:
    """How a run ended, and how many seconds after rank 1 raised; torchrun ends when all its processes have."""
    ended = torchrun("tests.run.elastic", str(folder), plan.text())
    return ended, time.time() - left_by(1, folder).raised


def assert_told_first(errors: str) -> None:
    """Rank 1's traceback, with a note that says where, is out before its end hooks are called."""
    told, _, after = errors.partition("Rank 1 calls its end hooks.")
    assert after
    _, failed, traceback = told.partition("Rank 1 failed.")
    assert failed
    assert "ValueError: no\n" in traceback


def test_what_one_process_raises_ends_those_that_wait_for_it(tmp_path: Path) -> None:
    """Keeps P36 and P37."""
    ended, seconds = failed(tmp_path, Plan(deed="raise"))
    assert ended.returncode == 1
    assert seconds < 25, "sooner than torchrun kills"
    assert_told_first(ended.stderr)
    assert "Raised in the hook 'noting' on on_batch_end, at update 4, batch 3 of epoch 0" in ended.stderr
    first, second = left_in(tmp_path)
    assert second.end == "ValueError('no')"
    assert first.end.startswith("RuntimeError("), "its connection was closed"


@pytest.mark.laws
def test_a_process_that_is_busy_with_something_else_is_killed_after_torchruns_patience(tmp_path: Path) -> None:
    """Keeps P37: the one that raised does not wait for the sum that it began, which the other one has not joined."""
    ended, seconds = failed(tmp_path, Plan(deed="raise in backward", pause=90, plain=True))
    assert ended.returncode == 1
    assert seconds < 50
    assert_told_first(ended.stderr)
    assert "exitcode  : -9" in ended.stderr
