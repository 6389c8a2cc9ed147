"""What one process measures of a system: times and Python calls of a step."""

import gc
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, SimpleNamespace

from . import by_hand
from .cases import Case
from .checking import job_for, profiled
from .driver import System


def seconds_a_step(system: System, case: Case) -> float:
    """Processor time of a step after the first epoch, which warms up."""
    with TemporaryDirectory() as folder, _collector_at_rest():
        job = job_for(case, Path(folder))
        system.train(job)
    readings = job.data.readings[1:]
    return sum(ended - began for began, ended in readings) / (len(readings) * job.data.timed)


def ratio(system: System, case: Case, *, by_hand_first: bool) -> float:
    """Time of a step beside that of the hand-written loop, both measured now, in the order asked for."""
    before = seconds_a_step(by_hand, case) if by_hand_first else 0.0
    theirs = seconds_a_step(system, case)
    return theirs / (before or seconds_a_step(by_hand, case))


def calls_a_step(system: System, case: Case) -> float:
    """Python functions that a step enters, in the thread that trains; those of C are not counted."""
    so_far = SimpleNamespace(calls=0)

    def count(frame: FrameType, event: str, argument: object) -> None:
        so_far.calls += event == "call"

    with TemporaryDirectory() as folder, _collector_at_rest(), profiled(count):
        job = job_for(case, Path(folder), steps=23)
        job.data.clock = partial(getattr, so_far, "calls")  # C code: it does not count itself
        system.train(job)
    began, ended = job.data.readings[-1]
    return (ended - began) / job.data.timed


@contextmanager
def _collector_at_rest() -> Generator[None]:
    """What watches the garbage collector is called by it, and collecting costs the more the more is loaded."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
