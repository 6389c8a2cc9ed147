"""Hooks that average a model's weights over its updates, and look at the average in evaluations."""

import warnings
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, TypeAlias, cast, final

import torch
from attrs import evolve, field, frozen
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_avg_fn, get_swa_multi_avg_fn

from trainhooks.core import (
    Completed,
    EvaluationBegin,
    HookSet,
    OptimizerStepped,
    Stopped,
    Swapped,
    TrainEnd,
    factory,
    name_of,
    named_buffers,
    named_parameters,
    stateful,
)
from trainhooks.errors import HookDefinitionError

from .arguments import check_choice, check_count, check_fraction, check_names
from .shards import own_part
from .turns import finishes_update

_WRITES = frozenset({"parameters", "buffers"})
_AVERAGES = frozenset({"on_after_optimizer_step"})
UNMADE = (UninitializedParameter, UninitializedBuffer)
"""The classes of what a lazy module has not made yet."""
_Step: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor], int], None]
"""Moves averages towards values, given how many values are in them already."""
Buffers: TypeAlias = Literal["copy", "average"]
"""What becomes of a model's buffers in an average of its weights."""


@final
@frozen(kw_only=True, eq=False)
class Average:
    """An average of a model's weights; what `ema` and `swa` keep."""

    parameters: Mapping[str, Tensor] = field(factory=dict[str, Tensor])
    """The averages by the parameters' names, on the parameters' devices; empty before the first update."""
    buffers: Mapping[str, Tensor] = field(factory=dict[str, Tensor])
    """The buffers by their names: as they were when the average was last updated, or averaged."""
    count: int = 0
    """Updates that are in the average."""
    late: Mapping[str, int] = field(factory=dict[str, int])
    """By the names of tensors that the model did not have from the start: updates that were in the average before."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers together, as a model holds them."""
        return {**self.parameters, **self.buffers}


@factory
def ema(
    decay: float | Callable[[int], float],
    *,
    every: int = 1,
    start: int = 0,
    buffers: Buffers = "copy",
    evaluations: Collection[str] | None = None,
    apply_at_end: bool = False,
) -> HookSet:
    """Average the weights over the updates, older ones fading out, and evaluate the average.

    After its first update the average is the weights; after each later one it is `decay` times itself plus `1 - decay`
    times the weights. An update that was skipped changes nothing. In evaluations the model holds the average, once
    there is one, and has its own weights back afterwards, bit for bit, also on exceptions; the best checkpoint by a
    value of such an evaluation gives the average. The average of a parameter that is added, or gets another shape,
    begins at the next update; a buffer of another shape than in the average stays as the model has it. The average
    takes the memory of the model once, and an evaluation once more; of a sharded model each rank averages its part.
    Every rank calls it.

    Args:
        decay: Share of the average that is kept at each update of it, from 0 to below 1; 0.999 looks back over some
            1,000. Or a function that gives it, from 0 to 1, for the update count, which is 1 after the run's first.
        every: The average is updated at every so many updates of the model, 1 or more.
        start: The first update whose weights are in the average, counted from 1, and every so many from there on; 0 for
            the first that is a multiple of `every`.
        buffers: `"copy"` takes over buffers, such as running statistics, as they are at each update of the average;
            `"average"` averages those of floating point as parameters are, and copies the others.
        evaluations: Names of the evaluations that see the average; None for all.
        apply_at_end: Whether a run that is completed or stopped leaves the average, if there is one, in the model. A
            run that failed or was interrupted is left as it is. No other set of the run can leave weights of its own.

    Raises:
        HookDefinitionError: if an argument is none of these; in the run, if the function gives none.
        MissingValueError: when the run starts, if it has no evaluation of a name in `evaluations`.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; torch's `AveragedModel`
    with `get_ema_multi_avg_fn(decay)`.

    Example:
        >>> ema(0.999)
        ema(decay=0.999)
    """
    check_count("ema", "start", start, 0)
    return _averaging("ema", _fading(decay), start, every, buffers, evaluations, apply_at_end=apply_at_end)


