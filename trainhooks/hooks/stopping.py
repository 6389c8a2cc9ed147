"""Hooks that end a run."""

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
    stateful,
)
from trainhooks.errors import HookDefinitionError

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


def early_stopping(
    monitor: str, *, mode: Mode, patience: int = 3, min_delta: float = 0.0, restore_best: bool = False
) -> HookSet:
    """Stop when a value has not improved for `patience` values in a row.

    Every new value is judged once, at the end of the evaluation or the epoch that brought it, so this works in a run
    without epochs too. An epoch or evaluation without a new value does not count; NaN counts as no improvement.

    Args:
        monitor: Name of the value, such as `"val/loss"`.
        mode: `"min"` if smaller is better, `"max"` if greater is; never guessed from the name.
        patience: Failures to improve in a row at which the run stops; 0 means 1.
        min_delta: A value is better only by more than this, 0 or greater, in the value's own unit.
        restore_best: Whether a run that is completed or stopped gets the model's state at the best value back. Keeps a
            copy of the state on the model's devices. A run that failed or was interrupted is left as it is.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: Prechelt, "Early stopping - but when?", 1998.

    Example:
        >>> early_stopping("val/loss", mode="min", patience=3)
        HookSet('early_stopping': on_evaluation_end, on_epoch_end)
    """
    _check(monitor, mode, patience, min_delta)

    def judge(ctx: EpochEnd | EvaluationEnd, best: Best) -> tuple[Best, Stop | None]:
        judged = ctx.metrics.recorded(monitor) if monitor in ctx.metrics else best.judged
        if judged == best.judged:
            return best, None
        value = ctx.metrics[monitor]
        if _is_better(value, best.value, mode, min_delta):
            weights = _copy(ctx.run.model) if restore_best else None
            return Best(value=value, updates=ctx.at.updates, judged=judged, weights=weights), None
        best = evolve(best, failures=best.failures + 1, judged=judged)
        return best, Stop(_reason(monitor, best)) if best.failures >= max(patience, 1) else None

    def restore(ctx: TrainEnd, best: Best) -> tuple[Best, None]:
        if best.weights is not None and isinstance(ctx.end, Completed | Stopped):
            ctx.run.model.load_state_dict(best.weights)
        return best, None

    reads = frozenset({monitor})
    if not restore_best:
        return stateful("early_stopping", Best, reads=reads, on_evaluation_end=judge, on_epoch_end=judge)
    writes = frozenset({"parameters", "buffers"})
    return stateful(
        "early_stopping", Best, reads=reads, writes=writes, on_evaluation_end=judge, on_epoch_end=judge,
        on_train_end=restore,
    )  # fmt: skip


def _is_better(value: float, best: float | None, mode: Mode, min_delta: float) -> bool:
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value < best - min_delta if mode == "min" else value > best + min_delta


def _reason(monitor: str, best: Best) -> str:
    was = "was never a number" if best.value is None else f"was best at update {best.updates} ({best.value:.6g})"
    values = "1 value" if best.failures == 1 else f"{best.failures} values"
    return f"{monitor} {was} and did not improve for {values}"


def _copy(model: nn.Module) -> dict[str, object]:
    state: Mapping[str, object] = model.state_dict()
    return {name: part.detach().clone() if isinstance(part, Tensor) else deepcopy(part) for name, part in state.items()}


def _check(monitor: object, mode: object, patience: object, min_delta: object) -> None:
    if not isinstance(monitor, str) or not monitor or monitor == "*":
        raise HookDefinitionError(f"early_stopping watches one value by its name, such as 'val/loss', got {monitor!r}.")
    if mode not in ("min", "max"):
        raise HookDefinitionError(
            f"early_stopping({monitor!r}) takes mode='min' if smaller is better, 'max' if greater is; got {mode!r}."
        )
    if not isinstance(patience, int) or isinstance(patience, bool) or patience < 0:
        raise HookDefinitionError(f"patience is a whole number from 0 on, got {patience!r}.")
    if not isinstance(min_delta, int | float) or not 0.0 <= min_delta < math.inf:
        raise HookDefinitionError(f"min_delta is a finite number from 0 on, got {min_delta!r}.")
