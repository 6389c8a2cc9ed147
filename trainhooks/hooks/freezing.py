"""A hook that keeps some parameters as they are."""

from collections.abc import Generator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import final

from attrs import frozen
from torch import nn

from trainhooks.core import HookSet, OptimizerStepped, TrainBegin, factory, named_parameters, says_itself, stateful
from trainhooks.errors import RunDefinitionError

from .arguments import check_count, check_words
from .turns import finishes_update

_NAMES_SHOWN = 10


@final
@frozen(kw_only=True)
class Frozen:
    """What `freeze` remembers."""

    names: tuple[str, ...] = ()
    """Names of the parameters that it keeps frozen."""


@factory
def freeze(*patterns: str, until: int | None = None) -> HookSet:
    """Keep the parameters whose names match as they are, until a count of updates or the run's end.

    Their `requires_grad` is False from before `on_train_begin`, so they get no gradient, no weight decay and no step.
    When the run is over, however it ends, they are as trainable as before; a parameter that was frozen already stays
    so. Buffers are left alone: a batch norm in train mode goes on measuring, and one that was put in eval mode before
    `train` does not. The optimizer must have been given the
    parameters if they are to be trained later. Where two of these sets match one parameter, the first to let go
    decides. Every rank calls it; `ddp()` waits for the gradients of parameters that could be trained when the run
    began, so write `ddp(find_unused_parameters=True)` with it.

    Args:
        *patterns: Shell patterns, such as `"encoder.*"`, for the names in `model.named_parameters()` as they are
            without `torch.compile`; `*` matches dots too, and case counts.
        until: The update after this many finished ones is the first that changes them, 1 or more; None for the whole
            run.

    Raises:
        HookDefinitionError: if there is no pattern, or an argument is none of these.
        RunDefinitionError: when the run begins, if a pattern matches no parameter.

    Source: Howard and Ruder, "Universal language model fine-tuning for text classification", 2018.

    Example:
        >>> freeze("encoder.*", until=1_000)
        freeze('encoder.*', until=1000)
    """
    check_words("freeze", "patterns of parameter names", patterns)
    if until is not None:
        check_count("freeze", "until", until, 1)

    def init(begin: TrainBegin) -> Frozen:
        return Frozen(names=_trainable(begin.run.model, patterns))

    @contextmanager
    def around_train(ctx: TrainBegin, frozen_now: Frozen) -> Generator[None]:
        _switch(ctx.run.model, frozen_now.names, trainable=False)
        try:
            yield
        finally:
            _switch(ctx.run.model, frozen_now.names, trainable=True)

    def on_after_optimizer_step(ctx: OptimizerStepped, frozen_now: Frozen) -> tuple[Frozen, None]:
        if until is None or ctx.at.updates < until or not frozen_now.names or not finishes_update(ctx):
            return frozen_now, None
        _switch(ctx.run.model, frozen_now.names, trainable=True)
        return Frozen(), None

    writes = frozenset({"requires_grad"})
    freezing: HookSet = stateful(
        "freeze", init, writes=writes, collective=True, around_train=around_train,
        on_after_optimizer_step=None if until is None else on_after_optimizer_step,
    )  # fmt: skip
    return says_itself(freezing, "write freeze(..., until=n), for as long as the first n updates.")


def _trainable(model: nn.Module, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The names that match and that can be trained now."""
    parameters = dict(named_parameters(model))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            names = list(parameters)
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            shown = ", ".join(names[:_NAMES_SHOWN]) + more
            raise RunDefinitionError(f"freeze({pattern!r}) matches no parameter of the model; its names: {shown}.")
    return tuple(
        name
        for name, one in parameters.items()
        if one.requires_grad and any(fnmatchcase(name, pattern) for pattern in patterns)
    )


def _switch(model: nn.Module, names: tuple[str, ...], *, trainable: bool) -> None:
    for name, parameter in named_parameters(model):
        if name in names:
            parameter.requires_grad_(trainable)
