"""Programs that run as several ranks at once, for tests: forked children, or real ones under torchrun."""

import ctypes
import faulthandler
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar, cast, final

import torch
import torch.distributed as dist
from attrs import frozen

R = TypeVar("R")

HOUSE = Path(__file__).parents[1]
SHOW_STACKS = signal.SIGRTMAX
_IMPORTED_BY_ENGINES = ["torch._dynamo", "torch.distributed.fsdp", "torch.distributed.checkpoint", "trainhooks"]


class Said(NamedTuple):
    """What a rank leaves: the pickle of its result, or what it raised."""

    when: float
    result: bytes
    raised: str


def on_ranks(world: int, program: Callable[..., R], *args: Any, timeout: float = 300, fresh: bool = False) -> list[R]:
    """What `program(*args)` returns in each of several processes, in the order of ranks.

    They find what torchrun leaves in the environment, and have one torch thread each; no process group is made. They
    are forked from this process, so `program` may be any function, and sees what was set here.

    Args:
        world: How many there are.
        program: What they run; under `fresh`, a function at the top of a module.
        args: What it gets.
        timeout: Seconds until all are ended, and the stack of each is shown.
        fresh: Start them without the state of this process, for programs that use a store after this process has.
            The first such call takes some seconds.

    Raises:
        AssertionError: if one raised, ended without a result, or took too long; the others are ended then.
    """
    context = _starter(fresh)
    with TemporaryDirectory(prefix="ranks-") as folder, socket.create_server(("127.0.0.1", 0), backlog=128) as door:
        processes: list[BaseProcess] = []
        ears: list[Connection] = []

        def start(run: Callable[..., None], *given: object) -> None:
            process = context.Process(target=run, args=given)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which is meant
                process.start()
            processes.append(process)

        try:
            start(_serve, door)
            for index in range(world):
                ear, mouth = context.Pipe(duplex=False)
                ears.append(ear)
                start(_run, _environment(index, world, door.getsockname()[1]), Path(folder), mouth, program, args)
                mouth.close()  # before the next fork: then it closes when its rank ends
            said = _heard(ears, processes[1:], Path(folder), time.monotonic() + timeout)
        finally:
            for process in processes:
                process.kill()
                process.join()
            for ear in ears:
                ear.close()
    return [pickle.loads(one.result) for one in said]


@final
@frozen
class Finished:
    """How a program under torchrun ended."""

    returncode: int
    stdout: str
    stderr: str


def torchrun(
    program: Path | str, *arguments: str, processes: int = 2, max_restarts: int = 0, env: Mapping[str, str] = {},
    timeout: float = 400,
) -> Finished:  # fmt: skip
    """Run a program under a real torchrun; see `start_torchrun`.

    Raises:
        AssertionError: if it takes longer than `timeout` seconds; the stacks of its processes are in it.
    """
    started = start_torchrun(program, *arguments, processes=processes, max_restarts=max_restarts, env=env)
    return end_of(started, timeout)


def start_torchrun(
    program: Path | str, *arguments: str, processes: int = 2, max_restarts: int = 0, env: Mapping[str, str] = {}
) -> subprocess.Popen[str]:
    """Start torchrun on a file (a path) or a module (its name), one machine, a port of its own.

    What the processes print comes unmarked; the lines of several may be mixed.
    """
    what = [str(program)] if isinstance(program, Path) else ["-m", program]
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
            f"--max-restarts={max_restarts}", "--monitor-interval=0.1", *what, *arguments,
        ],
        cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1", **env},
    )  # fmt: skip


def end_of(started: subprocess.Popen[str], timeout: float = 400) -> Finished:
    """Wait until torchrun has ended, and give what has not been read of its output.

    Raises:
        AssertionError: as `torchrun`.
    """
    try:
        out, errors = started.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for pid in workers_of(started):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)  # it prints its stacks
        try:
            out, errors = started.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            for pid in workers_of(started):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            started.kill()
            out, errors = started.communicate()
        raise AssertionError(f"torchrun had not ended after {timeout} s.\n{out}\n{errors}") from None
    return Finished(started.returncode, out, errors)


