"""Hooks that end a run by a value that it records."""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Literal, TypeAlias, final

from attrs import evolve, frozen
from torch import Tensor, nn

from trainhooks.core import (
    Completed,
    EpochEnd,
    EvaluationEnd,
    HookSet,
    Stop,
    Stopped,
    TrainEnd,
    factory,
    stateful,
)
from trainhooks.errors import HookDefinitionError, shown

from .arguments import check_count, check_monitor, check_number
from .weights import UNMADE, warn_of_the_rest

JUDGES = frozenset({"on_evaluation_end", "on_epoch_end"})
"""The events on which a value is judged."""
Mode: TypeAlias = Literal["min", "max"]
"""Which of two values is better: the smaller or the greater."""


@final
@frozen(kw_only=True)
class Best:
    """What `early_stopping` remembers."""

    value: float | None = None
    """The best value so far; None before the first, and while all were NaN."""
    updates: int = 0
    """The update count at which it was judged."""
    failures: int = 0
    """Values in a row since then that were no improvement."""
    judged: int = 0
    """How often the value had been recorded when it was last judged."""
    weights: Mapping[str, object] | None = None
    """The model's state then, if it is to be restored."""


@final
@frozen(kw_only=True)
class Streak:
    """What `threshold_stopping` remembers."""

    failures: int = 0
    """Values in a row, up to the newest, that were worse than the threshold."""
    judged: int = 0
    """How often the value had been recorded when it was last judged."""


@factory
def early_stopping(
    monitor: str,
    *,
    mode: Mode,
    patience: int = 3,
    min_delta: float = 0.0,
    stopping_threshold: float | None = None,
    start: int = 0,
    restore_best: bool = False,
) -> HookSet:
    """Stop at the `patience`-th value in a row that is no improvement, or at one as good as `stopping_threshold`.

    Every new value is judged once, at the end of the evaluation or the epoch that brought it, so this works in a run
    without epochs too. An epoch or evaluation without a new value does not count; NaN counts as no improvement.

    Args:
        monitor: Name of the value, such as `"val/loss"`.
        mode: `"min"` if smaller is better, `"max"` if greater is; never guessed from the name.
        patience: Failures to improve in a row at which the run stops; 0 means 1.
        min_delta: A value is better only by more than this, 0 or greater, in the value's own unit.
        stopping_threshold: Stop at once when a value is this good, the threshold included; None for never.
        start: Values that come at fewer finished updates than this are not judged.
        restore_best: Whether a run that is completed or stopped gets the model's state at the best value back: of a
            value of an evaluation the weights that it looked at, such as an average. What has another name or shape by
            then stays, with a warning. Keeps a copy of the state on the model's devices, of a sharded model each rank
            of its part, and every rank calls it. A run that failed or was interrupted is left as it is. No other set of
            the run can leave weights of its own.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: Prechelt, "Early stopping - but when?", 1998.

    Example:
        >>> early_stopping("val/loss", mode="min", patience=3)
        early_stopping(monitor='val/loss', mode='min')
    """
    check_monitor("early_stopping", monitor, mode)
    check_count("early_stopping", "patience", patience, 0)
    check_number("early_stopping", "min_delta", min_delta)
    check_count("early_stopping", "start", start, 0)
    if stopping_threshold is not None:
        _check_threshold("early_stopping", "stopping_threshold", stopping_threshold)

    def judge(ctx: EpochEnd | EvaluationEnd, best: Best) -> tuple[Best, Stop | None]:
        value, judged = new_value(ctx, monitor, best.judged)
        if restore_best and _is_of_the_epoch(ctx, monitor):
            value, judged = None, best.judged
        if value is None or ctx.at.updates < start:
            return evolve(best, judged=judged), None
        good = stopping_threshold is not None and not _is_worse(value, stopping_threshold, mode)
        if is_better(value, best.value, mode, 0.0 if good else min_delta):
            weights = _copy(ctx.run.model) if restore_best else None
            best = Best(value=value, updates=ctx.at.updates, judged=judged, weights=weights)
        else:
            best = evolve(best, failures=best.failures + 1, judged=judged)
        return best, _stop(monitor, value, best, patience, stopping_threshold if good else None)

    return stateful(
        "early_stopping", Best, reads={monitor}, writes={"parameters", "buffers", "final"} if restore_best else (),
        collective=restore_best, governs=JUDGES, on_evaluation_end=judge, on_epoch_end=judge,
        on_train_end=_restore if restore_best else None,
    )  # fmt: skip


