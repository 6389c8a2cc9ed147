"""Hooks that change learning rates and other numbers as a run goes on, and one that records the rates."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast, final

from attrs import frozen
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from trainhooks.core import (
    EpochEnd,
    EvaluationEnd,
    HookSet,
    OptimizerStepped,
    Rates,
    RatesDue,
    Record,
    Run,
    TrainBegin,
    factory,
    name_of,
    stateful,
)
from trainhooks.errors import HookDefinitionError, RunDefinitionError

from .arguments import check_choice, check_count, check_fraction, check_function, check_monitor, check_number
from .stopping import JUDGES, Mode, new_value
from .turns import finishes_update

_LEAST_REDUCTION = 1e-8
_BEFORE_SCHEDULERS = -1_000


@factory
def lr_schedule(
    factor_of_update: Callable[[int], float] | Sequence[Callable[[int], float]], *, absolute: bool = False
) -> HookSet:
    """Multiply every learning rate by a factor, a plain function of the update count.

    The update after `u` finished ones is made with `factor_of_update(u)`, so the first with `factor_of_update(0)`.
    An update that was skipped counts for nothing. There is no state besides the count: a run that is resumed goes on
    where it was. Schedules compose: of several, and with `reduce_on_plateau` and `torch_scheduler` in any order, each
    rate is what its group began with times all their factors.

    Args:
        factor_of_update: Takes the number of finished updates, from 0, and returns the factor for the next one, such as
            `cosine(10_000)`. A sequence of functions has one for each parameter group, in the order of the groups, and
            each optimizer has that many.
        absolute: Whether the functions return the rates themselves, whatever they were. Such a schedule comes before
            all that changes rates by hooks on `transform_rates`, so a run has at most one.

    Raises:
        HookDefinitionError: if it is no function, nor a sequence of functions.
        RunDefinitionError: when the run begins, if an optimizer has not as many groups as there are functions, or
            something else on `transform_rates` comes before an absolute schedule.

    Source: torch's `LambdaLR`, whose values these are where no other hook changes rates.

    Example:
        >>> lr_schedule(lambda update: min(1.0, (update + 1) / 100))  # linear warm-up over 100 updates
        lr_schedule(factor_of_update=<lambda>)
    """
    functions = _functions(factor_of_update)
    one_for_all = callable(factor_of_update)

    def on_train_begin(ctx: TrainBegin) -> None:
        for optimizer in ctx.run.optimizers:
            if all("lr" in group for group in optimizer.param_groups):
                _check_groups(optimizer, len(functions))

    def transform_rates(ctx: RatesDue, rates: Rates) -> Rates:
        updates = ctx.at.updates
        if one_for_all:
            factor = functions[0](updates)
            return [factor] * len(rates) if absolute else [rate * factor for rate in rates]
        _check_groups(ctx.run.optimizers[ctx.optimizer_idx], len(functions))
        factors = [function(updates) for function in functions]
        return factors if absolute else [rate * factor for rate, factor in zip(rates, factors, strict=True)]

    writes = frozenset({"rates"} if absolute else ())
    if one_for_all:
        return HookSet(name="lr_schedule", writes=writes, transform_rates=transform_rates)
    return HookSet(name="lr_schedule", writes=writes, on_train_begin=on_train_begin, transform_rates=transform_rates)


def _functions(given: object) -> tuple[Callable[[int], float], ...]:
    """What was given, if it is a function or a sequence of functions."""
    functions: tuple[object, ...] = (given,)
    if not callable(given):
        functions = tuple(cast("Sequence[object]", given)) if isinstance(given, Sequence) else ()
    if not functions or not all(map(callable, functions)):
        raise HookDefinitionError(
            f"lr_schedule takes a function of the update count, got {given!r}; write "
            "lr_schedule(lambda update: ...), or a list with one function for each parameter group."
        )
    return cast("tuple[Callable[[int], float], ...]", functions)


def _check_groups(optimizer: Optimizer, functions: int) -> None:
    if functions != (groups := len(optimizer.param_groups)):
        raise RunDefinitionError(
            f"lr_schedule got a list of {functions} functions, one for each parameter group, and the "
            f"{type(optimizer).__name__} of this run has {groups} groups."
        )


@factory
def torch_scheduler(
    factory: Callable[[Optimizer], LRScheduler], *, unit: Literal["updates", "epochs"], optimizer_idx: int = 0
) -> HookSet:
    """Step one of PyTorch's learning-rate schedulers once for each finished update, or epoch.

    The scheduler is made when the run begins, and is the hook set's state. It steps on what groups began with, and what
    it leaves there is what hooks on `transform_rates` are given: several schedulers act on one another as in PyTorch,
    in the order of the sets, and `lr_schedule` and `reduce_on_plateau` are factors beside them. Two of them in a run
    need two names: `named("second", torch_scheduler(...))`.

    Args:
        factory: Makes the scheduler of the optimizer, such as `lambda optimizer: OneCycleLR(optimizer, 0.1, 1_000)`.
        unit: When it steps: `"updates"`, after each optimizer step that was made, or `"epochs"`, at each epoch's end.
        optimizer_idx: Position of its optimizer among those of the run, from 0.

    Raises:
        HookDefinitionError: if the factory is no function, or `unit` is missing or neither of the two.
        RunDefinitionError: when the run begins, if the factory makes no scheduler or one that steps on a metric, or
            there is no such optimizer.

    Example:
        >>> torch_scheduler(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 10), unit="epochs")
        torch_scheduler(factory=<lambda>, unit='epochs')
    """
    if not callable(factory):
        raise HookDefinitionError(
            f"torch_scheduler takes a function that makes the scheduler, got {factory!r}; write "
            "torch_scheduler(lambda optimizer: StepLR(optimizer, 10), unit=...)."
        )
    if unit not in ("updates", "epochs"):
        raise HookDefinitionError(f"A scheduler steps in 'updates' or 'epochs', got unit={unit!r}.")
    writes = frozenset({"optimizer", "base_rates"})

    def init(begin: TrainBegin) -> LRScheduler:
        return _made(factory, begin.run.optimizers, optimizer_idx)

    def on_epoch_end(ctx: EpochEnd, scheduler: LRScheduler) -> tuple[LRScheduler, None]:
        scheduler.step()
        return scheduler, None

    def on_after_optimizer_step(ctx: OptimizerStepped, scheduler: LRScheduler) -> tuple[LRScheduler, None]:
        if ctx.stepped and ctx.optimizer_idx == optimizer_idx:
            scheduler.step()
        return scheduler, None

    if unit == "epochs":
        return stateful("torch_scheduler", init, writes=writes, on_epoch_end=on_epoch_end)
    return stateful("torch_scheduler", init, writes=writes, on_after_optimizer_step=on_after_optimizer_step)


def _made(factory: Callable[[Optimizer], Any], optimizers: tuple[Optimizer, ...], optimizer_idx: int) -> LRScheduler:
    if not 0 <= optimizer_idx < len(optimizers):
        raise RunDefinitionError(
            f"torch_scheduler is for the optimizer {optimizer_idx}, and the run has {len(optimizers)}, from 0."
        )
    scheduler: object = factory(optimizers[optimizer_idx])
    if isinstance(scheduler, ReduceLROnPlateau):
        raise RunDefinitionError(
            "torch_scheduler steps without a metric, and ReduceLROnPlateau needs one; write "
            "reduce_on_plateau('val/loss', mode='min')."
        )
    if not isinstance(scheduler, LRScheduler):
        raise RunDefinitionError(f"{name_of(factory)!r} should make a learning-rate scheduler, and made {scheduler!r}.")
    return scheduler


@final
@frozen(kw_only=True)
class Plateau:
    """What `reduce_on_plateau` remembers."""

    best: float
    """The best value so far; before the first an infinity that is worse than any."""
    failures: int = 0
    """Values in a row since then that were no improvement, those of a cooldown left out."""
    cooldown: int = 0
    """Values to come that do not count as failures."""
    reductions: int = 0
    """How often rates were reduced."""
    judged: int = 0
    """How often the value had been recorded when it was last judged."""

    def after(self, value: float, judged: int, patience: int, cooldown: int, *, better: bool) -> "Plateau":
        """What is remembered after a further value, as torch's `ReduceLROnPlateau` does it."""
        failures = 0 if better or self.cooldown else self.failures + 1
        falls = failures > patience
        return Plateau(
            best=value if better else self.best,
            failures=0 if falls else failures,
            cooldown=cooldown if falls else max(self.cooldown - 1, 0),
            reductions=self.reductions + falls,
            judged=judged,
        )


