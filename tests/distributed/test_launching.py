"""Functions that are launched in several processes: what comes back, what is raised, what they share."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from tests.distributed.launched import trained
from tests.ranks import HOUSE, children_of, import_engines, on_ranks
from trainhooks import Rank, RunDefinitionError, launch
from trainhooks.distributed import join, rank_here

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def no_store_was_used(monkeypatch: Patch) -> Iterator[None]:
    """The ranks of these tests use none, so they may be forked whatever other tests did; and none outlives its test."""
    monkeypatch.delitem(sys.modules, "obstore", raising=False)
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) <= before


def gathered(*, fails: int | None = None, how: str = "") -> list[int]:
    ranks = join(rank_here(), torch.device("cpu"))
    if ranks.rank.index == fails:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "left":
            sys.exit(3)
        raise ValueError(f"rank {fails} is out of luck")
    found = ranks.gather(ranks.rank.index)
    ranks.any(True)
    dist.destroy_process_group()
    return found


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_the_ranks_return_comes_in_their_order(processes: int) -> None:
    offset = 10  # a function within a function is sent, too

    def described(word: str) -> tuple[str, Rank, int]:
        time.sleep(0.1 * (processes - rank_here().index))  # the last one is done first
        return word, rank_here(), rank_here().index + offset

    assert launch(described, "hello", processes=processes) == [
        ("hello", Rank(index=index, world=processes, local_index=index, local_world=processes), index + offset)
        for index in range(processes)
    ]


def test_the_ranks_meet() -> None:
    assert launch(gathered, processes=3) == [[0, 1, 2]] * 3


def test_there_are_two_processes_unless_more_are_asked_for() -> None:
    assert launch(os.getpgid, 0) != [os.getpgid(0)] * 2
    assert len(launch(os.getpid)) == 2


@pytest.mark.timeout(250)  # a lost client waits for five minutes
def test_many_launches_follow_one_another() -> None:
    """A rank that is forked while its launcher answers another one may hang; here nobody answers meanwhile."""
    assert [launch(gathered, processes=4) for _ in range(10)] == [[[0, 1, 2, 3]] * 4] * 10


def test_a_process_that_has_used_threads_may_launch() -> None:
    def product() -> tuple[int, float]:
        return torch.get_num_threads(), (torch.ones(600, 600) @ torch.ones(600, 600)).sum().item()

    torch.set_num_threads(2)
    try:
        assert product() == (2, 600.0**3)
        assert launch(product) == [(1, 600.0**3)] * 2
    finally:
        torch.set_num_threads(1)


def test_a_large_result_comes_whole() -> None:
    assert [len(one) for one in launch(bytes, 20_000_000)] == [20_000_000] * 2


def test_a_rank_that_exits_with_0_returns_nothing() -> None:
    assert launch(sys.exit, 0) == [None, None]


def test_processes_train_one_model() -> None:
    import_engines()
    assert launch(trained, 60) == [[3.0, 1.0]] * 2


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_the_traceback_of_the_rank_that_raised_is_in_the_message(fails: int) -> None:
    with pytest.raises(ProcessRaisedException) as caught:
        launch(lambda: gathered(fails=fails), processes=3)
    assert caught.value.error_index == fails
    text = str(caught.value)
    assert text.startswith(f"Rank {fails} of 3 raised:\n\nTraceback (most recent call last):\n")
    assert 'in gathered\n    raise ValueError(f"rank {fails} is out of luck")\n' in text
    assert f"\nValueError: rank {fails} is out of luck\n" in text


@pytest.mark.parametrize("fails", [0, 1])
@pytest.mark.parametrize(
    ("how", "code", "said"), [("killed", -9, "was ended by SIGKILL"), ("left", 3, "ended with exit code 3")]
)
def test_a_rank_that_ends_without_a_word_is_named(fails: int, how: str, code: int, said: str) -> None:
    with pytest.raises(ProcessExitedException, match=f"Rank {fails} of 2 {said}, and returned nothing") as caught:
        launch(lambda: gathered(fails=fails, how=how))
    assert (caught.value.error_index, caught.value.exit_code) == (fails, code)


def test_a_rank_that_leaves_by_the_back_door_is_named() -> None:
    with pytest.raises(ProcessExitedException, match="Rank 0 of 2 ended with exit code 0, and returned nothing"):
        launch(os._exit, 0)


def test_a_result_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(ProcessRaisedException, match=r"cannot pickle '_thread\.lock' object"):
        launch(threading.Lock)


def fails_while_the_other_sleeps() -> None:
    if rank_here().index == 1:
        raise ValueError("at once")
    while True:
        signal.pause()


def test_when_one_has_failed_the_others_end() -> None:
    with pytest.raises(ProcessRaisedException, match="ValueError: at once"):
        launch(fails_while_the_other_sleeps)


def killed_or_slow_to_complain(folder: Path) -> None:
    if rank_here().index == 1:
        (folder / "made").write_text(str(os.getpid()))
        (folder / "made").rename(folder / "pid")
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while not (folder / "pid").exists() or not is_gone(int((folder / "pid").read_text())):
        time.sleep(0.01)
    raise ConnectionError("rank 1 is away")


def test_a_killed_rank_is_named_before_those_that_complain_of_it(tmp_path: Path) -> None:
    with pytest.raises(ProcessExitedException, match="Rank 1 of 2 was ended by SIGKILL, and returned nothing"):
        launch(killed_or_slow_to_complain, tmp_path)


class TooLongError(Exception):
    """What a program's own alarm raises."""


