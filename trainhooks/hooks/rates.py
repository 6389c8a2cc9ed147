"""Hooks that set any number to a function of the update count, and record the learning rates."""

from collections.abc import Callable

from torch import Tensor

from trainhooks.core import HookSet, OptimizerStepped, Record, Run, TrainBegin

from .arguments import check_function
from .turns import finishes_update

_BEFORE_SCHEDULES = -1_000


def value_schedule(set_value: Callable[[Run, float], object], value_of_update: Callable[[int], float]) -> HookSet:
    """Set any number to a plain function of the update count: a momentum, a weight decay, a dropout rate.

    It is set before the first update and after each one that was made, once all optimizers have had their turn: the
    update after `u` finished ones is made with `value_of_update(u)`. There is no state besides the count. A run can
    have several of them.

    Args:
        set_value: `set_value(run, value)` puts the value where it belongs; what it returns is ignored.
        value_of_update: Takes the number of finished updates, from 0, and returns the value for the next one.

    Raises:
        HookDefinitionError: if one of them is no function.

    Example:
        >>> def set_momentum(run, momentum):
        ...     for group in run.optimizers[0].param_groups:
        ...         group["momentum"] = momentum
        >>> value_schedule(set_momentum, lambda update: min(0.95, 0.85 + update / 10_000))
        HookSet('value_schedule': on_train_begin, on_after_optimizer_step)
        >>> def set_dropout(run, p):
        ...     run.model.get_submodule("dropout").p = p
        >>> value_schedule(set_dropout, lambda update: 0.5 if update < 1_000 else 0.1)
        HookSet('value_schedule': on_train_begin, on_after_optimizer_step)
    """
    instead = "value_schedule(set_value, value_of_update), with set_value(run, value)"
    check_function("value_schedule", "set_value", set_value, instead)
    check_function("value_schedule", "value_of_update", value_of_update, instead)

    def on_train_begin(ctx: TrainBegin) -> None:
        set_value(ctx.run, value_of_update(ctx.at.updates))

    def on_after_optimizer_step(ctx: OptimizerStepped) -> None:
        if finishes_update(ctx):
            set_value(ctx.run, value_of_update(ctx.at.updates))

    return HookSet(
        name="value_schedule",
        writes=frozenset({"optimizer"}),
        on_train_begin=on_train_begin,
        on_after_optimizer_step=on_after_optimizer_step,
    )


def lr_monitor() -> HookSet:
    """Record the learning rate of each parameter group with which each update was made.

    The names are `lr/<group>`, groups counted from 0, and `lr/<optimizer>/<group>` in a run with several optimizers; an
    update that was skipped records nothing. What the names are is known when the run begins and not before, so the set
    provides none: a set that `reads` one of them is refused. A rate that is a device tensor is recorded as one, so
    nothing is read in a step.

    Schedules set the next rate on the same event; this set has a low `order` and so comes before them, wherever it is
    given.

    Example:
        >>> lr_monitor()
        HookSet('lr_monitor': on_after_optimizer_step)
    """

    def on_after_optimizer_step(ctx: OptimizerStepped) -> Record | None:
        if not ctx.stepped:
            return None
        several = len(ctx.run.optimizers) > 1
        prefix = f"lr/{ctx.optimizer_idx}" if several else "lr"
        groups = ctx.run.optimizers[ctx.optimizer_idx].param_groups
        rates: dict[str, float | Tensor] = {f"{prefix}/{index}": group["lr"] for index, group in enumerate(groups)}
        return Record(rates)

    return HookSet(name="lr_monitor", order=_BEFORE_SCHEDULES, on_after_optimizer_step=on_after_optimizer_step)
