"""Hooks that end a run that has broken, or that has taken too long."""

import time
import warnings
from collections.abc import Callable
from typing import final

import torch
from attrs import evolve, frozen
from torch import Tensor

from trainhooks.core import (
    BatchEnd,
    BatchPrediction,
    EpochEnd,
    EvaluationBegin,
    EvaluationEnd,
    HookSet,
    Stop,
    TrainBegin,
    stateful,
)
from trainhooks.errors import HookDefinitionError

from .arguments import check_count, check_function, check_number

_NEVER = torch.iinfo(torch.int64).max


@final
@frozen(kw_only=True)
class Nonfinite:
    """What `stop_on_nonfinite` remembers."""

    first: Tensor | None = None
    """The first update with a loss that was not finite, 0-d int64 on the loss's device; the greatest int64 for none."""


def stop_on_nonfinite(*, lag: int = 50) -> HookSet:
    """Stop when a loss is NaN or infinite, and name the update at which it first was.

    Each batch's losses are looked at on their device. The result is read from there once every `lag` full windows of
    batches, at the end of each epoch, and at the last of `max_updates`, never in between: waiting for the device in
    every step would slow the run down. So the run goes on for at most `lag` updates after the one that is named. What
    was recorded stays as it was. A batch of weight 0 has no items, and its loss counts for nothing; with several
    objectives that is known of the last one's loss alone.

    Args:
        lag: Updates from one read to the next, 1 or more.

    Raises:
        HookDefinitionError: if `lag` is no such number.

    Example:
        >>> stop_on_nonfinite()
        HookSet('stop_on_nonfinite': on_batch_end, on_epoch_end)
    """
    check_count("stop_on_nonfinite", "lag", lag, 1)

    def on_batch_end(ctx: BatchEnd, state: Nonfinite) -> tuple[Nonfinite, Stop | None]:
        first = torch.where(_finite(ctx), _NEVER, ctx.at.updates + (not ctx.updated))
        state = Nonfinite(first=first if state.first is None else torch.minimum(state.first, first))
        due = ctx.at.batches % (lag * ctx.run.accumulate) == 0
        ends = ctx.updated and ctx.at.updates == ctx.run.max_updates
        return state, _verdict(state) if due or ends else None

    def on_epoch_end(ctx: EpochEnd, state: Nonfinite) -> tuple[Nonfinite, Stop | None]:
        return state, _verdict(state)

    return stateful("stop_on_nonfinite", Nonfinite, on_batch_end=on_batch_end, on_epoch_end=on_epoch_end)


def _finite(ctx: BatchEnd) -> Tensor:
    """Whether every loss of a batch is finite; 0-d, on the device."""
    finite = torch.isfinite(ctx.loss)
    if isinstance(ctx.weight, Tensor):
        finite = finite | (ctx.weight <= 0)
    elif ctx.weight == 0:
        finite = torch.ones_like(finite)
    for loss in list(ctx.losses.values())[:-1]:
        finite = finite & torch.isfinite(loss)
    return finite


def _verdict(state: Nonfinite) -> Stop | None:
    """Reads the device."""
    update = _NEVER if state.first is None else int(state.first)
    return None if update == _NEVER else Stop(f"the loss was not finite at update {update}")


@final
@frozen(kw_only=True)
class Began:
    """What `time_limit` remembers."""

    at: float = 0.0
    """The clock when this process began to train, in seconds."""


def time_limit(seconds: float, *, clock: Callable[[], float] = time.monotonic) -> HookSet:
    """Stop at the first batch's end at which so many seconds have passed since this process began to train.

    Evaluations count, the time before `on_train_begin` does not. A run that is resumed has the whole time again.

    Args:
        seconds: Seconds, a finite number from 0 on.
        clock: Seconds since some fixed moment.

    Raises:
        HookDefinitionError: if `seconds` is no such number.

    Example:
        >>> time_limit(8 * 3600)
        HookSet('time_limit': on_train_begin, on_batch_end)
    """
    check_number("time_limit", "seconds", seconds)

    def on_train_begin(ctx: TrainBegin, began: Began) -> tuple[Began, None]:
        return Began(at=clock()), None

    def on_batch_end(ctx: BatchEnd, began: Began) -> tuple[Began, Stop | None]:
        passed = clock() - began.at
        if passed < seconds:
            return began, None
        return began, Stop(f"{passed:.1f} s have passed, and the limit is {seconds:g} s")

    return stateful("time_limit", Began, on_train_begin=on_train_begin, on_batch_end=on_batch_end)


