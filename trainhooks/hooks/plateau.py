"""A hook that lowers learning rates when a value stops improving."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, final

from attrs import define
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainhooks.core import EpochEnd, EvaluationEnd, HookSet, TrainBegin, stateful

from .arguments import check_choice, check_count, check_fraction, check_monitor, check_number
from .stopping import Mode, new_value


@final
@define(eq=False)
class Plateau:
    """What `reduce_on_plateau` remembers."""

    schedulers: tuple[ReduceLROnPlateau, ...]
    """PyTorch's own, one for each optimizer of the run."""
    judged: int = 0
    """How often the value had been recorded when it was last judged."""

    def state_dict(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"judged": self.judged, "schedulers": [one.state_dict() for one in self.schedulers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state of as many optimizers."""
        self.judged = state["judged"]
        for one, saved in zip(self.schedulers, state["schedulers"], strict=True):
            one.load_state_dict(saved)


def reduce_on_plateau(
    monitor: str,
    *,
    mode: Mode,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    min_lr: float = 0.0,
    cooldown: int = 0,
) -> HookSet:
    """Multiply every learning rate by `factor` at the failure to improve that follows `patience` of them in a row.

    Every new value is judged once, at the end of the evaluation or the epoch that brought it, so this works in a run
    without epochs too. An epoch or evaluation without a new value does not count; NaN counts as no improvement.
    PyTorch counts `patience` so: with 0 the rate falls at the first failure; that is one later than `early_stopping`
    counts. Not together with `lr_schedule`, which sets each rate anew from its first value.

    Args:
        monitor: Name of the value, such as `"val/loss"`.
        mode: `"min"` if smaller is better, `"max"` if greater is; never guessed from the name.
        factor: What rates are multiplied by, from 0 to below 1.
        patience: Failures to improve in a row that are let pass, from 0 on.
        threshold: A value is better only by more than this, a finite number from 0 on.
        threshold_mode: `"rel"` if `threshold` is a share of the best value, `"abs"` if it is in the value's own unit.
        min_lr: No rate falls below this, from 0 on. A reduction by 1e-8 or less is not made.
        cooldown: Values after a reduction that do not count as failures, from 0 on.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: torch's `ReduceLROnPlateau`, which is the state.

    Example:
        >>> reduce_on_plateau("val/loss", mode="min", patience=3)
        HookSet('reduce_on_plateau': on_evaluation_end, on_epoch_end)
    """
    check_monitor("reduce_on_plateau", monitor, mode)
    check_fraction("reduce_on_plateau", "factor", factor)
    check_count("reduce_on_plateau", "patience", patience, 0)
    check_number("reduce_on_plateau", "threshold", threshold)
    check_choice("reduce_on_plateau", "threshold_mode", threshold_mode, ("rel", "abs"))
    check_number("reduce_on_plateau", "min_lr", min_lr)
    check_count("reduce_on_plateau", "cooldown", cooldown, 0)

    make = partial(
        ReduceLROnPlateau, mode=mode, factor=factor, patience=patience, threshold=threshold,
        threshold_mode=threshold_mode, min_lr=min_lr, cooldown=cooldown,
    )  # fmt: skip

    def init(begin: TrainBegin) -> Plateau:
        return Plateau(tuple(make(one) for one in begin.run.optimizers))

    def judge(ctx: EpochEnd | EvaluationEnd, plateau: Plateau) -> tuple[Plateau, None]:
        value, plateau.judged = new_value(ctx, monitor, plateau.judged)
        if value is not None:
            for scheduler in plateau.schedulers:
                scheduler.step(value)
        return plateau, None

    return stateful(
        "reduce_on_plateau", init, reads=frozenset({monitor}), writes=frozenset({"optimizer"}), on_evaluation_end=judge,
        on_epoch_end=judge,
    )  # fmt: skip