def workers_of(started: subprocess.Popen[str]) -> list[int]:
    """The pids of the living processes that torchrun started, in the order of starting."""
    return children_of(started.pid)


def children_of(pid: int) -> list[int]:
    """The pids of the living children of a process's main thread, in the order of starting."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def import_engines() -> None:
    """Import what torch's engines import late, so that forked children have it; else each spends seconds on it."""
    for name in _IMPORTED_BY_ENGINES:
        import_module(name)


@cache
def _starter(fresh: bool) -> Any:
    if fresh:
        multiprocessing.set_forkserver_preload([*_IMPORTED_BY_ENGINES])
        return multiprocessing.get_context("forkserver")
    import_engines()
    return multiprocessing.get_context("fork")


def _environment(index: int, world: int, port: int) -> dict[str, str]:
    return {
        **os.environ, "RANK": f"{index}", "WORLD_SIZE": f"{world}", "LOCAL_RANK": f"{index}",
        "LOCAL_WORLD_SIZE": f"{world}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}",
        "OMP_NUM_THREADS": "1", "TORCHELASTIC_USE_AGENT_STORE": "True",  # rank 0 serves no store of its own
    }  # fmt: skip


def _serve(door: socket.socket) -> None:
    """Hold the store through which the ranks meet, in a process of its own: its threads would not outlive a fork."""
    _begin()
    port = door.getsockname()[1]
    held = [
        cast("Any", dist).TCPStore(
            "127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=door.fileno()
        )
    ]
    while held:
        signal.pause()


def _run(
    environment: Mapping[str, str], folder: Path, mouth: Connection, program: Callable[..., object], args: Sequence[Any]
) -> None:
    _begin()
    os.environ.clear()
    os.environ.update(environment)
    with open(folder / environment["RANK"], "w", encoding="utf-8") as stacks:
        faulthandler.register(SHOW_STACKS, stacks)
        code = 0
        try:
            result = pickle.dumps(program(*args))
            said = Said(time.monotonic(), result, "")
        except BaseException:
            said = Said(time.monotonic(), b"", traceback.format_exc())
            code = 1
        mouth.send(said)
        mouth.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what the parent wants done when it exits is not for here


def _begin() -> None:
    torch.set_num_threads(1)  # first: threads of the parent are gone, and would be waited for
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # end when the parent ends


def _heard(ears: Sequence[Connection], ranks: Sequence[BaseProcess], folder: Path, deadline: float) -> list[Said]:
    said: dict[int, Said] = {}
    while len(said) < len(ears):
        silent = [one for index, one in enumerate(ears) if index not in said]
        ready = wait(silent, max(0.0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(_stacks(ranks, said, folder))
        for one in ready:
            index = ears.index(cast("Connection", one))
            try:
                said[index] = ears[index].recv()
            except EOFError:
                ranks[index].join()
                code = ranks[index].exitcode
                said[index] = Said(time.monotonic(), b"", f"It ended without a result, with exit code {code}.")
        raised = sorted((each.when, index) for index, each in said.items() if each.raised)
        if raised:
            raise AssertionError("\n".join(f"Rank {index} failed.\n{said[index].raised}" for _, index in raised))
    return [said[index] for index in range(len(ears))]


def _stacks(ranks: Sequence[BaseProcess], said: Mapping[int, Said], folder: Path) -> str:
    left = [index for index in range(len(ranks)) if index not in said]
    for index in left:
        with suppress(ProcessLookupError):
            os.kill(cast("int", ranks[index].pid), SHOW_STACKS)
    time.sleep(0.5)
    stacks = (f"Rank {index}:\n{(folder / str(index)).read_text(encoding='utf-8')}" for index in left)
    return f"Ranks {left} had not ended in time.\n" + "\n".join(stacks)