@factory
def swa(
    *,
    start: int,
    every: int = 1,
    buffers: Buffers = "copy",
    evaluations: Collection[str] | None = None,
    apply_at_end: bool = False,
) -> HookSet:
    """Average the weights after some of the updates, all with equal weight, and evaluate the average.

    An update that was skipped changes nothing. Buffers that are copied are those of the last update in the average, so
    the running statistics of batch norm are not those of the average: `torch.optim.swa_utils.update_bn` measures them
    anew. What evaluations see, and what becomes of a model whose parameters change, is as with `ema`. The average takes
    the memory of the model once, and an evaluation once more; of a sharded model each rank averages its part. Every
    rank calls it.

    Args:
        start: The first update whose weights are in the average, counted from 1.
        every: From there on every so many updates, 1 or more; the paper's choice is those of an epoch.
        buffers: See `ema`.
        evaluations: See `ema`.
        apply_at_end: See `ema`.

    Raises:
        HookDefinitionError: if an argument is none of these.
        MissingValueError: when the run starts, if it has no evaluation of a name in `evaluations`.

    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018; torch's
    `AveragedModel`.

    Example:
        >>> swa(start=10_000, every=500)
        swa(start=10000, every=500)
    """
    check_count("swa", "start", start, 1)
    return _averaging("swa", lambda updates: _equally, start, every, buffers, evaluations, apply_at_end=apply_at_end)


def _fading(decay: float | Callable[[int], float]) -> Callable[[int], _Step]:
    """Averaging by a decay that is fixed, or depends on the update count."""
    if not callable(decay):
        check_fraction("ema", "decay", decay)
        fixed = cast("_Step", get_ema_multi_avg_fn(decay))
        return lambda updates: fixed

    def step_at(updates: int) -> _Step:
        share: object = decay(updates)
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0.0 <= share <= 1.0:
            raise HookDefinitionError(
                f"The decay of ema is a number from 0 to 1, but {name_of(decay)} gave {share!r} for update {updates}."
            )
        return cast("_Step", get_ema_multi_avg_fn(share))

    return step_at


def _averaging(
    name: str,
    step_at: Callable[[int], _Step],
    start: int,
    every: int,
    buffers: Buffers,
    evaluations: Collection[str] | None,
    *,
    apply_at_end: bool,
) -> HookSet:
    check_count(name, "every", every, 1)
    check_choice(name, "buffers", buffers, ("copy", "average"))
    seen_in = None if evaluations is None else check_names(name, "evaluations", evaluations)

    def on_after_optimizer_step(ctx: OptimizerStepped, average: Average) -> tuple[Average, None]:
        updates = ctx.at.updates
        if finishes_update(ctx) and updates >= start and (updates - start) % every == 0:
            average = _updated(average, ctx.run.model, step_at(updates), averages_buffers=buffers == "average")
        return average, None

    def around_evaluation(ctx: EvaluationBegin, average: Average) -> AbstractContextManager[Swapped]:
        return _holding(ctx.run.model, average.weights if seen_in is None or ctx.name in seen_in else {})

    def on_train_end(ctx: TrainEnd, average: Average) -> tuple[Average, None]:
        if average.count and isinstance(ctx.end, Completed | Stopped):
            _apply(name, ctx.run.model, average)
        return average, None

    reads = frozenset(f"{one}/loss" for one in seen_in or ())  # so that a name which no evaluation has is refused
    if not apply_at_end:
        return stateful(
            name, Average, reads=reads, writes=_WRITES, collective=True, governs=_AVERAGES,
            on_after_optimizer_step=on_after_optimizer_step, around_evaluation=around_evaluation,
        )  # fmt: skip
    return stateful(
        name, Average, reads=reads, writes=_WRITES | {"final"}, collective=True, governs=_AVERAGES,
        on_after_optimizer_step=on_after_optimizer_step, around_evaluation=around_evaluation,
        on_train_end=on_train_end,
    )  # fmt: skip


def _updated(average: Average, model: nn.Module, step: _Step, *, averages_buffers: bool) -> Average:
    """The average with the model's weights in it; its tensors change in place, except for those that are new."""
    parameters = _made(named_parameters(model))
    buffers = _made(named_buffers(model))
    average = _fitted(average, parameters, buffers)
    moving = [(name, kept, parameters[name]) for name, kept in average.parameters.items()]
    for name, kept in average.buffers.items():
        if averages_buffers and (kept.is_floating_point() or kept.is_complex()):
            moving.append((name, kept, buffers[name]))
        else:
            kept.copy_(buffers[name])
    for some, values, count in _groups(moving, average):
        step(some, values, count)
    return evolve(average, count=average.count + 1)


