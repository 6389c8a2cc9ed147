"""Hooks that watch where a run's time and memory go."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType

import torch

from trainhooks.core import (
    AfterBackward,
    BatchBegin,
    BatchEnd,
    EpochBegin,
    EpochEnd,
    EvaluationBegin,
    HookSet,
    OptimizerStepped,
    Record,
    TrainBegin,
    factory,
    says_itself,
    stateful,
)
from trainhooks.errors import HookDefinitionError

from .stopwatch import Stopwatch, check_measuring, is_due

_PHASES = ("data", "forward_backward", "update", "evaluation", "other")
_BYTES_OF_A_KIBIBYTE = 1024


@factory
def timing(*, updates: int | None = None, clock: Callable[[], float] = time.perf_counter) -> HookSet:
    """Record how many seconds went into each phase, as `time/<phase>`, once an epoch or every so many updates.

    The phases make up all the time since the last record. `data`: from a batch's end to the next one on the device.
    `forward_backward`: each step of yours and its backward. `update`: from there to the batch's end, clipping and the
    optimizer's step included. `evaluation`: evaluations with all their hooks. `other`: what is left. Other hooks count
    to the phase in which they are called; `trainhooks.timed` measures each hook set by itself.

    The clock is the host's, and nothing waits for a device. On CUDA work is only queued where it stands in the
    program, so its time shows where the host next waits for it, often in `data` or `other`; `profiler` sees the device.

    Args:
        updates: Updates from one record to the next; None for a record at each epoch's end.
        clock: Seconds since some fixed moment.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Example:
        >>> sorted(timing().provides)
        ['time/data', 'time/evaluation', 'time/forward_backward', 'time/other', 'time/update']
    """
    check_measuring("timing", updates, clock)

    def report(watch: Stopwatch) -> Record:
        record = Record({f"time/{phase}": watch.seconds.get(phase, 0.0) for phase in _PHASES})
        watch.restart()
        return record

    def on_batch_end(ctx: BatchEnd, watch: Stopwatch) -> tuple[Stopwatch, Record | None]:
        watch.charge("update" if ctx.updated else "forward_backward")
        return watch, report(watch) if is_due(ctx, updates) else None

    def on_epoch_end(ctx: EpochEnd, watch: Stopwatch) -> tuple[Stopwatch, Record | None]:
        watch.charge("other")
        return watch, report(watch) if updates is None else None

    measuring: HookSet = stateful(
        "timing",
        lambda: Stopwatch(clock),
        provides=frozenset(f"time/{phase}" for phase in _PHASES),
        on_train_begin=_charge_other,
        on_epoch_begin=_charge_other,
        on_batch_begin=_charge_data,
        on_after_backward=_charge_backward,
        on_after_optimizer_step=_charge_update,
        on_batch_end=on_batch_end,
        around_evaluation=_evaluating,
        on_epoch_end=on_epoch_end,
    )
    return says_itself(measuring, "write timing(updates=n), to record every n updates.")


def _charge_other(ctx: TrainBegin | EpochBegin, watch: Stopwatch) -> tuple[Stopwatch, None]:
    watch.charge("other")
    return watch, None


def _charge_data(ctx: BatchBegin, watch: Stopwatch) -> tuple[Stopwatch, None]:
    watch.charge("data")
    return watch, None


def _charge_backward(ctx: AfterBackward, watch: Stopwatch) -> tuple[Stopwatch, None]:
    watch.charge("forward_backward")
    return watch, None


def _charge_update(ctx: OptimizerStepped, watch: Stopwatch) -> tuple[Stopwatch, None]:
    watch.charge("update")
    return watch, None


def _evaluating(ctx: EvaluationBegin, watch: Stopwatch) -> AbstractContextManager[object]:
    return watch.during("evaluation", before="other")


@factory
def memory() -> HookSet:
    """Record the greatest amounts of memory that the process has held so far, in bytes, at each epoch's end.

    `memory/resident` is what the process held of the machine's memory. On CUDA there are also `memory/allocated`, what
    tensors took of the run's device, and `memory/reserved`, what PyTorch held of it. All three are greatest values
    since the process began, or for the device since `torch.cuda.reset_peak_memory_stats`, which this never calls. They
    are the host's own counts: no device is read.

    Raises:
        HookDefinitionError: on an operating system that does not count it, such as Windows.

    Source: `getrusage`; torch's `max_memory_allocated` and `max_memory_reserved`.

    Example:
        >>> memory()
        memory()
    """
    resource = _resource()

    def on_epoch_end(ctx: EpochEnd) -> Record:
        peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        values: dict[str, float] = {"memory/resident": peak * (1 if sys.platform == "darwin" else _BYTES_OF_A_KIBIBYTE)}
        if ctx.run.device.type == "cuda":
            values["memory/allocated"] = torch.cuda.max_memory_allocated(ctx.run.device)
            values["memory/reserved"] = torch.cuda.max_memory_reserved(ctx.run.device)
        return Record(values)

    names = frozenset({"memory/resident", "memory/allocated", "memory/reserved"})
    return HookSet(name="memory", provides=names, on_epoch_end=on_epoch_end)


def _resource() -> ModuleType:
    try:
        import resource
    except ImportError as error:
        raise HookDefinitionError(
            "memory() asks the operating system by Python's module 'resource', which this system does not have."
        ) from error
    return resource
