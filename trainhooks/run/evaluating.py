"""`evaluate` and `predict`: the loop's own evaluation and prediction, without training."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from typing_extensions import TypeVar

from trainhooks.core import BatchPrediction, Hooks, Rank, Run, Step, TrainBegin, may_give_values
from trainhooks.errors import HookDefinitionError, RunDefinitionError
from trainhooks.loop import (
    Bindings,
    DueEvaluation,
    Functions,
    Heard,
    Live,
    Records,
    Requests,
    Source,
    bind_table,
    check_values,
    compose,
    hear,
    length_of,
    names_of_evaluation,
    specialise,
)

from .evaluations import Metric
from .validation import check_model, device_of

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)


def evaluate(
    model: nn.Module,
    data: Iterable[B],
    step: Step[B, O],
    *,
    name: str = "evaluation",
    metrics: Mapping[str, Metric] = MappingProxyType({}),
    hooks: Hooks[B, O] = (),
    device: torch.device | str | int | None = None,
) -> Mapping[str, float]:
    """Evaluate a model: the mean of the loss over all items, and metrics.

    Modes, gradients and random streams are afterwards what they were. Hooks hear the events of an evaluation; what
    they ask for besides records has nobody to act on it. In a program of several processes each that calls this
    evaluates for itself, all of the data.

    Args:
        model: Moved to the device.
        data: Batches.
        step: As in training; with metrics it returns a `StepOutput` with an output and a target.
        name: The evaluation's name.
        metrics: By name: a function of a batch's output and target, averaged by weight, or an object with torchmetrics'
            `update`, `compute` and `reset`.
        hooks: As in `train`.
        device: Where to evaluate; None for where the model's parameters are.

    Returns:
        `<name>/loss` and `<name>/<metric>`, or what `transform_metrics` made of them.

    Raises:
        RunDefinitionError: if the data gives no batch.
        HookDefinitionError: if a hook, the step or a metric does not have the right form.
    """
    own = names_of_evaluation(name, metrics)
    evaluation = DueEvaluation(name, data, step, metrics, lambda place: False)
    source = Source(name, gives_values=may_give_values(step), metrics=frozenset(metrics))
    live, heard, functions = _looking(model, data, step, own, hooks, device, Requests([evaluation]), [source])
    found: Mapping[str, float] = functions["evaluate"](live, heard, evaluation)
    functions["deliver"](live, heard)
    return dict(found)


def predict(
    model: nn.Module,
    data: Iterable[B],
    predict_step: Callable[[nn.Module, B], tuple[O, object, object]],
    *,
    hooks: Hooks[B, O] = (),
    dataset_info: object = None,
    device: torch.device | str | int | None = None,
) -> Iterator[BatchPrediction[B, O]]:
    """Predict batch by batch, as the iterator is advanced.

    The model is in eval mode and gradients are off only while a batch is predicted: between two batches modes,
    gradients and random streams are the caller's.

    Args:
        model: Moved to the device.
        data: Batches.
        predict_step: `predict_step(model, batch)` returns `(y_pred, y_test, metadata)`.
        hooks: Their `on_after_batch_prediction` hears each prediction before it is handed out.
        dataset_info: Whatever the hooks should know of the data; stands in each prediction.
        device: Where to predict; None for where the model's parameters are.

    Raises:
        RunDefinitionError: if the data has length 0.
        HookDefinitionError: if a hook or the step does not have the right form.
    """
    live, heard, functions = _looking(model, data, predict_step, frozenset(), hooks, device, Requests(), [])
    predictions: Iterator[BatchPrediction[B, O]] = functions["predict"](live, heard, predict_step, dataset_info)
    return predictions


def _looking(
    model: nn.Module,
    data: Iterable[Any],
    step: object,
    own: frozenset[str],
    hooks: Hooks[B, O],
    device: object,
    requests: Requests,
    sources: Sequence[Source],
) -> tuple[Live, Heard, Functions]:
    """What an evaluation or a prediction needs of a run."""
    check_model(model)
    if not callable(step):
        raise HookDefinitionError(f"A step is a function of the model and a batch, got {step!r}.")
    if length_of(data) == 0:
        raise RunDefinitionError("The data has length 0.")
    table = compose(hooks)
    awaited = check_values(table, own, sources)
    run = Run(
        model=model, optimizers=(), device=device_of(model, device), rank=Rank(), epochs=None, max_updates=None,
        accumulate=1, precision="float32", seed=None, run_id=uuid.uuid4().hex,
    )  # fmt: skip
    bindings: Bindings = bind_table(table, run.rank, time.monotonic)
    live = Live(
        run=run, data=data, requests=requests, awaited=awaited,
        records=Records(own, keeps="on_record" in bindings.hooks),
    )  # fmt: skip
    model.to(run.device)
    bindings.make_states(TrainBegin(run=run, at=live.at, resumed=False))
    heard = hear(bindings.hooks, live.records, live.requests)
    return live, heard, specialise(heard.events())