@factory
def threshold_stopping(monitor: str, *, mode: Mode, divergence_threshold: float, patience: int = 1) -> HookSet:
    """Stop at the `patience`-th value in a row that is worse than `divergence_threshold`.

    For runs that are not worth their time: a loss that explodes, an accuracy that stays low. Values are judged as in
    `early_stopping`: each new one once; NaN is worse than any threshold, and a value equal to it is not.

    Args:
        monitor: Name of the value, such as `"val/loss"`.
        mode: `"min"` if smaller is better, `"max"` if greater is; never guessed from the name.
        divergence_threshold: The worst value that is good enough, finite, in the value's own unit.
        patience: Values in a row at which the run stops; 0 means 1.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Example:
        >>> threshold_stopping("train/loss", mode="min", divergence_threshold=20.0, patience=2)
        threshold_stopping(monitor='train/loss', mode='min', divergence_threshold=20.0, patience=2)
    """
    check_monitor("threshold_stopping", monitor, mode)
    check_count("threshold_stopping", "patience", patience, 0)
    _check_threshold("threshold_stopping", "divergence_threshold", divergence_threshold)

    def judge(ctx: EpochEnd | EvaluationEnd, streak: Streak) -> tuple[Streak, Stop | None]:
        value, judged = new_value(ctx, monitor, streak.judged)
        if value is None:
            return streak, None
        if not _is_worse(value, divergence_threshold, mode):
            return Streak(judged=judged), None
        streak = Streak(failures=streak.failures + 1, judged=judged)
        if streak.failures < max(patience, 1):
            return streak, None
        values = f", worse than the threshold {divergence_threshold:.6g} for {_counted(streak.failures)}"
        return streak, Stop(f"{monitor} is {value:.6g}{values}")

    reads = frozenset({monitor})
    return stateful(
        "threshold_stopping", Streak, reads=reads, governs=JUDGES, on_evaluation_end=judge, on_epoch_end=judge
    )


def new_value(ctx: EpochEnd | EvaluationEnd, monitor: str, judged: int) -> tuple[float | None, int]:
    """The value of `monitor` if it is newer than its `judged`th record, else None; and how often it was recorded."""
    recorded = ctx.metrics.recorded(monitor) if monitor in ctx.metrics else judged
    return (None if recorded == judged else ctx.metrics[monitor]), recorded


def _is_of_the_epoch(ctx: EpochEnd | EvaluationEnd, monitor: str) -> bool:
    """Whether an evaluation shows what it did not record itself, and the end of the epoch will show it again.

    The evaluation may look at other weights, such as an average, than those that the value judges.
    """
    if isinstance(ctx, EpochEnd) or ctx.metrics.is_of_this_evaluation(monitor):
        return False
    return ctx.at.epochs > ctx.at.epoch  # the epoch is complete


def is_better(value: float, best: float | None, mode: Mode, min_delta: float = 0.0) -> bool:
    """Whether a value is better than the best so far by more than `min_delta`; NaN never is."""
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value < best - min_delta if mode == "min" else value > best + min_delta


def _is_worse(value: float, threshold: float, mode: Mode) -> bool:
    return not (value <= threshold if mode == "min" else value >= threshold)


def _stop(monitor: str, value: float, best: Best, patience: int, reached: float | None) -> Stop | None:
    if reached is not None:
        return Stop(f"{monitor} is {value:.6g}, as good as the threshold {reached:.6g}")
    return Stop(_reason(monitor, best)) if best.failures >= max(patience, 1) else None


def _reason(monitor: str, best: Best) -> str:
    was = "was never a number" if best.value is None else f"was best at update {best.updates} ({best.value:.6g})"
    return f"{monitor} {was} and did not improve for {_counted(best.failures)}"


def _counted(values: int) -> str:
    return "1 value" if values == 1 else f"{values} values"


def _restore(ctx: TrainEnd, best: Best) -> tuple[Best, None]:
    """Give the model the best state back, as far as its names and shapes are still those of the model."""
    if best.weights is not None and isinstance(ctx.end, Completed | Stopped):
        own = _state(ctx.run.model)
        fitting = {name: part for name, part in best.weights.items() if name in own and _fit(part, own[name])}
        ctx.run.model.load_state_dict(fitting, strict=False)
        rest = (own.keys() | best.weights.keys()) - fitting.keys()
        warn_of_the_rest(f"The weights of update {best.updates}, the best, were put back", rest)
    return best, None


def _fit(part: object, own: object) -> bool:
    return not isinstance(part, Tensor) or (isinstance(own, Tensor) and part.shape == own.shape)


def _copy(model: nn.Module) -> dict[str, object]:
    state = _state(model)
    return {name: part.detach().clone() if isinstance(part, Tensor) else deepcopy(part) for name, part in state.items()}


def _state(model: nn.Module) -> dict[str, object]:
    """The model's state, without what its lazy modules have not made yet."""
    state: Mapping[str, object] = model.state_dict()
    return {name: part for name, part in state.items() if not isinstance(part, UNMADE)}


def _check_threshold(factory: str, argument: str, threshold: object) -> None:
    if not isinstance(threshold, int | float) or isinstance(threshold, bool) or not math.isfinite(threshold):
        raise HookDefinitionError(f"{factory} takes {argument} as a finite number, got {shown(threshold)}.")