def test_no_rank_outlives_a_launch_that_is_broken_off() -> None:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    earlier = signal.signal(signal.SIGVTALRM, ring)
    threading.Timer(0.5, signal.raise_signal, (signal.SIGVTALRM,)).start()
    try:
        with pytest.raises(TooLongError):
            launch(time.sleep, 3600.0)
    finally:
        signal.signal(signal.SIGVTALRM, earlier)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_launch_within_a_launch_is_refused() -> None:
    with pytest.raises(ProcessRaisedException, match="launch was called in a process that is one of several already"):
        launch(lambda: launch(gathered))


def launches_within_a_group() -> str:
    ranks = join(rank_here(), torch.device("cpu"))
    for name in ("RANK", "WORLD_SIZE"):
        del os.environ[name]
    try:
        launch(gathered)
    except RunDefinitionError as error:
        ranks.any(True)
        return str(error).split(";")[0]
    return "not refused"


def test_a_launch_within_a_process_group_is_refused() -> None:
    assert not dist.is_initialized()
    assert on_ranks(2, launches_within_a_group) == ["launch was called in a process that is one of several already"] * 2


@pytest.mark.parametrize("processes", [0, -1, True, 2.0, "2", None])
def test_a_count_of_processes_that_is_none_is_refused(processes: int) -> None:
    with pytest.raises(RunDefinitionError, match=f"launch takes processes as a positive int, got {processes!r}"):
        launch(gathered, processes=processes)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(RunDefinitionError, match="launch takes a function and its arguments, got 'gathered'"):
        launch("gathered")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - refused at run time


@pytest.mark.parametrize("sent", [(lambda: 1,), (str, threading.Lock())])
def test_what_cannot_be_sent_to_spawned_processes_is_refused(monkeypatch: Patch, sent: Any) -> None:
    monkeypatch.setitem(sys.modules, "obstore", threading)
    with pytest.raises(RunDefinitionError, match=r"launch cannot send .* to processes that are spawned: .*ickle"):
        launch(*sent)


@pytest.mark.slow
def test_a_program_that_has_used_a_store_spawns_its_processes() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.distributed.launched"], cwd=HOUSE, capture_output=True, text=True, timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "2"}, check=False,
    )  # fmt: skip
    met = [(Rank(index=index, world=2, local_index=index, local_world=2), 1) for index in range(2)]
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"MemoryStore {[met, met]}\n", "")


def waiting(folder: Path, ends_by: str) -> str:
    """Wait for a signal; return what came, or leave as a training program does that is told to stop."""
    got: list[str] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: got.append(signal.Signals(number).name))
    (folder / os.environ["RANK"]).write_text(str(os.getpid()))
    while not got:
        time.sleep(0.01)
    time.sleep(0.3)  # a second one would come now
    if ends_by == "leaving":
        sys.exit(143)
    return " and ".join(got)


def program(folder: Path, ends_by: str) -> None:
    os.setsid()
    try:
        said = repr(launch(waiting, folder, ends_by))
    except KeyboardInterrupt:
        said = "KeyboardInterrupt"
    (folder / "said").write_text(said)


def started(folder: Path, ends_by: str) -> tuple[BaseProcess, list[int]]:
    """A process that launches two ranks, and their pids, once they wait."""
    process = multiprocessing.get_context("fork").Process(target=program, args=(folder, ends_by))
    process.start()
    pids = list[int]()
    while len(pids) < 2:
        time.sleep(0.01)
        pids = [int(text) for path in folder.glob("[01]") if (text := path.read_text())]
    return process, pids


def said_in_the_end(process: BaseProcess, folder: Path) -> tuple[int | None, str]:
    process.join(300.0)
    process.kill()
    process.join()
    return process.exitcode, (folder / "said").read_text() if (folder / "said").exists() else "nothing"


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_once_and_what_the_ranks_return_counts(number: signal.Signals, tmp_path: Path) -> None:
    process, _ = started(tmp_path, "returning")
    os.killpg(cast("int", process.pid), number)  # as a terminal sends it: to the program and all of its group
    assert said_in_the_end(process, tmp_path) == (0, f"['{number.name}', '{number.name}']")


@pytest.mark.parametrize(("number", "end"), [("SIGINT", (0, "KeyboardInterrupt")), ("SIGTERM", (-15, "nothing"))])
def test_a_signal_that_ends_the_ranks_takes_effect_then(number: str, end: tuple[int, str], tmp_path: Path) -> None:
    process, ranks = started(tmp_path, "leaving")
    os.kill(cast("int", process.pid), signal.Signals[number])
    assert said_in_the_end(process, tmp_path) == end
    assert all(is_gone(pid) for pid in ranks)


def test_the_ranks_end_when_the_program_is_killed(tmp_path: Path) -> None:
    process, ranks = started(tmp_path, "returning")
    store = [pid for pid in children_of(cast("int", process.pid)) if pid not in ranks]
    assert len(store) == 1
    process.kill()
    process.join()
    while not all(is_gone(pid) for pid in (*ranks, *store)):
        time.sleep(0.05)
