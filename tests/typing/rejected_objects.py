"""Objects as hooks that both checkers must reject."""

# mypy: disable-error-code=empty-body
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Mapping, Sequence

from torch import Tensor

from tests.typing.given import Batch, Other, data, model, sgd, step
from trainhooks import BatchBegin, BatchEnd, EpochEnd, EvaluationEnd, LossReady, RatesDue, compose, train


class Misspelt:
    def on_epch_end(self, ctx: EpochEnd) -> None: ...


class OfAnotherEvent:
    def on_batch_end(self, ctx: EpochEnd) -> None: ...


class OfOtherBatches:
    def on_batch_end(self, ctx: BatchEnd[Other, Tensor]) -> None: ...


class OfOtherOutputs:
    def on_batch_end(self, ctx: BatchEnd[Batch, str]) -> None: ...


class OfOtherAnswers:
    def on_epoch_end(self, ctx: EpochEnd) -> str: ...


class OfOtherArity:
    def on_epoch_end(self, ctx: EpochEnd, more: int) -> None: ...


class ToAnotherBatch:
    def transform_batch(self, ctx: BatchBegin[Batch], batch: Batch) -> Other: ...


class ToANumber:
    def transform_loss(self, ctx: LossReady, loss: Tensor) -> float: ...


class ToOneRate:
    def transform_rates(self, ctx: RatesDue, rates: Sequence[float]) -> float: ...


class ToWords:
    def transform_metrics(self, ctx: EvaluationEnd, metrics: Mapping[str, float]) -> Mapping[str, str]: ...


class Fine:
    def on_epoch_end(self, ctx: EpochEnd) -> None: ...


def function(ctx: EpochEnd) -> None: ...


train(model, data, step, sgd, hooks=Misspelt())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=[Misspelt()])  # E: list-item | reportArgumentType
train(model, data, step, sgd, hooks=[Fine(), [Misspelt()]])  # E: list-item | reportArgumentType
train(model, data, step, sgd, hooks=OfAnotherEvent())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=OfOtherBatches())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=[Fine(), OfOtherBatches()])  # E: list-item | reportArgumentType
train(model, data, step, sgd, hooks=OfOtherOutputs())  # E: misc | reportArgumentType
train(model, data, step, sgd, hooks=OfOtherAnswers())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=OfOtherArity())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=ToAnotherBatch())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=ToOneRate())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=ToANumber())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=ToWords())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=Fine)  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=function)  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=object())  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=5)  # E: arg-type | reportArgumentType
compose(Misspelt())  # E: arg-type | reportArgumentType
