"""Processes that save without pause until they are killed, and what is found of their folder afterwards.

`python -m tests.checkpoint.kills FOLDER fresh|reused` is a nursery: it forks a process for each line that it is sent,
so that a kill costs no start of an interpreter, and tells its pid, what it saved, and when it is dead.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias, final

from attrs import frozen

from tests.checkpoint.runs import KEEP, Run, check, orphans
from trainhooks.checkpoint import begin_attempt, newest_whole, sweep
from trainhooks.core import Keep
from trainhooks.errors import CheckpointError
from trainhooks.store import Data, ObjectInfo, Store, open_store

Keys: TypeAlias = Literal["fresh", "reused"]

ELEMENTS = 400_000
"""Of the weight; a checkpoint has 3 MB."""
LONGEST = 0.3
"""Seconds that a process lives at most."""


@final
@frozen
class Reused:
    """A store whose files of one name are one file, as if checkpoints were written over each other."""

    inner: Store

    @property
    def url(self) -> str:
        return self.inner.url

    def put(self, key: str, data: Data, *, create: bool = False) -> None:
        self.inner.put(_one_place(key), data, create=create)

    def get(self, key: str) -> memoryview:
        return self.inner.get(_one_place(key))

    def stream(self, key: str) -> Iterator[bytes]:
        return self.inner.stream(_one_place(key))

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return self.inner.list("ckpt/reused/" if prefix.startswith("ckpt/") else prefix)

    def head(self, key: str) -> ObjectInfo:
        return self.inner.head(_one_place(key))

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete([key for key in keys if not key.startswith("ckpt/")])

    def at(self, prefix: str) -> Store:
        return Reused(self.inner.at(prefix))


def _one_place(key: str) -> str:
    return f"ckpt/reused/{key.rpartition('/')[2]}" if key.startswith("ckpt/") else key


def store_of(folder: str, keys: Keys) -> Store:
    store = open_store(folder)
    return store if keys == "fresh" else Reused(store)


def policies_of(keys: Keys) -> tuple[Keep, ...]:
    return KEEP if keys == "fresh" else (Keep(last=1),)


def nurse(folder: str, keys: Keys) -> None:
    """Fork a process for each line of the input, and wait until somebody kills it."""
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run = Run(store_of(folder, keys), policies_of(keys), ELEMENTS, told=lambda step: _tell(f"saved {step}"))
            run.go(sys.maxsize)
        _tell(f"pid {pid}")
        os.waitpid(pid, 0)
        _tell("dead")


def _tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def killed(folder: Path, keys: Keys, times: int, seed: int, after_each: Callable[[list[int]], None]) -> list[int]:
    """Kill so many processes, one after the other, each at a random moment of its life.

    Args:
        folder: Where they save.
        keys: Whether their checkpoints have files of their own.
        times: How many.
        seed: Of the moments.
        after_each: Called with the steps that all of them know to be saved, when one is dead.

    Returns:
        These steps.
    """
    moments = random.Random(seed)
    command = [sys.executable, "-m", "tests.checkpoint.kills", str(folder), keys]
    saved: list[int] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(times):
            nursery.stdin.write("one more\n")
            nursery.stdin.flush()
            told: list[str] = []
            while not (told and told[-1].startswith("pid")):
                told.append(nursery.stdout.readline())
                assert told[-1], "the nursery died"
            time.sleep(moments.uniform(0, LONGEST))
            os.kill(int(told[-1].split()[1]), signal.SIGKILL)
            while told[-1] != "dead\n":
                told.append(nursery.stdout.readline())
                assert told[-1], "the nursery died"
            saved += [int(line.split()[1]) for line in told if line.startswith("saved")]
            after_each(saved)
        nursery.stdin.close()
    return saved


def is_well(folder: Path, keys: Keys, saved: list[int]) -> bool:
    """Whether all that must hold of the folder does."""
    try:
        check(store_of(str(folder), keys), saved, ELEMENTS)
    except (AssertionError, CheckpointError, RuntimeWarning):
        return False
    return True


def debris(folder: Path) -> list[str]:
    """The files that no manifest refers to, once another process has begun."""
    store = open_store(str(folder))
    found = newest_whole(store)
    sweep(store, begin_attempt(store, resumed_from=None if found is None else found[0].step))
    return orphans(store)


if __name__ == "__main__":
    folder_, keys_ = sys.argv[1:]
    assert keys_ in ("fresh", "reused")
    nurse(folder_, "fresh" if keys_ == "fresh" else "reused")
