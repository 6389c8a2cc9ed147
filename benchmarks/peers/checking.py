"""Whether a system trains what the hand-written loop does, and calls every hook as often as it should."""

import csv
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, ModuleType
from typing import Final, cast

import torch
from torch import Tensor

from . import by_hand
from .cases import Case
from .driver import Job, System
from .tasks import job_of

STEPS: Final = 7
TOLERANCE: Final = 1e-5


def faults(system: System, case: Case, *, tolerance: float = TOLERANCE) -> list[str]:
    """What is wrong, in words; nothing if all is well. A tolerance of 0 asks for equality bit for bit."""
    with TemporaryDirectory() as folder:
        there = Path(folder)
        expected, job = (job_for(case, there / name, STEPS) for name in ("by_hand", "system"))
        losses = by_hand.train(expected)
        found: Sequence[float] = ()
        with counted_calls(system) as calls:
            found = system.train(job)
        said = [] if case.realistic else list(_wrong_calls(system, calls, case.hooks * STEPS * job.epochs))
        if case.realistic and not _close([torch.tensor(losses)], [torch.tensor(found)], tolerance=tolerance):
            said.append("the losses of the steps differ")
        if case.realistic and rows_under(there / "system") < job.epochs:
            said.append("the CSV file lacks rows")
    if not _close(*(list(one.model.state_dict().values()) for one in (expected, job)), tolerance=tolerance):
        said.append("the weights differ")
    return said


def job_for(case: Case, folder: Path, steps: int | None = None) -> Job:
    """A fresh job of a case, which may write into `folder`."""
    folder.mkdir(exist_ok=True)
    return job_of(case.size, hooks=case.hooks, folder=folder if case.realistic else None, steps=steps)


def _close(expected: Sequence[Tensor], found: Sequence[Tensor], *, tolerance: float) -> bool:
    return [one.shape for one in expected] == [one.shape for one in found] and all(
        torch.allclose(one, other, rtol=tolerance, atol=tolerance) for one, other in zip(expected, found, strict=True)
    )


def _wrong_calls(system: System, calls: Counter[str], expected: int) -> Iterator[str]:
    for name in system.HOOKS:
        if calls[name] != expected:
            yield f"{name} was called {calls[name]} times instead of {expected}"


def rows_under(folder: Path) -> int:
    """Rows of all CSV files, headers not counted: a header's cells are no numbers."""
    return sum(
        any(map(_is_number, row)) for path in folder.rglob("*.csv") for row in csv.reader(path.read_text().splitlines())
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@contextmanager
def counted_calls(system: System) -> Generator[Counter[str]]:
    """Calls of the functions of the system's file, by name: the very hooks that are timed, not others that count."""
    file = cast("ModuleType", system).__file__
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename == file:
            calls[frame.f_code.co_name] += 1

    with profiled(count):
        yield calls


@contextmanager
def profiled(function: Callable[[FrameType, str, object], None]) -> Generator[None]:
    """Let `function` hear of every call of this thread."""
    sys.setprofile(function)
    try:
        yield
    finally:
        sys.setprofile(None)
