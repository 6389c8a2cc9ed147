"""Hooks that end a run that has broken, or that has taken too long."""

import math
import time
from collections.abc import Callable
from typing import final

import torch
from attrs import frozen
from torch import Tensor

from trainhooks.core import BatchEnd, EpochEnd, HookSet, Run, Stop, TrainBegin, factory, says_itself, stateful

from .arguments import check_count, check_number
from .shards import ranks_of

_NEVER = torch.iinfo(torch.int64).max


@final
@frozen(kw_only=True)
class Nonfinite:
    """What `stop_on_nonfinite` remembers."""

    first: Tensor | None = None
    """The first update with a loss that was not finite, 0-d int64 on the loss's device; the greatest int64 for none."""


@factory
def stop_on_nonfinite(*, lag: int = 50) -> HookSet:
    """Stop when a loss is NaN or infinite, and name the update at which it first was.

    Each batch's losses are looked at on their device. The result is read from there once every `lag` full windows of
    batches, at the end of each epoch, and at the last of `max_updates`, never in between: waiting for the device in
    every step would slow the run down. So the run goes on for at most `lag` updates after the one that is named. What
    was recorded stays as it was. A batch of weight 0 has no items, and its loss counts for nothing; with several
    objectives that is known of the last one's loss alone. Over ranks they compare at each read, so the update is the
    first at which a loss of any of them was not finite.

    Args:
        lag: Updates from one read to the next, 1 or more.

    Raises:
        HookDefinitionError: if `lag` is no such number.

    Example:
        >>> stop_on_nonfinite()
        stop_on_nonfinite()
    """
    check_count("stop_on_nonfinite", "lag", lag, 1)

    def on_batch_end(ctx: BatchEnd, state: Nonfinite) -> tuple[Nonfinite, Stop | None]:
        first = torch.where(_finite(ctx), _NEVER, ctx.at.updates + (not ctx.updated))
        state = Nonfinite(first=first if state.first is None else torch.minimum(state.first, first))
        due = ctx.at.batches % (lag * ctx.run.accumulate) == 0
        ends = ctx.updated and ctx.at.updates == ctx.run.max_updates
        return state, _verdict(state, ctx.run) if due or ends else None

    def on_epoch_end(ctx: EpochEnd, state: Nonfinite) -> tuple[Nonfinite, Stop | None]:
        return state, _verdict(state, ctx.run)

    watching: HookSet = stateful(
        "stop_on_nonfinite", Nonfinite, collective=True, on_batch_end=on_batch_end, on_epoch_end=on_epoch_end
    )
    return says_itself(watching, "write stop_on_nonfinite(lag=n), to read the device every n updates.")


def _finite(ctx: BatchEnd) -> Tensor:
    """Whether every loss of a batch is finite; 0-d, on the device."""
    finite = torch.isfinite(ctx.loss)
    if isinstance(ctx.weight, Tensor):
        finite = finite | (ctx.weight <= 0)
    elif ctx.weight == 0:
        finite = torch.ones_like(finite)
    for loss in list(ctx.losses.values())[:-1]:
        finite = finite & torch.isfinite(loss)
    return finite


def _verdict(state: Nonfinite, run: Run) -> Stop | None:
    """Reads the device; all ranks come here."""
    first = _NEVER if state.first is None else int(state.first)
    update = math.inf if first == _NEVER else first
    if (ranks := ranks_of(run)) is not None:
        update = -ranks.most(-update)
    return None if update == math.inf else Stop(f"the loss was not finite at update {int(update)}")


@final
@frozen(kw_only=True)
class Began:
    """What `time_limit` remembers."""

    at: float = 0.0
    """The clock when this process began to train, in seconds."""


@factory
def time_limit(seconds: float, *, clock: Callable[[], float] = time.monotonic) -> HookSet:
    """Stop at the first batch's end at which so many seconds have passed since this process began to train.

    Evaluations count, the time before `on_train_begin` does not. A run that is resumed has the whole time again.

    Args:
        seconds: Seconds, a finite number from 0 on.
        clock: Seconds since some fixed moment.

    Raises:
        HookDefinitionError: if `seconds` is no such number.

    Example:
        >>> time_limit(8 * 3600)
        time_limit(seconds=28800)
    """
    check_number("time_limit", "seconds", seconds)

    def on_train_begin(ctx: TrainBegin, began: Began) -> tuple[Began, None]:
        return Began(at=clock()), None

    def on_batch_end(ctx: BatchEnd, began: Began) -> tuple[Began, Stop | None]:
        passed = clock() - began.at
        if passed < seconds:
            return began, None
        return began, Stop(f"{passed:.1f} s have passed, and the limit is {seconds:g} s")

    return stateful("time_limit", Began, on_train_begin=on_train_begin, on_batch_end=on_batch_end)
