"""Hooks in dicts and hook sets that both checkers must reject."""

# mypy: disable-error-code=empty-body
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from tests.typing.given import Batch, Other, data, model, sgd, step
from trainhooks import (
    BatchBegin,
    BatchEnd,
    BatchPrediction,
    EpochEnd,
    Evaluate,
    EvaluationBegin,
    EvaluationEnd,
    Gradients,
    GradientsReady,
    HookDict,
    HookSet,
    LossReady,
    RatesDue,
    Record,
    Recorded,
    SkipBatch,
    SkipUpdate,
    Stop,
    TrainBegin,
    TrainEnd,
    compose,
    train,
)


def fine(ctx: BatchEnd[Batch, Tensor]) -> None: ...
def of_epochs(ctx: EpochEnd) -> None: ...
def other_batches(ctx: BatchEnd[Other, Tensor]) -> None: ...
def begins(ctx: BatchBegin[Other]) -> None: ...
def other_outputs(ctx: BatchEnd[Batch, str]) -> None: ...
def other_losses(ctx: LossReady[Batch, str], loss: Tensor) -> Tensor: ...
def other_predictions(ctx: BatchPrediction[Batch, str]) -> None: ...


# A wrong key
train(model, data, step, sgd, hooks={"on_bach_end": fine})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=[{"on_bach_end": fine}])  # E: list-item | reportArgumentType
train(model, data, step, sgd, hooks={"on_batch_end": fine, "priority": 3})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_batch_end": fine, "order": "first"})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_batch_end": fine, "reads": "val/loss"})  # E: arg-type | reportArgumentType
HookSet(on_bach_end=fine)  # E: call-arg | reportCallIssue
HookSet(on_batch_end=fine, priority=3)  # E: call-arg | reportCallIssue
HookSet(on_batch_end=fine, reads="val/loss")  # E: arg-type | reportArgumentType
misspelt: HookDict = {"on_bach_end": fine}  # E: typeddict-unknown-key | reportAssignmentType

# A wrong event
train(model, data, step, sgd, hooks={"on_batch_end": of_epochs})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_epoch_end": fine})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_batch_begin": fine})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_batch_end": [fine, of_epochs]})  # E: arg-type | reportArgumentType
train(
    model, data, step, sgd, hooks=[{"on_batch_end": fine}, [{"on_batch_end": of_epochs}]]
)  # E: list-item | reportArgumentType
HookSet(on_batch_end=of_epochs)  # E: arg-type | reportArgumentType
compose({"on_batch_end": of_epochs})  # E: arg-type | reportArgumentType

# A wrong batch
train(model, data, step, sgd, hooks={"on_batch_end": other_batches})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_batch_begin": begins})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=[HookSet(on_batch_end=other_batches)])  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=HookSet(on_batch_end=other_batches))  # E: arg-type | reportArgumentType
train(
    model, data, step, sgd, hooks={"on_batch_begin": begins, "on_batch_end": fine}
)  # E: arg-type | reportArgumentType
train(
    model, data, step, sgd, hooks=HookSet(on_batch_begin=begins, on_batch_end=fine)
)  # E: arg-type | reportArgumentType

# A wrong output
train(model, data, step, sgd, hooks={"on_batch_end": other_outputs})  # E: misc | reportArgumentType
train(model, data, step, sgd, hooks={"transform_loss": other_losses})  # E: misc | reportArgumentType
train(model, data, step, sgd, hooks={"on_after_batch_prediction": other_predictions})  # E: misc | reportArgumentType
train(model, data, step, sgd, hooks=[HookSet(on_batch_end=other_outputs)])  # E: misc | reportArgumentType