def _made(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors by name, detached; without those that a lazy module has not made yet."""
    return {name: one.detach() for name, one in named if not isinstance(one, UNMADE)}


def _fitted(average: Average, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Average:
    """The average with the names and forms that the model has now; what is new in it begins as the model has it."""
    if _is_of(average.parameters, parameters) and _is_of(average.buffers, buffers):
        return average
    kept = average.weights
    stays = {name for name, one in (*parameters.items(), *buffers.items()) if fits(one, kept.get(name))}

    def begun(live: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: kept[name].to(one.device, one.dtype) if name in stays else _copy(one) for name, one in live.items()
        }

    late = {name: average.late.get(name, 0) if name in stays else average.count for name in (*parameters, *buffers)}
    return evolve(
        average, parameters=begun(parameters), buffers=begun(buffers),
        late={name: count for name, count in late.items() if count},
    )  # fmt: skip


def _is_of(kept: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> bool:
    """Whether these are averages of tensors with these names and forms."""
    return kept.keys() == live.keys() and all(
        one.shape == (other := live[name]).shape and one.dtype == other.dtype and one.device == other.device
        for name, one in kept.items()
    )


def _groups(
    moving: Iterable[tuple[str, Tensor, Tensor]], average: Average
) -> Iterator[tuple[list[Tensor], list[Tensor], int]]:
    """This rank's parts of averages and live values in lists of one device, type and count, for torch.

    What begins with this update is left out: it is the live value already.
    """
    groups: dict[tuple[torch.device, torch.dtype, int], tuple[list[Tensor], list[Tensor]]] = {}
    for name, kept, value in moving:
        count = average.count - average.late.get(name, 0)
        if count:
            some, values = groups.setdefault((kept.device, kept.dtype, count), ([], []))
            some.append(own_part(kept))
            values.append(own_part(value))
    return ((some, values, count) for (_, _, count), (some, values) in groups.items())


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
def _holding(model: nn.Module, weights: Mapping[str, Tensor]) -> Generator[Swapped]:
    """Let the model hold these weights where they fit; its own come back on leaving, also on exceptions."""
    parameters = {name: one for name, one in named_parameters(model) if fits(one, weights.get(name))}
    live = {**parameters, **{name: one for name, one in named_buffers(model) if fits(one, weights.get(name))}}
    own = {name: _copy(one) for name, one in live.items()}
    try:
        _copy_into(live, weights)
        yield Swapped({name: weights[name] for name in live})
    finally:
        _copy_into(parameters, own)  # the parameters as they were: a sharded model that failed may hold whole ones
        # Buffers by name: an evaluation may have replaced them. One of another shape, such as a cache that grew, stays.
        _copy_into({name: one for name, one in named_buffers(model) if fits(one, own.get(name))}, own)


def _apply(name: str, model: nn.Module, average: Average) -> None:
    """Leave an average in the model, where it fits."""
    weights, tensors = average.weights, {**dict(named_parameters(model)), **dict(named_buffers(model))}
    fitting = {name: one for name, one in tensors.items() if fits(one, weights.get(name))}
    _copy_into(fitting, weights)
    of_interest = tensors.keys() & model.state_dict().keys() | average.parameters.keys()
    warn_of_the_rest(f"The average of {name!r} was put into the model", of_interest - fitting.keys())


def fits(tensor: Tensor, value: Tensor | None) -> bool:
    """Whether there is a value, and it has the tensor's shape."""
    return value is not None and value.shape == tensor.shape


def warn_of_the_rest(done: str, names: Collection[str]) -> None:
    """Say what could not be put into a model, because a name is on one side only or has another shape there."""
    if names:
        warnings.warn(
            f"{done}, but the model has changed its form since: {', '.join(map(repr, sorted(names)))} did not fit by "
            "name and shape, and the model keeps what it has there.",
            RuntimeWarning,
            stacklevel=2,
        )


def _copy_into(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy this rank's part of each value into the tensor of its name."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            own_part(tensor).copy_(own_part(values[name]))


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()