@factory
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
    counts. All reductions so far are made of the rate that schedules give each update, so these go on beside it.

    Args:
        monitor: Name of the value, such as `"val/loss"`.
        mode: `"min"` if smaller is better, `"max"` if greater is; never guessed from the name.
        factor: What rates are multiplied by, from 0 to below 1.
        patience: Failures to improve in a row that are let pass, from 0 on.
        threshold: A value is better only by more than this, a finite number from 0 on.
        threshold_mode: `"rel"` if `threshold` is a share of the best value, `"abs"` if it is in the value's own unit.
        min_lr: No reduction goes below this, from 0 on. A reduction by 1e-8 or less is not made.
        cooldown: Values after a reduction that do not count as failures, from 0 on.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: torch's `ReduceLROnPlateau`, whose rates these are where no other hook changes them.

    Example:
        >>> reduce_on_plateau("val/loss", mode="min", patience=3)
        reduce_on_plateau(monitor='val/loss', mode='min', patience=3)
    """
    check_monitor("reduce_on_plateau", monitor, mode)
    check_fraction("reduce_on_plateau", "factor", factor)
    check_count("reduce_on_plateau", "patience", patience, 0)
    check_number("reduce_on_plateau", "threshold", threshold)
    check_choice("reduce_on_plateau", "threshold_mode", threshold_mode, ("rel", "abs"))
    check_number("reduce_on_plateau", "min_lr", min_lr)
    check_count("reduce_on_plateau", "cooldown", cooldown, 0)


    def is_better(value: float, best: float) -> bool:
        by = -threshold if mode == "min" else threshold
        bound = best * (1.0 + by) if threshold_mode == "rel" else best + by
        return value < bound if mode == "min" else value > bound

    def judge(ctx: EpochEnd | EvaluationEnd, plateau: Plateau) -> tuple[Plateau, None]:
        value, judged = new_value(ctx, monitor, plateau.judged)
        if value is not None:
            plateau = plateau.after(value, judged, patience, cooldown, better=is_better(value, plateau.best))
        return plateau, None

    def transform_rates(ctx: RatesDue, rates: Rates, plateau: Plateau) -> tuple[Plateau, Rates]:
        return plateau, [_reduced(rate, plateau.reductions, factor, min_lr) for rate in rates]

    fresh = Plateau(best=math.inf if mode == "min" else -math.inf)
    return stateful(
        "reduce_on_plateau", lambda: fresh, reads=frozenset({monitor}), governs=JUDGES, transform_rates=transform_rates,
        on_evaluation_end=judge, on_epoch_end=judge,
    )  # fmt: skip


def _reduced(rate: float, reductions: int, factor: float, least: float) -> float:
    """`rate`, so many times reduced, as torch's `ReduceLROnPlateau` does it."""
    for _ in range(reductions):
        lower = max(rate * factor, least)
        if not rate - lower > _LEAST_REDUCTION:
            break
        rate = lower
    return rate


