"""Processes that were launched, until they have ended: the signals that they get, and which failure was the first."""

import math
import os
import pickle
import signal
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

PASSED_ON = (int(signal.SIGINT), int(signal.SIGTERM))
"""The signals that processes get from who launched them."""
_GRACE = 30.0
"""Seconds that they have to end, once one has failed or they are told to; as under torchrun."""
_PERIOD = 0.1
"""Seconds between two looks at what signals came."""


@contextmanager
def signals_held() -> Generator[list[int], None, None]:
    """Collect SIGINT and SIGTERM, for the ranks; only the main thread can."""
    received: list[int] = []
    earlier: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in PASSED_ON:
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                earlier[number] = signal.signal(number, lambda number, _: received.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    try:
        yield received
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def wait_for(ranks: Sequence[BaseProcess], received: Sequence[int]) -> list[int]:
    """Pass signals on until all have ended; the ranks that were found to have failed first."""
    passed, deadline, first = 0, math.inf, list[int]()
    while living := [rank for rank in ranks if rank.exitcode is None]:
        wait([rank.sentinel for rank in living], _PERIOD)
        for number in received[passed:]:
            _send(number, ranks)
            passed += 1
        failed = [index for index, rank in enumerate(ranks) if rank.exitcode]
        if deadline == math.inf and (failed or passed):
            first, deadline = failed, time.monotonic() + _GRACE
            if not passed:
                _send(signal.SIGTERM, ranks)
        elif time.monotonic() > deadline:
            _send(signal.SIGKILL, ranks)
    return first


def _send(number: int, ranks: Sequence[BaseProcess]) -> None:
    for rank in ranks:
        if rank.exitcode is None and rank.pid is not None:
            os.kill(rank.pid, number)


def failure_of(ranks: Sequence[BaseProcess], first: Sequence[int], folder: Path) -> Exception:
    """What to raise. A rank that was killed left no word, and is the cause of what the others raised.

    Args:
        ranks: All, ended.
        first: Those that were found to have failed first.
        folder: Where each left a file `<rank>` with its result, or `<rank>.raised` with a time and a traceback.
    """
    told = {index: folder / f"{index}.raised" for index in range(len(ranks))}
    said = sorted((*pickle.loads(path.read_bytes()), index) for index, path in told.items() if path.exists())
    left = [index for index, path in told.items() if not path.exists() and not (folder / str(index)).exists()]
    silent = [index for index in first or left if index in left]
    if said and not silent:
        _, text, index = said[0]
        later = "".join(f"\nThen rank {other} raised: {_last_line(more)}" for _, more, other in said[1:])
        message = f"Rank {index} of {len(ranks)} raised:\n\n{text}{later}"
        return ProcessRaisedException(message, index, ranks[index].pid or 0)
    index = (silent or [*first, 0])[0]
    code = ranks[index].exitcode or 0
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    message = f"Rank {index} of {len(ranks)} {ended}, and returned nothing."
    return ProcessExitedException(message, index, ranks[index].pid or 0, code)


def end(processes: Sequence[BaseProcess]) -> None:
    """Kill those that live."""
    for process in processes:
        process.kill()
        process.join()


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