@final
@frozen(kw_only=True)
class Alike:
    """What `stop_on_constant_predictions` remembers of the evaluation at hand."""

    first: Tensor | None = None
    """The first item's prediction, on its device."""
    same: Tensor | None = None
    """Whether every prediction so far was the same, 0-d, on the device."""
    items: int = 0
    """Predictions so far."""


def stop_on_constant_predictions(
    evaluation: str,
    *,
    value: float | None = None,
    prediction_of: Callable[[object], object] = lambda output: output,
    only_warn: bool = False,
) -> HookSet:
    """Stop when a model predicts the same for every item of an evaluation.

    Predictions are compared on their device; one value is read from there at the end of the evaluation. An evaluation
    of fewer than two items says nothing, and NaN equals nothing.

    Args:
        evaluation: The evaluation's name, such as `"val"`.
        value: What every element of every prediction must equal; None for whatever the first item's prediction is.
        prediction_of: Makes a tensor of predictions, items first, from the step's output, such as
            `lambda logits: logits.argmax(-1)` for the class rather than its score.
        only_warn: Whether to warn of it, at each such evaluation, and go on.

    Raises:
        HookDefinitionError: if an argument is none of these; in the run, if the predictions are no tensor.

    Example:
        >>> stop_on_constant_predictions("val", prediction_of=lambda logits: logits.argmax(-1))
        HookSet('stop_on_constant_predictions': on_evaluation_begin, on_after_batch_prediction, on_evaluation_end)
    """
    _check_constant(evaluation, value)
    instead = "prediction_of=lambda output: ..."
    check_function("stop_on_constant_predictions", "prediction_of", prediction_of, instead)

    def on_evaluation_begin(ctx: EvaluationBegin, alike: Alike) -> tuple[Alike, None]:
        return (Alike() if ctx.name == evaluation else alike), None

    def on_after_batch_prediction(ctx: BatchPrediction, alike: Alike) -> tuple[Alike, None]:
        if ctx.name != evaluation:
            return alike, None
        return _compared(alike, _tensor(prediction_of(ctx.y_pred)), value), None

    def on_evaluation_end(ctx: EvaluationEnd, alike: Alike) -> tuple[Alike, Stop | None]:
        if ctx.name != evaluation or alike.items < 2 or not bool(alike.same):
            return alike, None
        found = "are the same" if value is None else f"equal {value:g}"
        reason = f"all {alike.items} predictions of {evaluation!r} {found}"
        if not only_warn:
            return alike, Stop(reason)
        warnings.warn(f"At update {ctx.at.updates}, {reason}.", RuntimeWarning, stacklevel=2)
        return alike, None

    return stateful(
        "stop_on_constant_predictions", Alike, reads=frozenset({f"{evaluation}/loss"}),
        on_evaluation_begin=on_evaluation_begin, on_after_batch_prediction=on_after_batch_prediction,
        on_evaluation_end=on_evaluation_end,
    )  # fmt: skip


def _compared(alike: Alike, predictions: Tensor, value: float | None) -> Alike:
    """Take in a batch of predictions."""
    if not len(predictions):
        return alike
    first = predictions[0].clone() if alike.first is None else alike.first
    if value is None and predictions.shape[1:] != first.shape:
        same = torch.zeros((), dtype=torch.bool, device=predictions.device)
    else:
        same = (predictions == (first if value is None else value)).all()
    same = same if alike.same is None else alike.same & same
    return evolve(alike, first=first, same=same, items=alike.items + len(predictions))


def _tensor(predictions: object) -> Tensor:
    if isinstance(predictions, Tensor) and predictions.dim() > 0:
        return predictions.detach()
    raise HookDefinitionError(
        "stop_on_constant_predictions compares tensors of predictions, items first, and got "
        f"{predictions!r}; give prediction_of=lambda output: ... that makes one."
    )


def _check_constant(evaluation: object, value: object) -> None:
    if not isinstance(evaluation, str) or not evaluation:
        raise HookDefinitionError(
            f"stop_on_constant_predictions takes an evaluation's name first, such as 'val', got {evaluation!r}."
        )
    if value is not None and not isinstance(value, int | float):
        raise HookDefinitionError(f"stop_on_constant_predictions takes value as a number or None, got {value!r}.")
