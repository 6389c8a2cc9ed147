"""The workers of a user's own `DataLoader` while a run is told to stop."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from torch.utils.data import DataLoader, Dataset

from trainhooks.data import first, shielded

HOUSE = Path(__file__).parents[2]
CALLED: list[int] = []


def initial(worker: int) -> None:
    CALLED.append(worker)


def loader(start: Callable[[int], None] | None = None) -> DataLoader[Any]:
    return DataLoader(cast("Dataset[Any]", [1, 2]), worker_init_fn=start)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_process_group_ends_a_run_and_none_of_its_workers(number: signal.Signals) -> None:
    """Keeps P34, where workers of a DataLoader get the signal too."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.data.signalled"], cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    before = list[str]()
    for line in process.stdout:
        before.append(line.strip())
        if line == "update 3\n":
            os.killpg(process.pid, number)
            break
    out, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    assert out.splitlines()[-1] == f"Interrupted(signal={int(number)}), True, True"
    assert len(out.splitlines()) <= 2
    assert sorted(line.split(" is ")[0] for line in before if line.startswith("worker")) == ["worker 0", "worker 1"]


def test_a_shield_calls_what_the_user_wants_of_a_worker_and_is_put_back() -> None:
    plain, own = loader(), loader(initial)
    with shielded(plain, first(first(own, 2), 1), own, [1, 2]):
        functions: list[Any] = [plain.worker_init_fn, own.worker_init_fn]
        assert plain.worker_init_fn != own.worker_init_fn
        with shielded(own):
            assert own.worker_init_fn is functions[1]
        assert own.worker_init_fn is functions[1]
        CALLED.clear()
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            for function in pickle.loads(pickle.dumps(functions)):
                function(7)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
                signal.signal(number, handler)
        assert CALLED == [7]
    assert plain.worker_init_fn is None
    assert own.worker_init_fn is initial


def test_a_shield_is_put_back_after_an_error() -> None:
    own = loader(initial)
    with pytest.raises(ValueError, match="no"), shielded(own):
        raise ValueError("no")
    assert own.worker_init_fn is initial
