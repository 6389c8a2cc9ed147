"""PyTorch's profiler over a few batches of a run."""

import os
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, final

from attrs import define
from torch import profiler as torch_profiler

from trainhooks.core import BatchEnd, HookSet, TrainBegin, factory, says_itself, stateful
from trainhooks.errors import HookDefinitionError, shown


@final
@define(eq=False)
class Tracing:
    """The profiler of one run; nothing of it is worth saving."""

    profiler: torch_profiler.profile | None = None
    """The profiler while the run is under way."""

    def state_dict(self) -> dict[str, object]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Nothing."""


@factory
def profiler(
    folder: str | os.PathLike[str], *, wait: int = 1, warmup: int = 1, active: int = 3, repeat: int = 1
) -> HookSet:
    """Profile some batches with PyTorch's profiler and write each trace to a file that Chrome's tracing shows.

    From the run's begin on it waits `wait` batches, warms up for `warmup`, traces `active`, and does so `repeat` times.
    The files are `rank<rank>-batch<n>.json`, n the batches since the begin; one that is there already is replaced. A
    run that ends while it traces writes what it has. While the profiler is on, each step takes longer, and on CUDA it
    waits for the device when a trace is finished. Put it first among the hooks to see the others in the trace.

    Args:
        folder: Where the traces go; made if need be.
        wait: Batches before each warm-up, 0 or more.
        warmup: Batches that are traced and thrown away, 0 or more.
        active: Batches of a trace, 1 or more.
        repeat: How many traces to write; 0 for as many as the run has room for.

    Raises:
        HookDefinitionError: if an argument is none of these.
        OSError: in the run, if a file cannot be written.

    Source: torch's `profile` and `schedule`.

    Example:
        >>> profiler("runs/first/traces", active=10)
        profiler(folder='runs/first/traces', active=10)
    """
    _check(folder, {"wait": wait, "warmup": warmup, "active": active, "repeat": repeat})
    where = Path(folder)

    @contextmanager
    def around_train(ctx: TrainBegin, tracing: Tracing) -> Generator[None]:
        where.mkdir(parents=True, exist_ok=True)
        activities = [torch_profiler.ProfilerActivity.CPU]
        if ctx.run.device.type == "cuda":
            activities.append(torch_profiler.ProfilerActivity.CUDA)
        when = cast("Any", torch_profiler).schedule(wait=wait, warmup=warmup, active=active, repeat=repeat)
        ready = _writer(where, ctx.run.rank.index)
        with torch_profiler.profile(activities=activities, schedule=when, on_trace_ready=ready) as tracing.profiler:
            yield
        tracing.profiler = None

    def on_batch_end(ctx: BatchEnd, tracing: Tracing) -> tuple[Tracing, None]:
        if tracing.profiler is not None:
            with warnings.catch_warnings():  # of events that are cleared: each trace is written before
                warnings.filterwarnings("ignore", message="Warning: Profiler clears events")
                tracing.profiler.step()
        return tracing, None

    tracing: HookSet = stateful("profiler", Tracing, around_train=around_train, on_batch_end=on_batch_end)
    return says_itself(tracing, "write profiler(..., wait=, warmup=, active=, repeat=), in batches.")


def _writer(folder: Path, rank: int) -> Callable[[torch_profiler.profile], None]:
    def write(finished: torch_profiler.profile) -> None:
        path = folder / f"rank{rank}-batch{finished.step_num}.json"
        draft = path.with_name(f"{path.name}.part")
        finished.export_chrome_trace(str(draft))
        os.replace(draft, path)

    return write


def _check(folder: object, counts: Mapping[str, object]) -> None:
    if not isinstance(folder, str | os.PathLike):
        raise HookDefinitionError(f"profiler takes the folder of its traces, got {shown(folder)}.")
    for name, count in counts.items():
        least = 1 if name == "active" else 0
        if not isinstance(count, int) or isinstance(count, bool) or count < least:
            raise HookDefinitionError(f"{name} is a whole number of batches from {least} on, got {shown(count)}.")
