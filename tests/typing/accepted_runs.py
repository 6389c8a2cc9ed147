"""Runs, evaluations and predictions that both checkers accept under their strict settings."""

from collections.abc import Iterable, Iterator, Mapping
from typing import assert_type, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

from tests.typing.given import Batch, Other, data, model, sgd, step
from trainhooks import (
    AfterBackward,
    Answer,
    BatchBegin,
    BatchEnd,
    BatchPrediction,
    Evaluation,
    EvaluationResult,
    Objective,
    OptimizerStepped,
    Record,
    Recorded,
    Registration,
    SkipBatch,
    StepOutput,
    evaluate,
    every,
    predict,
    supervised,
    train,
)


def loss_of_each_batch(ctx: BatchEnd[Batch, Tensor]) -> Record:
    return Record({"batch/loss": ctx.loss, "batch/mean": ctx.output.mean(), "batch/first": ctx.batch[0].mean()})


def bare(ctx: BatchEnd) -> None:
    print(ctx.batch, ctx.loss.item())


class Watcher:
    def on_batch_end(self, ctx: BatchEnd[Batch, Tensor]) -> None:
        print(ctx.loss.item())


class Mixup:
    def transform_batch(self, ctx: BatchBegin[Batch], batch: Batch) -> Batch:
        return batch


# Steps, batches and outputs
def bare_loss(model: nn.Module, batch: Batch) -> Tensor:
    return step(model, batch).loss


def dictionaries(model: nn.Module, batch: Other) -> StepOutput[dict[str, Tensor]]:
    y = cast("Tensor", model(batch["x"]))
    return StepOutput(y.mean(), weight=torch.ones(()), output={"y": y}, values={"acc": batch["x"].mean()})


def of_dictionaries(ctx: BatchEnd[Other, Mapping[str, Tensor]]) -> None:
    print(ctx.batch["x"], ctx.output["y"])


def make(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters())


def loaded(dataset: Dataset[Batch]) -> Iterable[Batch]:
    return cast("Iterable[Batch]", DataLoader(dataset, batch_size=8))


def generated() -> Iterator[Batch]:
    yield from data


def moved(batch: Batch, device: torch.device) -> Batch:
    return batch[0].to(device), batch[1]


def absolute(output: Tensor, y: Tensor) -> Tensor:
    return (output - y).abs().mean()


others: list[Other] = [{"x": torch.zeros(4, 3)}]
train(model, data, bare_loss, sgd, max_updates=9, hooks={"on_batch_end": bare})
train(model, others, dictionaries, make, epochs=1, hooks={"on_batch_end": of_dictionaries}, precision="float32")
train(model, generated(), supervised(nn.functional.cross_entropy), make, epochs=1, on_interrupt="return")
train(model, data, supervised(nn.MSELoss()), sgd, epochs=1, hooks={"on_batch_end": bare}, seed=3, accumulate=4)
train(model, data, supervised(absolute), sgd, epochs=1, device="cpu", transfer=moved)
train(model, data, None, [Objective("a", step, make), Objective("b", bare_loss, sgd)], epochs=1, hooks=Watcher())


def over_loaders(dataset: Dataset[Batch]) -> None:
    train(model, loaded(dataset), step, sgd, epochs=1, hooks=[{"on_batch_end": loss_of_each_batch}, Mixup()])
    train(model, DataLoader(dataset), step, sgd, epochs=1, hooks=Watcher())


# Evaluations and predictions
def accuracy(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) == target).float().mean()


def predicting(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, str]:
    return step(model, batch).loss, batch[1], "a"


def shown(ctx: BatchPrediction[Batch, Tensor]) -> Record:
    return Record({"mean": ctx.y_pred.mean(), "index": float(ctx.index)})


Evaluation("val", others, step=dictionaries, metrics={"acc": accuracy, "n": lambda output, target: 1.0})
Evaluation("val", data, metrics={"acc": MulticlassAccuracy(2)}, when=every(500, "updates") | every(1, "epochs"))
measured = evaluate(model, data, step, metrics={"acc": accuracy}, hooks=[{"on_after_batch_prediction": shown}])
assert_type(measured, EvaluationResult)
assert_type(measured["evaluation/loss"], float)
evaluate(model, data, step, precision="bf16-mixed", transfer=lambda batch, device: batch)
for prediction in predict(model, data, predicting, hooks={"on_after_batch_prediction": shown}, dataset_info=3):
    assert_type(prediction, BatchPrediction[Batch, Tensor])
    print(prediction.y_pred.mean(), prediction.metadata)


# What contexts hold
def look(begin: Registration, back: AfterBackward, stepped: OptimizerStepped, end: BatchEnd[Batch, Tensor]) -> Answer:
    assert_type(end.batch, Batch)
    assert_type(end.output, Tensor)
    assert_type(end.losses, Mapping[str, Tensor])
    print(begin.run.model, back.loss.item(), stepped.stepped, end.at.updates, end.generator("a"))
    return SkipBatch("no")


def heard(ctx: Recorded) -> None:
    print(ctx.by, {name: value + 1.0 for name, value in ctx.values.items()})


train(model, data, step, sgd, epochs=1, hooks=[{"on_record": heard}, {"on_record": [heard, print]}])