@factory
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
        value_schedule(set_value=set_momentum, value_of_update=<lambda>)
        >>> def set_dropout(run, p):
        ...     run.model.get_submodule("dropout").p = p
        >>> value_schedule(set_dropout, lambda update: 0.5 if update < 1_000 else 0.1)
        value_schedule(set_value=set_dropout, value_of_update=<lambda>)
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


@factory
def lr_monitor() -> HookSet:
    """Record the learning rate of each parameter group with which each update was made.

    The names are `lr/<group>`, groups counted from 0, and `lr/<optimizer>/<group>` in a run with several optimizers; an
    update that was skipped records nothing. What the names are is known when the run begins and not before, so the set
    provides none: a set that `reads` one of them is refused. A rate that is a device tensor is recorded as one, so
    nothing is read in a step.

    Schedulers of PyTorch step on the same event; this set has a low `order` and so comes before them, wherever it is
    given.

    Example:
        >>> lr_monitor()
        lr_monitor()
    """

    def on_after_optimizer_step(ctx: OptimizerStepped) -> Record | None:
        if not ctx.stepped:
            return None
        several = len(ctx.run.optimizers) > 1
        prefix = f"lr/{ctx.optimizer_idx}" if several else "lr"
        groups = ctx.run.optimizers[ctx.optimizer_idx].param_groups
        rates: dict[str, float | Tensor] = {f"{prefix}/{index}": group["lr"] for index, group in enumerate(groups)}
        return Record(rates)

    return HookSet(name="lr_monitor", order=_BEFORE_SCHEDULERS, on_after_optimizer_step=on_after_optimizer_step)
