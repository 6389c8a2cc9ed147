"""A hook that asks for checkpoints, and says which are kept."""

from typing import Literal, cast, final

from attrs import evolve, frozen

from trainhooks.core import (
    EpochEnd,
    EvaluationEnd,
    HookSet,
    Horizon,
    Keep,
    OptimizerStepped,
    Save,
    TrainBegin,
    Trigger,
    alternatives,
    every,
    factory,
    joined,
    stateful,
)
from trainhooks.core import (
    when as only_when,
)
from trainhooks.errors import HookDefinitionError

from .arguments import check_choice, check_count, check_monitor
from .stopping import Mode, is_better, new_value

_UNKNOWN: Horizon = {"updates": None, "batches": None, "epochs": None}


@final
@frozen(kw_only=True)
class BestSoFar:
    """What `checkpoint` remembers of the value by which it keeps the best."""

    value: float | None = None
    """The best value so far; None before the first, and while all were NaN."""
    judged: int = 0
    """How often the value had been recorded when it was last judged."""
    further: tuple[float, ...] = ()
    """The next best values, the better first, as far as their checkpoints are kept too."""


@factory
def checkpoint(
    *,
    when: Trigger | None = every(1, "epochs"),
    keep_last: int | None = 2,
    keep_best: tuple[str, Mode] | tuple[str, Mode, int] | None = None,
    keep_every: int | None = None,
    background: bool = True,
    on_failure: Literal["raise", "warn"] = "raise",
    tag: str = "",
) -> HookSet:
    """Save the whole state of the run at some of its updates, and keep some of these checkpoints.

    A checkpoint holds everything that the run needs to go on as if nothing had happened: `train(resume=...)`. It is
    whole or not there, whenever the process dies. It needs `train(experiment=...)`, which says where. A run that is
    stopped or interrupted is saved once more at its end. One that no set of the run wants kept is deleted, after the
    newer one is durable; the newest always stays.

    Args:
        when: At which boundaries, in any unit; the point 0 of `at_points` is before the first update. None for those
            alone at which `keep_best` improves.
        keep_last: How many of the newest are kept; None for all. With data that can go on between epochs alone, the
            newest made there stays, too.
        keep_best: A value and whether `"min"` or `"max"` is better: the best checkpoint by it is kept, and one is made
            whenever it improves, strictly. With a count, such as `("val/loss", "min", 3)`, so many of the best are
            kept, and one is made whenever a value is among these. Each is judged by the value of its own update; NaN
            is never best.
        keep_every: Those whose update count is a multiple of this are kept, too; None for none.
        background: Whether training goes on while a thread writes; the loop waits for one copy of the state.
        on_failure: What becomes of the run when one cannot be written: `"raise"` at the next boundary, or `"warn"`. A
            run whose last checkpoint could not be written is never completed.
        tag: A word that they carry; `load_weights` and `trainhooks runs` show it.

    Raises:
        HookDefinitionError: if an argument is none of these.
        NoExperimentError: when the run starts, if it has no experiment.

    Example:
        >>> checkpoint(when=every(500, "updates"), keep_last=3, keep_best=("val/acc", "max"))
        checkpoint(when=every(500, 'updates'), keep_last=3, keep_best=('val/acc', 'max'))
    """
    _check(when, keep_last, keep_best, keep_every, on_failure)
    save = Save(tag)
    monitor = None if keep_best is None else keep_best[:2]
    count = keep_best[2] if keep_best is not None and len(keep_best) == 3 else 1
    sets = [] if monitor is None else [_saving_the_best(*monitor, count, save)]
    for part in () if when is None else alternatives(when):
        if not part.rule.never(_UNKNOWN):
            sets += only_when(part, _asking(part, save))
    if when is not None and when.rule.at_begin:
        sets.append(_saving_at_begin(save))
    every_one = 1 if keep_last is None else keep_every
    keep = Keep(
        last=keep_last, best=monitor, best_count=count, every=every_one, background=background, when=when,
        on_failure=on_failure,
    )  # fmt: skip
    return joined(*sets, keeps=keep)


def _asking(trigger: Trigger, save: Save) -> HookSet:
    """A set that asks on the event that ends the intervals in which the trigger's unit advances."""
    if "epochs" in trigger.rule.points:

        def on_epoch_end(ctx: EpochEnd) -> Save:
            return save

        return HookSet(name="checkpoint", on_epoch_end=on_epoch_end)

    def on_after_optimizer_step(ctx: OptimizerStepped) -> Save | None:
        return save if ctx.at.updates > ctx.since.updates else None  # else the update was skipped, and is still to come

    return HookSet(name="checkpoint", on_after_optimizer_step=on_after_optimizer_step)


def _saving_at_begin(save: Save) -> HookSet:
    """A set that asks before the first update of the run's life."""

    def on_train_begin(ctx: TrainBegin) -> Save | None:
        return None if ctx.resumed else save

    return HookSet(name="checkpoint", on_train_begin=on_train_begin)


def _saving_the_best(monitor: str, mode: Mode, count: int, save: Save) -> HookSet:
    """A set that asks whenever a value is among the best so far."""

    def judge(ctx: EpochEnd | EvaluationEnd, best: BestSoFar) -> tuple[BestSoFar, Save | None]:
        value, judged = new_value(ctx, monitor, best.judged)
        kept = [] if best.value is None else [best.value, *best.further]
        if value is None or not is_better(value, kept[-1] if len(kept) == count else None, mode):
            return evolve(best, judged=judged), None
        first, *further = sorted((*kept, value), reverse=mode == "max")[:count]
        return BestSoFar(value=first, judged=judged, further=tuple(further)), save

    reads = frozenset({monitor})
    return stateful("checkpoint", BestSoFar, reads=reads, on_evaluation_end=judge, on_epoch_end=judge)


def _check(when: object, keep_last: object, keep_best: object, keep_every: object, on_failure: object) -> None:
    if not isinstance(when, Trigger | None):
        raise HookDefinitionError(f"checkpoint takes when as a trigger, such as every(1, 'epochs'), got {when!r}.")
    if keep_last is not None:
        check_count("checkpoint", "keep_last", keep_last, 0)
    if keep_every is not None:
        check_count("checkpoint", "keep_every", keep_every, 1)
    if keep_best is not None:
        given = cast("tuple[object, ...]", keep_best)
        if not isinstance(keep_best, tuple) or len(given) not in (2, 3):
            raise HookDefinitionError(
                "checkpoint takes keep_best as a value and a direction, such as ('val/acc', 'max'), and perhaps a "
                f"count, got {keep_best!r}."
            )
        check_monitor("checkpoint", *given[:2])
        check_count("checkpoint", "the count in keep_best", (*given, 1)[2], 1)
    elif when is None:
        raise HookDefinitionError("checkpoint(when=None) would never save; give when=, keep_best=, or both.")
    check_choice("checkpoint", "on_failure", on_failure, ("raise", "warn"))
