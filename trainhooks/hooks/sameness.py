"""A hook that ends a run whose model predicts the same for everything."""

import warnings
from collections.abc import Callable
from typing import final

import torch
from attrs import evolve, frozen
from torch import Tensor

from trainhooks.core import BatchPrediction, EvaluationBegin, EvaluationEnd, HookSet, Stop, factory, stateful
from trainhooks.distributed import Ranks
from trainhooks.errors import HookDefinitionError, shown

from .arguments import check_function
from .shards import ranks_of


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


def _output(output: object) -> object:
    return output


@factory
def stop_on_constant_predictions(
    evaluation: str,
    *,
    value: float | None = None,
    prediction_of: Callable[[object], object] = _output,
    only_warn: bool = False,
) -> HookSet:
    """Stop when a model predicts the same for every item of an evaluation.

    Predictions are compared on their device; one value is read from there at the end of the evaluation. An evaluation
    of fewer than two items says nothing, and NaN equals nothing. Over ranks all of their predictions are compared, and
    every rank calls it.

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
        stop_on_constant_predictions(evaluation='val', prediction_of=<lambda>)
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
        if ctx.name != evaluation:
            return alike, None
        if (ranks := ranks_of(ctx.run)) is not None:
            alike = _over_ranks(alike, ranks, value)
        if alike.items < 2 or not bool(alike.same):
            return alike, None
        found = "are the same" if value is None else f"equal {value:g}"
        reason = f"all {alike.items} predictions of {evaluation!r} {found}"
        if not only_warn:
            return alike, Stop(reason)
        warnings.warn(f"At update {ctx.at.updates}, {reason}.", RuntimeWarning, stacklevel=2)
        return alike, None

    return stateful(
        "stop_on_constant_predictions", Alike, reads=frozenset({f"{evaluation}/loss"}), collective=True,
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


def _over_ranks(alike: Alike, ranks: Ranks, value: float | None) -> Alike:
    """What all ranks have seen; each gives its first prediction, and whether the others were like it."""
    own = None if alike.first is None else alike.first.cpu()
    found = [one for one in ranks.gather((own, bool(alike.same), alike.items)) if one[2]]
    whole = Alike()
    for first, same, items in found:
        assert first is not None
        whole = evolve(_compared(whole, first[None], value), items=whole.items + items)
        assert whole.same is not None
        whole = evolve(whole, same=whole.same & same)
    return whole


def _tensor(predictions: object) -> Tensor:
    if isinstance(predictions, Tensor) and predictions.dim() > 0:
        return predictions.detach()
    raise HookDefinitionError(
        "stop_on_constant_predictions compares tensors of predictions, items first, and got "
        f"{shown(predictions)}; give prediction_of=lambda output: ... that makes one."
    )


def _check_constant(evaluation: object, value: object) -> None:
    if not isinstance(evaluation, str) or not evaluation:
        raise HookDefinitionError(
            f"stop_on_constant_predictions takes an evaluation's name first, such as 'val', got {shown(evaluation)}."
        )
    if value is not None and not isinstance(value, int | float):
        raise HookDefinitionError(f"stop_on_constant_predictions takes value as a number or None, got {shown(value)}.")
