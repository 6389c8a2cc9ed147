"""Runs, evaluations and contexts that both checkers must reject."""

# mypy: disable-error-code=empty-body
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.typing.given import Batch, Other, data, model, sgd, step
from trainhooks import (
    BatchBegin,
    BatchEnd,
    BatchPrediction,
    EpochBegin,
    EpochEnd,
    Evaluation,
    Objective,
    StepOutput,
    evaluate,
    predict,
    supervised,
    train,
)


def other_batches(ctx: BatchEnd[Other, Tensor]) -> None: ...
def other_predictions(ctx: BatchPrediction[Other, Tensor]) -> None: ...
def of_batches(ctx: BatchEnd[Batch, Tensor]) -> None: ...


# A word or a value that train does not know
train(model, data, step, sgd, epochs=1, callbacks=[])  # E: call-arg | reportCallIssue
train(model, data, step, sgd, epoch=1)  # E: call-arg | reportCallIssue
train(model, data, step, sgd, epochs=1, precision="float16")  # E: arg-type | reportArgumentType
train(model, data, step, sgd, epochs=1, on_interrupt="ignore")  # E: arg-type | reportArgumentType
train(model, data, step, sgd, epochs="1")  # E: arg-type | reportArgumentType
train(model, data, step, sgd, 1)  # E: call-arg | reportCallIssue
train(model, data, step, 0.1, epochs=1)  # E: arg-type | reportArgumentType
train("net", data, step, sgd, epochs=1)  # E: arg-type | reportArgumentType
train(model, 5, step, sgd, epochs=1)  # E: arg-type | reportArgumentType
train(model, data, step, sgd, epochs=1, evaluations=Evaluation("val", data))  # E: arg-type | reportArgumentType
train(model, data, step, sgd, epochs=1, evaluations={"val": data})  # E: arg-type | reportArgumentType


# A step that does not fit
def of_other(model: nn.Module, batch: Other) -> Tensor: ...
def to_number(model: nn.Module, batch: Batch) -> float: ...
def of_the_batch_alone(batch: Batch) -> Tensor: ...
def words(x: str, y: str) -> Tensor: ...


train(model, data, of_other, sgd, epochs=1)  # E: arg-type | reportArgumentType
train(model, data, to_number, sgd, epochs=1)  # E: arg-type | reportArgumentType
train(model, data, of_the_batch_alone, sgd, epochs=1)  # E: arg-type | reportArgumentType
train(model, data, supervised(words), sgd, epochs=1)  # E: arg-type | reportArgumentType
supervised(of_the_batch_alone)  # E: arg-type | reportArgumentType
StepOutput(0.5)  # E: arg-type | reportArgumentType
StepOutput(data[0][0], weight="four")  # E: arg-type | reportArgumentType
StepOutput(data[0][0], 4.0)  # E: call-arg | reportCallIssue
Objective("a", to_number, sgd)  # E: arg-type | reportArgumentType
train(model, data, None, [sgd], epochs=1)  # E: list-item | reportArgumentType


# A loader whose batch type was said
def load(plain: DataLoader[Batch]) -> None:
    loader = cast("Iterable[Batch]", plain)
    train(model, loader, step, sgd, hooks={"on_batch_end": other_batches})  # E: arg-type | reportArgumentType
    train(model, loader, of_other, sgd, epochs=1)  # E: arg-type | reportArgumentType


# Evaluations and predictions
def predicting(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, None]: ...
def predicting_two(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]: ...
def of_one(output: Tensor) -> Tensor: ...


class Half:
    def update(self, output: Tensor, target: Tensor) -> None: ...


Evaluation("val", data, when="epochs")  # E: arg-type | reportArgumentType
Evaluation("val")  # E: call-arg | reportCallIssue
Evaluation("val", data, metrics={"acc": of_one})  # E: dict-item | reportArgumentType
Evaluation("val", data, metrics={"acc": Half()})  # E: dict-item | reportArgumentType
Evaluation("val", data, step=to_number)  # E: arg-type | reportArgumentType
evaluate(model, data, of_other)  # E: arg-type | reportArgumentType
evaluate(model, data, step, metrics={"acc": of_one})  # E: dict-item | reportArgumentType
evaluate(model, data, step, hooks={"on_after_batch_prediction": other_predictions})  # E: arg-type | reportArgumentType
predict(model, data, predicting_two)  # E: arg-type | reportArgumentType
predict(
    model, data, predicting, hooks={"on_after_batch_prediction": other_predictions}
)  # E: arg-type | reportArgumentType
predict(model, data, predicting, hooks={"on_after_batch_prediction": of_batches})  # E: arg-type | reportArgumentType
next(predict(model, data, predicting)).y_pred.upper()  # E: attr-defined | reportAttributeAccessIssue


# What is not valid at an event, or is not to be changed
def look(begin: BatchBegin[Batch], end: BatchEnd[Batch, Tensor], epoch: EpochBegin, done: EpochEnd) -> None:
    print(begin.loss)  # E: attr-defined | reportAttributeAccessIssue
    print(begin.output)  # E: attr-defined | reportAttributeAccessIssue
    print(epoch.metrics)  # E: attr-defined | reportAttributeAccessIssue
    print(end.batch.keys())  # E: attr-defined | reportAttributeAccessIssue
    print(end.at.step)  # E: attr-defined | reportAttributeAccessIssue
    print(end.run.trainer)  # E: attr-defined | reportAttributeAccessIssue
    end.loss = end.loss * 2  # E: misc | reportAttributeAccessIssue
    end.at.updates = 0  # E: misc | reportAttributeAccessIssue
    done.metrics["val/loss"] = 0.0  # E: index | reportIndexIssue