# What a lambda does with its context
train(
    model, data, step, sgd, hooks={"on_epoch_end": lambda ctx: ctx.loss.item()}
)  # E: arg-type | reportAttributeAccessIssue
train(
    model, data, step, sgd, hooks=[{"on_batch_end": lambda ctx: ctx.output.shapes()}]
)  # E: list-item | reportAttributeAccessIssue
train(
    model, data, step, sgd, hooks=HookSet(on_batch_end=lambda ctx: ctx.batch.keys())
)  # E: attr-defined | reportAttributeAccessIssue
train(
    model, data, step, sgd, hooks={"on_batch_end": lambda ctx: ctx.batch.keys()}
)  # E: arg-type | reportAttributeAccessIssue


# A wrong arity
def of_two(ctx: EpochEnd, state: int) -> None: ...
def of_none() -> None: ...


train(model, data, step, sgd, hooks={"on_epoch_end": of_two})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_epoch_end": of_none})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_epoch_end": 5})  # E: arg-type | reportArgumentType


# A wrong answer
def word(ctx: EpochEnd) -> str: ...
def truth(ctx: EpochEnd) -> bool: ...
def skip_at_an_epoch(ctx: EpochEnd) -> SkipBatch: ...
def skip_update_at_a_batch(ctx: BatchBegin) -> SkipUpdate: ...
def stop_in_an_evaluation(ctx: EvaluationBegin) -> Stop: ...
def stop_after_the_end(ctx: TrainEnd) -> Stop: ...
def record_a_record(ctx: Recorded) -> Record: ...
def several_with_a_wrong_one(ctx: EpochEnd) -> list[Stop | SkipBatch]: ...


train(model, data, step, sgd, hooks={"on_epoch_end": word})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_epoch_end": truth})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_epoch_end": lambda ctx: "stop"})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_epoch_end": skip_at_an_epoch})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_batch_begin": skip_update_at_a_batch})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_evaluation_begin": stop_in_an_evaluation})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_train_end": stop_after_the_end})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_record": record_a_record})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"on_epoch_end": several_with_a_wrong_one})  # E: arg-type | reportArgumentType
HookSet(on_epoch_end=word)  # E: arg-type | reportArgumentType
Stop(3)  # E: arg-type | reportArgumentType
Evaluate()  # E: call-arg | reportCallIssue
Record({"x": "high"})  # E: dict-item | reportArgumentType


# A wrong value of a transform, or a wrong manager
def batch_to_word(ctx: BatchBegin[Batch], batch: Batch) -> str: ...
def other_values(ctx: BatchBegin[Batch], batch: Other) -> Other: ...
def rates_to_one(ctx: RatesDue, rates: Sequence[float]) -> float: ...
def rates_to_words(ctx: RatesDue, rates: Sequence[float]) -> list[str]: ...
def rates_of_the_loss(ctx: LossReady, rates: Sequence[float]) -> list[float]: ...
def loss_to_number(ctx: LossReady, loss: Tensor) -> float: ...
def forgetful(ctx: LossReady, loss: Tensor) -> None: ...
def gradients_to_one(ctx: GradientsReady, gradients: Gradients) -> Tensor: ...
def metrics_to_words(ctx: EvaluationEnd, metrics: Mapping[str, float]) -> Mapping[str, str]: ...
def undecorated(ctx: TrainBegin) -> Iterator[None]: ...


train(model, data, step, sgd, hooks={"transform_batch": batch_to_word})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"transform_batch": other_values})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"transform_rates": rates_to_one})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"transform_rates": rates_to_words})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"transform_rates": rates_of_the_loss})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"transform_loss": loss_to_number})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"transform_loss": forgetful})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"transform_gradients": gradients_to_one})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"transform_metrics": metrics_to_words})  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks={"around_train": undecorated})  # E: arg-type | reportArgumentType
HookSet(transform_loss=loss_to_number)  # E: arg-type | reportArgumentType

# An untyped dict or list bound first
loose = {"on_batch_end": fine}
mixed = [{"on_batch_end": fine}, HookSet(on_batch_end=fine)]
train(model, data, step, sgd, hooks=loose)  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=[loose])  # E: list-item | reportArgumentType
train(model, data, step, sgd, hooks=mixed)  # E: arg-type | reportArgumentType
