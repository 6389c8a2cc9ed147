"""Starting the processes of a run from Python.

Torch's elastic launcher answers the processes that it has started while it starts the next ones, and one that is forked
at that moment may hang. So here a process of its own, started first, holds the store through which they meet.
"""

import os
import pickle
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias, TypeVar, cast

import torch
import torch.distributed as dist

from trainhooks.core import whole_number
from trainhooks.errors import RunDefinitionError, shown

from .supervising import PASSED_ON, end, failure_of, signals_held, wait_for

R = TypeVar("R")
Method: TypeAlias = Literal["fork", "spawn"]


def launch(fn: Callable[..., R], *args: object, processes: int = 2) -> list[R]:
    """Run `fn(*args)` in several processes on this machine, as torchrun would run a script.

    Each process finds its rank in the environment, so a `train(..., parallel=ddp())` within `fn` trains over all of
    them. Each has one torch thread. SIGINT and SIGTERM are passed on to them, and take effect here once they have ended
    without results. If one fails the others get SIGTERM, and are killed after 30 seconds.

    They are forked if that is safe, and spawned once this process has used CUDA or a store. What is spawned imports the
    main program anew, so that one needs `if __name__ == "__main__":`, and `fn` must stand at the top of a module.

    Args:
        fn: What each process runs.
        args: What it gets: copies, except that spawned processes share the memory of tensors.
        processes: How many.

    Returns:
        What each rank returned, in the order of ranks; it must be possible to pickle.

    Raises:
        RunDefinitionError: if there are too few processes, `fn` cannot be called or not be sent to them, or this
            process is one of several already.
        torch.multiprocessing.ProcessRaisedException: if a rank raised; its traceback is the message.
        torch.multiprocessing.ProcessExitedException: if a rank ended in another way.

    Example:
        >>> import os
        >>> launch(os.getenv, "RANK", processes=2)
        ['0', '1']
    """
    method = _method()
    _check(fn, args, processes, method)
    with (
        TemporaryDirectory(prefix="launch-") as name,
        _store_held(method) as port,
    ):
        folder = Path(name)
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is somebody to pass them on to
        ranks = list[BaseProcess]()
        try:
            ranks += _started(_run, (processes, port, folder, fn, args), processes, method)
            with signals_held() as received:
                failed = wait_for(ranks, received)
            results = [folder / str(index) for index in range(processes)]
            if all(one.exists() for one in results):
                return [pickle.loads(one.read_bytes()) for one in results]
            if received:
                signal.raise_signal(received[0])
            raise failure_of(ranks, failed, folder)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
            end(ranks)


def _method() -> Method:
    """Neither CUDA nor obstore lives in a process that was forked from one that has used it; macOS is no better."""
    unsafe = sys.platform != "linux" or torch.cuda.is_initialized() or "obstore" in sys.modules
    return "spawn" if unsafe else "fork"


def _check(fn: object, args: Sequence[object], processes: object, method: Method) -> None:
    if not callable(fn):
        raise RunDefinitionError(f"launch takes a function and its arguments, got {shown(fn)}.")
    if whole_number(processes, 1) is None:
        raise RunDefinitionError(f"launch takes processes as a positive int, got {shown(processes)}.")
    if "RANK" in os.environ or "WORLD_SIZE" in os.environ or (dist.is_available() and dist.is_initialized()):
        raise RunDefinitionError(
            "launch was called in a process that is one of several already; call train there, and launch or torchrun "
            "but once. If it is not, unset RANK and WORLD_SIZE."
        )
    if method == "spawn":
        try:
            ForkingPickler.dumps((fn, args))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise RunDefinitionError(
                f"launch cannot send {shown(fn)} and its arguments to processes that are spawned: {error}. Give a "
                "function at the top of a module, and make models, data and stores within it; or call launch before "
                "this process uses CUDA or a store."
            ) from error


def _started(run: Callable[..., None], args: tuple[object, ...], count: int, method: Method) -> list[BaseProcess]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        started = cast("Any", torch.multiprocessing).start_processes(run, args, count, join=False, start_method=method)
    return cast("list[BaseProcess]", started.processes)


@contextmanager
def _store_held(method: Method) -> Generator[int, None, None]:
    """Hold the store, here if processes are spawned, and else in one of its own that is forked; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as door:
        port = door.getsockname()[1]
        if method == "spawn":
            held = _store(door)
            yield port
            del held
        else:
            server = _started(_serve, (door,), 1, method)
            try:
                yield port
            finally:
                end(server)


def _serve(_: int, door: socket.socket) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what comes when the parent has ended
    held = [_store(door)]
    while held:
        signal.pause()


def _store(door: socket.socket) -> object:
    port = door.getsockname()[1]
    return cast("Any", dist).TCPStore(
        "127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=door.detach()
    )


def _run(rank: int, world: int, port: int, folder: Path, fn: Callable[..., object], args: Sequence[object]) -> None:
    torch.set_num_threads(1)  # first: a forked process has none of the threads that it would wait for
    os.setpgid(0, 0)  # a terminal's Ctrl-C comes through the parent, once
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    os.environ.update(_environment(rank, world, port))
    try:
        result = pickle.dumps(fn(*args))
    except SystemExit as leaving:
        if leaving.code:
            raise
        result = pickle.dumps(None)
    except BaseException:
        _leave(folder / f"{rank}.raised", pickle.dumps((time.monotonic(), traceback.format_exc())))
        raise SystemExit(1) from None
    _leave(folder / str(rank), result)


def _leave(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.rename(path)


def _environment(rank: int, world: int, port: int) -> Mapping[str, str]:
    return {
        "RANK": f"{rank}", "WORLD_SIZE": f"{world}", "LOCAL_RANK": f"{rank}", "LOCAL_WORLD_SIZE": f"{world}",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}",
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # rank 0 holds no store
    }  # fmt: skip
