"""Hooks that average a model's weights over its updates, and look at the average in evaluations."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias, cast, final

import torch
from attrs import evolve, field, frozen
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_avg_fn, get_swa_multi_avg_fn

from trainhooks.core import (
    Completed,
    EvaluationBegin,
    HookSet,
    OptimizerStepped,
    Stopped,
    TrainEnd,
    stateful,
)

from .arguments import check_count, check_fraction
from .shards import own_part
from .turns import finishes_update

_WRITES = frozenset({"parameters", "buffers"})
_Step: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor], int], None]
"""Moves averages towards values, given how many values are in them already."""


@final
@frozen(kw_only=True, eq=False)
class Average:
    """An average of a model's weights; what `ema` and `swa` keep."""

    parameters: Mapping[str, Tensor] = field(factory=dict[str, Tensor])
    """The averages by the parameters' names, on the parameters' devices; empty before the first update."""
    buffers: Mapping[str, Tensor] = field(factory=dict[str, Tensor])
    """The buffers by their names as they were when the average was last updated, not averaged."""
    count: int = 0
    """Updates that are in the average."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers together, as a model holds them."""
        return {**self.parameters, **self.buffers}


def ema(decay: float, *, apply_at_end: bool = False) -> HookSet:
    """Average the weights over the updates, older ones fading out, and evaluate the average.

    After the first update the average is the weights; after each later one it is `decay` times itself plus `1 - decay`
    times the weights. An update that was skipped changes nothing. Buffers, such as running statistics, are copied. In
    evaluations the model holds the average, once there is one, and has its own weights back afterwards, bit for bit,
    also on exceptions. The average takes the memory of the model once, and an evaluation once more; of a sharded model
    each rank averages its part. Every rank calls it.

    Args:
        decay: Share of the average that is kept at each update, from 0 to below 1; 0.999 looks back over some 1,000.
        apply_at_end: Whether a run that is completed or stopped leaves the average in the model. A run that failed or
            was interrupted is left as it is.

    Raises:
        HookDefinitionError: if `decay` is none of these.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; torch's `AveragedModel`
    with `get_ema_multi_avg_fn(decay)`.

    Example:
        >>> ema(0.999)
        HookSet('ema': on_after_optimizer_step, around_evaluation)
    """
    check_fraction("ema", "decay", decay)
    return _averaging("ema", cast("_Step", get_ema_multi_avg_fn(decay)), lambda updates: True, apply_at_end)


def swa(*, start: int, every: int = 1, apply_at_end: bool = False) -> HookSet:
    """Average the weights after some of the updates, all with equal weight, and evaluate the average.

    An update that was skipped changes nothing. Buffers are copied, so the running statistics of batch norm are those of
    the weights of the last update in the average: `torch.optim.swa_utils.update_bn` measures them anew. In evaluations
    the model holds the average, once there is one, and has its own weights back afterwards, bit for bit, also on
    exceptions. The average takes the memory of the model once, and an evaluation once more; of a sharded model each
    rank averages its part. Every rank calls it.

    Args:
        start: The first update whose weights are in the average, counted from 1.
        every: From there on every so many updates, 1 or more; the paper's choice is those of an epoch.
        apply_at_end: Whether a run that is completed or stopped leaves the average, if there is one, in the model. A
            run that failed or was interrupted is left as it is.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018; torch's
    `AveragedModel`.

    Example:
        >>> swa(start=10_000, every=500)
        HookSet('swa': on_after_optimizer_step, around_evaluation)
    """
    check_count("swa", "start", start, 1)
    check_count("swa", "every", every, 1)

    def wants(updates: int) -> bool:
        return updates >= start and (updates - start) % every == 0

    return _averaging("swa", _equally, wants, apply_at_end)


def _averaging(name: str, step: _Step, wants: Callable[[int], bool], apply_at_end: bool) -> HookSet:
    def on_after_optimizer_step(ctx: OptimizerStepped, average: Average) -> tuple[Average, None]:
        if finishes_update(ctx) and wants(ctx.at.updates):
            average = _updated(average, ctx.run.model, step)
        return average, None

    def around_evaluation(ctx: EvaluationBegin, average: Average) -> AbstractContextManager[None]:
        return _holding(ctx.run.model, average.weights)

    def on_train_end(ctx: TrainEnd, average: Average) -> tuple[Average, None]:
        if isinstance(ctx.end, Completed | Stopped):
            _put(ctx.run.model, average.weights)
        return average, None

    if not apply_at_end:
        return stateful(
            name, Average, writes=_WRITES, collective=True, on_after_optimizer_step=on_after_optimizer_step,
            around_evaluation=around_evaluation,
        )  # fmt: skip
    return stateful(
        name, Average, writes=_WRITES, collective=True, on_after_optimizer_step=on_after_optimizer_step,
        around_evaluation=around_evaluation, on_train_end=on_train_end,
    )  # fmt: skip


def _updated(average: Average, model: nn.Module, step: _Step) -> Average:
    """The average with the model's weights in it; changes its tensors in place, except for the first weights."""
    parameters = {name: one.detach() for name, one in model.named_parameters()}
    buffers = dict(model.named_buffers())
    if average.count == 0:
        return Average(parameters=_copies(parameters), buffers=_copies(buffers), count=1)
    for kept, values in _alike(average.parameters, parameters):
        step(kept, values, average.count)
    for name, kept_buffer in average.buffers.items():
        kept_buffer.copy_(buffers[name])
    return evolve(average, count=average.count + 1)


def _alike(averages: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> Iterable[tuple[list[Tensor], list[Tensor]]]:
    """This rank's parts of averages and live values, in lists of one device and type each, for torch."""
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for name, average in averages.items():
        kept, values = groups.setdefault((average.device, average.dtype), ([], []))
        kept.append(own_part(average))
        values.append(own_part(live[name]))
    return groups.values()


def _equally(kept: Sequence[Tensor], values: Sequence[Tensor], count: int) -> None:
    """Move averages of `count` values towards one more, by the function that `AveragedModel` takes on this device."""
    if not kept[0].is_cpu:
        cast("_Step", get_swa_multi_avg_fn())(kept, values, count)
        return
    mean = cast("Callable[[Tensor, Tensor, int], Tensor]", get_swa_avg_fn())
    with torch.no_grad():
        for average, value in zip(kept, values, strict=True):
            average.copy_(mean(average, value, count))


@contextmanager
def _holding(model: nn.Module, weights: Mapping[str, Tensor]) -> Generator[None]:
    """Let the model hold these weights; its own come back on leaving, also on exceptions."""
    live = {name: one for name, one in model.named_parameters() if name in weights}
    parameters = _copies(live)
    buffers = _copies({name: one for name, one in model.named_buffers() if name in weights})
    try:
        _put(model, weights)
        yield
    finally:
        _copy_into(live, parameters)  # the parameters as they were: a sharded model that failed may hold whole ones
        _copy_into(dict(model.named_buffers()), buffers)  # buffers by name: an evaluation may have replaced them


def _put(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the model, in place."""
    _copy_into(dict(_weights(model)), weights)


def _copy_into(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy this rank's part of each value into the tensor of its name."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in values:
                own_part(tensor).copy_(own_part(values[name]))


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
