"""One Protocol per event, so that type checkers know a hook object by its methods.

An object with one right method and one whose name is nearly right satisfies these; that is found when it is composed.
"""

from contextlib import AbstractContextManager
from typing import Any, Never, Protocol

from torch import Tensor
from typing_extensions import TypeAliasType, TypeVar

from .answers import Record, SkipBatch, SkipUpdate, Steer
from .batches import (
    AfterBackward,
    BatchBegin,
    BatchEnd,
    BatchPrediction,
    Gradients,
    GradientsReady,
    LossReady,
    OptimizerStepped,
    Rates,
    RatesDue,
)
from .contexts import (
    CheckpointSaved,
    EpochBegin,
    EpochEnd,
    EvaluationBegin,
    EvaluationEnd,
    ProcessStart,
    Recorded,
    Registration,
    TrainBegin,
    TrainEnd,
)
from .slots import Answers
from .values import Metrics

B_in = TypeVar("B_in", contravariant=True, default=Any)
O_in = TypeVar("O_in", contravariant=True, default=Any)
B_io = TypeVar("B_io", default=Any)
B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)


class OnTrainLoopRegistration(Protocol):
    def on_train_loop_registration(self, ctx: Registration, /) -> Answers[Never]: ...


class OnMultiprocessStart(Protocol):
    def on_multiprocess_start(self, ctx: ProcessStart, /) -> Answers[Never]: ...


class AroundTrain(Protocol):
    def around_train(self, ctx: TrainBegin, /) -> AbstractContextManager[object]: ...


class OnTrainBegin(Protocol):
    def on_train_begin(self, ctx: TrainBegin, /) -> Answers[Steer]: ...


class AroundEpoch(Protocol):
    def around_epoch(self, ctx: EpochBegin, /) -> AbstractContextManager[object]: ...


class OnEpochBegin(Protocol):
    def on_epoch_begin(self, ctx: EpochBegin, /) -> Answers[Steer]: ...


class OnBatchBegin(Protocol[B_in, O_in]):
    def on_batch_begin(self, ctx: BatchBegin[B_in, O_in], /) -> Answers[Steer | SkipBatch]: ...


class TransformBatch(Protocol[B_io, O_in]):
    def transform_batch(self, ctx: BatchBegin[B_io, O_in], batch: B_io, /) -> B_io: ...


class TransformRates(Protocol):
    def transform_rates(self, ctx: RatesDue, rates: Rates, /) -> Rates: ...


class TransformLoss(Protocol[B_in, O_in]):
    def transform_loss(self, ctx: LossReady[B_in, O_in], loss: Tensor, /) -> Tensor: ...


class OnAfterBackward(Protocol):
    def on_after_backward(self, ctx: AfterBackward, /) -> Answers[Steer]: ...


class OnAfterGradientUpdate(Protocol):
    def on_after_gradient_update(self, ctx: GradientsReady, /) -> Answers[Steer | SkipUpdate]: ...


class TransformGradients(Protocol):
    def transform_gradients(self, ctx: GradientsReady, gradients: Gradients, /) -> Gradients: ...


class OnAfterOptimizerStep(Protocol):
    def on_after_optimizer_step(self, ctx: OptimizerStepped, /) -> Answers[Steer]: ...


class OnBatchEnd(Protocol[B_in, O_in]):
    def on_batch_end(self, ctx: BatchEnd[B_in, O_in], /) -> Answers[Steer]: ...


class AroundEvaluation(Protocol):
    def around_evaluation(self, ctx: EvaluationBegin, /) -> AbstractContextManager[object]: ...


class OnEvaluationBegin(Protocol):
    def on_evaluation_begin(self, ctx: EvaluationBegin, /) -> Answers[Record]: ...


class OnAfterBatchPrediction(Protocol[B_in, O_in]):
    def on_after_batch_prediction(self, ctx: BatchPrediction[B_in, O_in], /) -> Answers[Record]: ...


class TransformMetrics(Protocol):
    def transform_metrics(self, ctx: EvaluationEnd, metrics: Metrics, /) -> Metrics: ...


class OnEvaluationEnd(Protocol):
    def on_evaluation_end(self, ctx: EvaluationEnd, /) -> Answers[Steer]: ...


class OnEpochEnd(Protocol):
    def on_epoch_end(self, ctx: EpochEnd, /) -> Answers[Steer]: ...


class OnRecord(Protocol):
    def on_record(self, ctx: Recorded, /) -> Answers[Never]: ...


class OnCheckpointSaved(Protocol):
    def on_checkpoint_saved(self, ctx: CheckpointSaved, /) -> Answers[Record]: ...


class OnTrainEnd(Protocol):
    def on_train_end(self, ctx: TrainEnd, /) -> Answers[Never]: ...


HookObject = TypeAliasType(
    "HookObject",
    OnTrainLoopRegistration
    | OnMultiprocessStart
    | AroundTrain
    | OnTrainBegin
    | AroundEpoch
    | OnEpochBegin
    | OnBatchBegin[B, O]
    | TransformBatch[B, O]
    | TransformRates
    | TransformLoss[B, O]
    | OnAfterBackward
    | OnAfterGradientUpdate
    | TransformGradients
    | OnAfterOptimizerStep
    | OnBatchEnd[B, O]
    | AroundEvaluation
    | OnEvaluationBegin
    | OnAfterBatchPrediction[B, O]
    | TransformMetrics
    | OnEvaluationEnd
    | OnEpochEnd
    | OnRecord
    | OnCheckpointSaved
    | OnTrainEnd,
    type_params=(B, O),
)
"""An object with a method named like an event."""
