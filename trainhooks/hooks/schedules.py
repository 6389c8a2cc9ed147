"""Hooks that set learning rates as a run goes on."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from trainhooks.core import EpochEnd, HookSet, OptimizerStepped, TrainBegin, name_of, stateful
from trainhooks.errors import HookDefinitionError, RunDefinitionError

from .turns import finishes_update

_WRITES = frozenset({"optimizer"})


def lr_schedule(factor_of_update: Callable[[int], float] | Sequence[Callable[[int], float]]) -> HookSet:
    """Set every learning rate to its first value times a factor, a plain function of the update count.

    The update after `u` finished ones is made with `factor_of_update(u)`, so the first with `factor_of_update(0)`.
    An update that was skipped counts for nothing. There is no state besides the count: a run that is resumed goes on
    where it was.

    Args:
        factor_of_update: Takes the number of finished updates, from 0, and returns the factor for the next one, such as
            `cosine(10_000)`. A sequence of functions has one for each parameter group, in the order of the groups, and
            each optimizer has that many.

    Raises:
        HookDefinitionError: if it is no function, nor a sequence of functions.
        RunDefinitionError: when the run begins, if an optimizer has not as many groups as there are functions.

    Source: torch's `LambdaLR`, whose values these are; a rate's first value is its group's `initial_lr`, else `lr`.

    Example:
        >>> lr_schedule(lambda update: min(1.0, (update + 1) / 100))  # linear warm-up over 100 updates
        HookSet('lr_schedule': on_train_begin, on_after_optimizer_step)
    """
    functions = _functions(factor_of_update)
    one_for_all = callable(factor_of_update)

    def on_train_begin(ctx: TrainBegin) -> None:
        for optimizer in ctx.run.optimizers:
            if not one_for_all:
                _check_groups(optimizer, len(functions))
        for optimizer in ctx.run.optimizers:
            _scale(optimizer, functions, ctx.at.updates)

    def on_after_optimizer_step(ctx: OptimizerStepped) -> None:
        # One whose own update was skipped follows the count too, once the others have had their turn.
        own = (ctx.run.optimizers[ctx.optimizer_idx],) if ctx.stepped else ()
        for optimizer in ctx.run.optimizers if finishes_update(ctx) else own:
            _scale(optimizer, functions, ctx.at.updates)

    return HookSet(
        name="lr_schedule",
        writes=_WRITES,
        on_train_begin=on_train_begin,
        on_after_optimizer_step=on_after_optimizer_step,
    )


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


def _scale(optimizer: Optimizer, functions: Sequence[Callable[[int], float]], updates: int) -> None:
    groups = optimizer.param_groups
    factors = [function(updates) for function in functions]
    for group, factor in zip(groups, factors * len(groups) if len(factors) == 1 else factors, strict=True):
        rate: float | Tensor = group["lr"]
        if isinstance(rate, Tensor):
            rate.fill_(group.setdefault("initial_lr", rate.clone()) * factor)
        else:
            group["lr"] = group.setdefault("initial_lr", rate) * factor


def torch_scheduler(
    factory: Callable[[Optimizer], LRScheduler],
    unit: Literal["updates", "epochs"] = "updates",
    *,
    optimizer_idx: int = 0,
) -> HookSet:
    """Step one of PyTorch's learning-rate schedulers once for each finished update, or epoch.

    The scheduler is made when the run begins, and is the hook set's state. Two of them in a run, for two optimizers,
    need two names: `named("second", torch_scheduler(...))`.

    Args:
        factory: Makes the scheduler of the optimizer, such as `lambda optimizer: OneCycleLR(optimizer, 0.1, 1_000)`.
        unit: When it steps: `"updates"`, after each optimizer step that was made, or `"epochs"`, at each epoch's end.
        optimizer_idx: Position of its optimizer among those of the run, from 0.

    Raises:
        HookDefinitionError: if the factory is no function, or `unit` is neither of the two.
        RunDefinitionError: when the run begins, if the factory makes no scheduler or one that steps on a metric, or
            there is no such optimizer.

    Example:
        >>> torch_scheduler(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 10), unit="epochs")
        HookSet('torch_scheduler': on_epoch_end)
    """
    if not callable(factory):
        raise HookDefinitionError(
            f"torch_scheduler takes a function that makes the scheduler, got {factory!r}; write "
            "torch_scheduler(lambda optimizer: StepLR(optimizer, 10))."
        )
    if unit not in ("updates", "epochs"):
        raise HookDefinitionError(f"A scheduler steps in 'updates' or 'epochs', got unit={unit!r}.")

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
        return stateful("torch_scheduler", init, writes=_WRITES, on_epoch_end=on_epoch_end)
    return stateful("torch_scheduler", init, writes=_WRITES, on_after_optimizer_step=on_after_optimizer_step)


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
