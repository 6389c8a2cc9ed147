"""An evaluation and a prediction: the model is looked at, and nothing about its training changes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, cast

from torch import nn

from trainhooks.core import BatchPrediction, EvaluationBegin, EvaluationEnd, definition_of, name_of
from trainhooks.errors import HookDefinitionError, shown

from .around import in_evaluation, say_in
from .delivery import deliver
from .forwarding import autocast
from .heard import Heard
from .live import Live
from .means import with_items
from .records import LOOP
from .requests import DueEvaluation
from .shares import one_model, share_of
from .streams import PrivateStreams, devices_of, looking_only
from .tally import Tally
from .transfer import detached

_NO_MORE = object()


def evaluate(live: Live, heard: Heard, evaluation: DueEvaluation) -> Mapping[str, float]:
    """Run an evaluation: every item has weight one, over all ranks; modes and random streams are what they were."""
    run, at, since, name = live.run, live.at, live.since, evaluation.name
    live.records.begin_evaluation()
    with looking_only(run.model, run.device), heard.around_evaluation(
        EvaluationBegin(run=run, at=at, since=since, name=name)
    ) if heard.around_evaluation is not None else nullcontext() as entered, one_model(live), in_evaluation(name):
        if heard.around_evaluation is not None:
            if live.saver is not None:
                live.averages.look(run.model, at, entered)
        if heard.on_evaluation_begin is not None:
            heard.on_evaluation_begin(EvaluationBegin(run=run, at=at, since=since, name=name))
        tally = Tally(evaluation)
        for index, (fetched, counts) in enumerate(share_of(live, evaluation.data)):
            batch = live.transfer(fetched, run.device)
            output = live.forward(evaluation.step, run.model, batch)
            if counts:
                tally.add(output)
                if heard.on_after_batch_prediction is not None:
                    heard.on_after_batch_prediction(BatchPrediction(
                        run=run, at=at, since=since, name=name, index=index, batch=detached(batch),
                        y_pred=detached(output.output), y_test=detached(output.target),
                    ))  # fmt: skip
            del batch, output  # let go before the next forward
        read = tally.read(live.ranks)
        metrics: Mapping[str, float] = with_items(read)
        if heard.transform_metrics is not None:
            metrics = heard.transform_metrics(EvaluationEnd(
                run=run, at=at, since=since, name=name, metrics=live.records.values(metrics)
            ), metrics)  # fmt: skip
        live.records.add(LOOP, metrics, at, since)
        live.check_awaited(name, read)
        if heard.on_evaluation_end is not None:
            live.ask(heard.on_evaluation_end(EvaluationEnd(
                run=run, at=at, since=since, name=name, metrics=live.records.values(metrics)
            )))  # fmt: skip
    live.averages.end(name, at, live.records.end_evaluation())
    return metrics


def predict(
    live: Live, heard: Heard, step: Callable[[nn.Module, Any], tuple[Any, Any, Any]], dataset_info: object
) -> Iterator[BatchPrediction]:
    """Predict batch by batch; between two batches the model and the random streams are as the caller left them."""
    run, at = live.run, live.at
    streams = PrivateStreams(run.model, devices_of(run.model, run.device))
    with streams:
        batches = iter(live.data)
    index = 0
    while True:
        with streams:
            batch = next(batches, _NO_MORE)
            if batch is _NO_MORE:
                break
            batch = live.transfer(batch, run.device)
            with autocast(run.precision, run.device):
                try:
                    predicted = step(run.model, batch)
                except Exception as error:
                    say_in(error, f"the step {definition_of(step)}")
                    raise
            y_pred, y_test, metadata = three(step, predicted)
            prediction = BatchPrediction(
                run=run, at=at, since=at, name="prediction", index=index, batch=detached(batch),
                y_pred=detached(y_pred), y_test=detached(y_test), metadata=detached(metadata),
                dataset_info=dataset_info,
            )  # fmt: skip
            if heard.on_after_batch_prediction is not None:
                heard.on_after_batch_prediction(prediction)
        if heard.on_record is not None:
            if live.records.ripe():
                deliver(live, heard)
        yield prediction
        index += 1
        del batch, predicted, y_pred, y_test, metadata, prediction  # let go before the next forward
    deliver(live, heard)


def three(step: object, returned: object) -> tuple[Any, Any, Any]:
    """What a predict step returned, if it has the form."""
    parts = cast("tuple[object, ...]", returned)
    if not isinstance(returned, tuple) or len(parts) != 3:
        raise HookDefinitionError(
            f"A predict step returns (y_pred, y_test, metadata), but {name_of(step)!r} returned {shown(parts)}; "
            "write None for what there is not."
        )
    return parts[0], parts[1], parts[2]
