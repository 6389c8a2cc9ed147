"""How fast a run is, and when it will be over."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

from attrs import define
from torch import Tensor

from trainhooks.core import (
    BatchBegin,
    BatchEnd,
    EpochBegin,
    EpochEnd,
    EvaluationBegin,
    HookSet,
    Progress,
    Record,
    Run,
    TrainBegin,
    factory,
    says_itself,
    stateful,
)
from trainhooks.errors import HookDefinitionError, shown

from .stopwatch import Stopwatch, check_measuring, is_due


@final
@define(eq=False)
class Pace:
    """What `throughput` has counted since its last record; nothing of it is worth saving."""

    watch: Stopwatch
    began: float
    """When this process began to train, by the clock."""
    start: Progress
    """How far the run was then."""
    items: float | Tensor = 0
    """Items since the last record; a tensor on its device where the weights are tensors."""
    length: int | None = None
    """Batches of an epoch, if they are known."""

    def record(self, run: Run, at: Progress) -> Record:
        """The values since the last record."""
        watch = self.watch
        spent = watch.seconds
        seconds = max(watch.elapsed() - spent.get("evaluation", 0.0), 1e-9)
        values: dict[str, float | Tensor] = {
            "throughput/items": self.items / seconds,
            "throughput/data_wait": spent.get("data", 0.0) / seconds,
        }
        left = self.left(run, at)
        if left is not None:
            values["throughput/seconds_left"] = left * (watch.mark - self.began)
        self.items = 0
        watch.restart()
        return Record(values)

    def left(self, run: Run, at: Progress) -> float | None:
        """What is still to be done of the run, in units of what this process has done; None if it is not known."""
        stretches: list[tuple[int, int, int]] = []  # where this process began, where it is, where the run ends
        if run.max_updates is not None:
            stretches.append((self.start.updates, at.updates, run.max_updates))
        if run.epochs is not None and self.length is not None:
            length = self.length
            stretches.append((_batches(self.start, length), _batches(at, length), run.epochs * length))
        return min(((end - now) / (now - start) for start, now, end in stretches if now > start), default=None)

    def state_dict(self) -> dict[str, object]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Nothing."""


@factory
def throughput(
    *,
    items: Callable[[Any], float | Tensor] | None = None,
    updates: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> HookSet:
    """Record how many items are trained on in a second, the share of waiting for data, and the time that is left.

    `throughput/items` is in items per second, of the time since the last record without that of evaluations;
    `throughput/data_wait` is the share of this time, from 0 to 1, from a batch's end to the next one on the device;
    `throughput/seconds_left` is how long the run will still take, evaluations included, if it goes on as it has. The
    last one is there only where the end is known: from `max_updates`, or from `epochs` and the data's length.

    The clock is the host's. On CUDA work is only queued where it stands in the program, so a rate over few updates is
    the rate of queueing. Weights that are tensors are summed on their device and read as every record is, in bursts.
    Over ranks each records its own rate.

    Args:
        items: Gives the items of a batch, such as its tokens: a number, or a 0-d tensor, which is not read in a step.
            None for the weight of the loss.
        updates: Updates from one record to the next; None for a record at each epoch's end.
        clock: Seconds since some fixed moment.

    Raises:
        HookDefinitionError: if an argument is none of these; in the run, if `items` gives no number.

    Example:
        >>> throughput(items=lambda batch: batch["tokens"].numel(), updates=100).name
        'throughput'
    """
    check_measuring("throughput", updates, clock)
    if items is not None and not callable(items):
        raise HookDefinitionError(
            f"items is a function of a batch that gives how many items it has, got {shown(items)}."
        )

    def init(begin: TrainBegin) -> Pace:
        watch = Stopwatch(clock)
        return Pace(watch=watch, began=watch.began, start=begin.at)

    def on_batch_end(ctx: BatchEnd, pace: Pace) -> tuple[Pace, Record | None]:
        pace.items = pace.items + (ctx.weight if items is None else _number(items(ctx.batch)))
        pace.watch.charge("training")
        return pace, pace.record(ctx.run, ctx.at) if is_due(ctx, updates) else None

    def on_epoch_end(ctx: EpochEnd, pace: Pace) -> tuple[Pace, Record | None]:
        pace.watch.charge("training")
        return pace, pace.record(ctx.run, ctx.at) if updates is None else None

    measuring: HookSet = stateful(
        "throughput",
        init,
        provides=frozenset({"throughput/items", "throughput/data_wait", "throughput/seconds_left"}),
        around_epoch=_measure_epoch,
        on_batch_begin=_count_wait,
        on_batch_end=on_batch_end,
        around_evaluation=_evaluating,
        on_epoch_end=on_epoch_end,
    )
    return says_itself(measuring, "write throughput(updates=n), to record every n updates.")


def _measure_epoch(ctx: EpochBegin, pace: Pace) -> AbstractContextManager[object]:
    pace.length = ctx.batches  # here rather than at the epoch's begin, which a resumed run does not hear again
    pace.watch.charge("training")
    return nullcontext()


def _count_wait(ctx: BatchBegin, pace: Pace) -> tuple[Pace, None]:
    pace.watch.charge("data")
    return pace, None


def _evaluating(ctx: EvaluationBegin, pace: Pace) -> AbstractContextManager[object]:
    return pace.watch.during("evaluation", before="training")


def _batches(at: Progress, length: int) -> int:
    """How many batches of a run lie behind, skipped ones included, if its epochs have `length` batches."""
    within = at.epoch == at.epochs and at.batches > 0
    return at.epochs * length + (at.batch + 1 if within else 0)


def _number(value: object) -> float | Tensor:
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise HookDefinitionError(
            f"items gives how many items a batch has, a number or a 0-d tensor, got {shown(value)}."
        )
    return value.detach() if isinstance(value, Tensor) else value
