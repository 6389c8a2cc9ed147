"""`evaluate` and `predict`: the loop's own evaluation and prediction, without training."""

import time
import uuid
import warnings
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, final

import torch
from attrs import frozen
from torch import nn
from typing_extensions import TypeVar

from trainhooks.core import (
    EVENTS,
    BatchPrediction,
    Hooks,
    HookSet,
    Horizon,
    Rank,
    Run,
    Step,
    TrainBegin,
    may_give_values,
)
from trainhooks.errors import RunDefinitionError, shown
from trainhooks.loop import (
    Bindings,
    DueEvaluation,
    Functions,
    Heard,
    Live,
    Records,
    Requests,
    Source,
    Transfer,
    bind_table,
    check_values,
    compose,
    forward_in,
    hear,
    length_of,
    names_of_evaluation,
    specialise,
    transfer_of,
)

from .evaluations import Metric, check_parts
from .result import EvaluationResult, Predictions
from .validation import check_iterable, check_model, check_precision, check_step, check_transfer, check_words, device_of

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)


_IN_EVALUATE: Final = (
    "around_evaluation", "on_evaluation_begin", "on_after_batch_prediction", "transform_metrics", "on_evaluation_end",
    "on_record",
)  # fmt: skip
_IN_PREDICT: Final = ("on_after_batch_prediction", "on_record")
_NO_PROGRESS: Final[Horizon] = {"updates": 0, "batches": 0, "epochs": 1}
"""What there is of a run: no update, within the first epoch."""


def evaluate(
    model: nn.Module,
    data: Iterable[B],
    step: Step[B, O],
    *,
    name: str = "evaluation",
    metrics: Mapping[str, Metric] = MappingProxyType({}),
    hooks: Hooks[B, O] = (),
    device: torch.device | str | int | None = None,
    precision: Literal["float32", "bf16-mixed", "fp16-mixed"] = "float32",
    transfer: Transfer | None = None,
) -> EvaluationResult:
    """Evaluate a model: the mean of the loss over all items, and metrics.

    Modes, gradients and random streams are afterwards what they were. The global streams are those of the process: a
    stream that has changed is put back, so what another thread drew from it meanwhile is drawn again. Hooks hear the
    events of an evaluation and those of records; a warning names hooks on other events, which never come, and answers
    that only a run can act on. In a program of several processes each that calls this evaluates for itself, all of the
    data.

    Args:
        model: Moved to `device` if that is given.
        data: Batches.
        step: As in training; with metrics it returns a `StepOutput` with an output and a target.
        name: The evaluation's name.
        metrics: As in `Evaluation`.
        hooks: As in `train`.
        device: Where to evaluate; None as in `train`.
        precision: As in `train`.
        transfer: As in `train`.

    Returns:
        A mapping: `<name>/loss`, `<name>/<metric>` and `<name>/<key>`, or what `transform_metrics` made of them, and
        what hooks recorded; with the states of the hooks in `hook_states`.

    Raises:
        RunDefinitionError: if the data gives no batch.
        HookDefinitionError: if a hook, the step or a metric does not have the right form.
    """
    check_step(step)
    check_parts(name, step, metrics)
    own = names_of_evaluation(name, metrics)
    evaluation = DueEvaluation(name, data, step, metrics, lambda place: False)
    source = Source(name, gives_values=may_give_values(step), metrics=frozenset(metrics))
    looking = _looking(
        model, data, hooks, device, precision, transfer, _IN_EVALUATE, own, Requests([evaluation]), [source]
    )
    live, functions = looking.live, looking.functions
    try:
        found: Mapping[str, float] = functions["evaluate"](live, looking.heard, evaluation)
        functions["deliver"](live, looking.heard)
    finally:
        looking.bindings.warn_of_the_quarantined()
    for by, answer in ((one.by, one.answer) for one in live.requests.asked):
        _warn(f"{by!r} answered {shown(answer)}, on which only a run acts; evaluate has none.")
    return EvaluationResult({**found, **live.records.metrics()}, looking.bindings.states())


