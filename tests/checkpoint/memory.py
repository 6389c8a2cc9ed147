"""How much memory a process takes beyond its state when it saves faster than its store writes, and when it reads.

`python -m tests.checkpoint.memory FOLDER` prints both as MiB, with those of the state.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.checkpoint.faults import FaultyStore
from trainhooks.checkpoint import Writer, begin_attempt, newest_whole
from trainhooks.core import Keep
from trainhooks.store import open_store

MEBIBYTES = 96
SAVES = 8


def growth(act: Callable[[], object]) -> float:
    """MiB by which the peak of this process's resident memory exceeds what it had before."""
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    kept = act()
    peak = resident("VmHWM")
    del kept
    return peak - before


def resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main(folder: str) -> None:
    inner = open_store(folder)
    writer = Writer(inner, begin_attempt(inner, resumed_from=None))
    writer.save({"model": {"w": torch.ones(1)}}, step=1, epoch=0, epochs=0, background=False)
    writer.close()
    slow = FaultyStore(inner, meanwhile={call: lambda: time.sleep(0.02) for call in range(1000)})
    state = {"model": {f"w{index}": torch.rand(MEBIBYTES << 16) for index in range(4)}}
    writer = Writer(slow, begin_attempt(inner, resumed_from=1), [Keep(last=1)])

    def save_often() -> None:
        for step in range(2, 2 + SAVES):
            writer.save(state, step=step, epoch=0, epochs=0)
        writer.wait()

    saving = growth(save_often)
    assert len(writer.finished()) == SAVES
    writer.close()
    reading = growth(lambda: newest_whole(inner))
    print(f"{MEBIBYTES} {saving:.1f} {reading:.1f}")


if __name__ == "__main__":
    main(sys.argv[1])