def predict(
    model: nn.Module,
    data: Iterable[B],
    predict_step: Callable[[nn.Module, B], tuple[O, object, object]],
    *,
    hooks: Hooks[B, O] = (),
    dataset_info: object = None,
    device: torch.device | str | int | None = None,
    precision: Literal["float32", "bf16-mixed", "fp16-mixed"] = "float32",
    transfer: Transfer | None = None,
) -> Predictions[B, O]:
    """Predict batch by batch, as the iterator is advanced.

    The model is in eval mode and gradients are off only while a batch is predicted: between two batches modes,
    gradients and random streams are the caller's. The global streams are those of the process: what another thread
    draws from one while a batch is predicted, it may draw again.

    Args:
        model: Moved to `device` if that is given.
        data: Batches.
        predict_step: `predict_step(model, batch)` returns `(y_pred, y_test, metadata)`.
        hooks: Their `on_after_batch_prediction` hears each prediction before it is handed out; a warning names hooks on
            other events, which never come.
        dataset_info: Whatever the hooks should know of the data; stands in each prediction.
        device: Where to predict; None as in `train`.
        precision: As in `train`.
        transfer: As in `train`.

    Returns:
        An iterator, with the states of the hooks in `hook_states`.

    Raises:
        RunDefinitionError: if the data has length 0.
        HookDefinitionError: if a hook or the step does not have the right form.
    """
    check_step(predict_step, gives="(y_pred, y_test, metadata)")
    looking = _looking(model, data, hooks, device, precision, transfer, _IN_PREDICT, frozenset(), Requests(), [])

    def predictions() -> Generator[BatchPrediction[B, O]]:
        live = looking.live
        try:
            yield from looking.functions["predict"](live, looking.heard, predict_step, dataset_info)
            if live.records.newest and not live.records.keeps:
                names = shown(sorted(live.records.newest))
                _warn(f"Hooks recorded {names}, and no hook of predict hears on_record.")
        finally:
            looking.bindings.warn_of_the_quarantined()

    return Predictions(predictions(), looking.bindings.states)


@final
@frozen
class _Looking:
    """What an evaluation or a prediction has of a run."""

    live: Live
    heard: Heard
    functions: Functions
    bindings: Bindings


def _looking(
    model: nn.Module,
    data: Iterable[Any],
    hooks: Hooks[B, O],
    device: object,
    precision: str,
    transfer: Transfer | None,
    events: Collection[str],
    own: frozenset[str],
    requests: Requests,
    sources: Sequence[Source],
) -> _Looking:
    """Check what was given, and bind it."""
    check_model(model)
    check_iterable(data, "The data")
    check_transfer(transfer)
    check_words(precision, "raise", seed=None, parallel=None)
    if length_of(data) == 0:
        raise RunDefinitionError("The data has length 0.")
    table = compose(hooks)
    awaited = check_values(table, own, sources)
    run = Run(
        model=model, optimizers=(), device=device_of(model, device), rank=Rank(), epochs=None, max_updates=None,
        accumulate=1, precision=precision, seed=None, run_id=uuid.uuid4().hex,
    )  # fmt: skip
    check_precision(run)
    _warn_of_the_silent(table, events)
    bindings: Bindings = bind_table(table, run.rank, time.monotonic)
    bindings.warn_of_the_impossible(_NO_PROGRESS, f"in {_front_door(events)}, which makes no update", events)
    live = Live(
        run=run, data=data, requests=requests, awaited=awaited, transfer=transfer_of(transfer),
        forward=forward_in(precision, run.device), records=Records(own, keeps="on_record" in bindings.hooks),
    )  # fmt: skip
    if device is not None:
        model.to(run.device)
    bindings.make_states(TrainBegin(run=run, at=live.at, resumed=False))
    heard = hear(bindings.hooks, live.records, live.requests)
    return _Looking(live, heard, specialise(heard.events()), bindings)


def _warn_of_the_silent(sets: Iterable[HookSet], events: Collection[str]) -> None:
    """Say which hooks will never be called."""
    silent = {one.name: ", ".join(_silent(one, events)) for one in sets}
    if said := "; ".join(f"{name!r} on {never}" for name, never in silent.items() if never):
        _warn(f"{_front_door(events)} never calls these hooks, whose events come in a run alone: {said}.")


def _front_door(events: Collection[str]) -> str:
    return "evaluate" if "on_evaluation_end" in events else "predict"


def _silent(one: HookSet, events: Collection[str]) -> Iterator[str]:
    """The events of a set that never come; one that changes metrics has done its work before a run's end."""
    looks_back = "transform_metrics" in events and one.hooks("transform_metrics")
    for event in EVENTS:
        if one.hooks(event) and event not in events and not (looks_back and event == "on_train_end"):
            yield event


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=4)
