"""The slots: `Slots` is *the* declaration of the events, everything else that lists them is compared with it.

Three prefixes, three meanings: `on_*` hears, `transform_*` replaces, `around_*` wraps.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, Never, Protocol, TypeAlias, TypedDict

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
from .settings import Settings
from .triggers import Trigger
from .values import Metrics

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)
S = TypeVar("S")
C = TypeVar("C")
A = TypeVar("A")
V = TypeVar("V")

Answers = TypeAliasType("Answers", A | Sequence[A | None] | None, type_params=(A,))
"""One answer, several in order, or none."""
Some = TypeAliasType("Some", V | Sequence[V], type_params=(V,))
"""One, or several in order."""
Hears = TypeAliasType("Hears", Some[Callable[[C], Answers[A]]], type_params=(C, A))
"""The hooks of an `on_*` slot, by their context and the answers that the event takes."""
Keeps = TypeAliasType("Keeps", Callable[[C, S], tuple[S, Answers[A]]] | None, type_params=(S, C, A))
"""The hook of an `on_*` slot that keeps a state; None for none."""
Manager: TypeAlias = AbstractContextManager[object]
"""What an `around_*` hook returns."""


class Slots(TypedDict, Generic[B, O], total=False):
    """Every event, its context and what it takes, in the order of a run."""

    on_train_loop_registration: Hears[Registration, Never]
    on_multiprocess_start: Hears[ProcessStart, Never]
    around_train: Some[Callable[[TrainBegin], Manager]]
    on_train_begin: Hears[TrainBegin, Steer]
    around_epoch: Some[Callable[[EpochBegin], Manager]]
    on_epoch_begin: Hears[EpochBegin, Steer]
    on_batch_begin: Hears[BatchBegin[B, O], Steer | SkipBatch]
    transform_batch: Some[Callable[[BatchBegin[B, O], B], B]]
    transform_rates: Some[Callable[[RatesDue, Rates], Rates]]
    transform_loss: Some[Callable[[LossReady[B, O], Tensor], Tensor]]
    on_after_backward: Hears[AfterBackward, Steer]
    on_after_gradient_update: Hears[GradientsReady, Steer | SkipUpdate]
    transform_gradients: Some[Callable[[GradientsReady, Gradients], Gradients]]
    on_after_optimizer_step: Hears[OptimizerStepped, Steer]
    on_batch_end: Hears[BatchEnd[B, O], Steer]
    around_evaluation: Some[Callable[[EvaluationBegin], Manager]]
    on_evaluation_begin: Hears[EvaluationBegin, Record]
    on_after_batch_prediction: Hears[BatchPrediction[B, O], Record]
    transform_metrics: Some[Callable[[EvaluationEnd, Metrics], Metrics]]
    on_evaluation_end: Hears[EvaluationEnd, Steer]
    on_epoch_end: Hears[EpochEnd, Steer]
    on_record: Hears[Recorded, Never]
    on_checkpoint_saved: Hears[CheckpointSaved, Record]
    on_train_end: Hears[TrainEnd, Never]


class StatefulSlots(TypedDict, Generic[S, B, O], total=False):
    """The same events for hooks that keep a state of type `S`; None for a slot without one."""

    on_train_loop_registration: Keeps[S, Registration, Never]
    on_multiprocess_start: Keeps[S, ProcessStart, Never]
    around_train: Callable[[TrainBegin, S], Manager] | None
    on_train_begin: Keeps[S, TrainBegin, Steer]
    around_epoch: Callable[[EpochBegin, S], Manager] | None
    on_epoch_begin: Keeps[S, EpochBegin, Steer]
    on_batch_begin: Keeps[S, BatchBegin[B, O], Steer | SkipBatch]
    transform_batch: Callable[[BatchBegin[B, O], B, S], tuple[S, B]] | None
    transform_rates: Callable[[RatesDue, Rates, S], tuple[S, Rates]] | None
    transform_loss: Callable[[LossReady[B, O], Tensor, S], tuple[S, Tensor]] | None
    on_after_backward: Keeps[S, AfterBackward, Steer]
    on_after_gradient_update: Keeps[S, GradientsReady, Steer | SkipUpdate]
    transform_gradients: Callable[[GradientsReady, Gradients, S], tuple[S, Gradients]] | None
    on_after_optimizer_step: Keeps[S, OptimizerStepped, Steer]
    on_batch_end: Keeps[S, BatchEnd[B, O], Steer]
    around_evaluation: Callable[[EvaluationBegin, S], Manager] | None
    on_evaluation_begin: Keeps[S, EvaluationBegin, Record]
    on_after_batch_prediction: Keeps[S, BatchPrediction[B, O], Record]
    transform_metrics: Callable[[EvaluationEnd, Metrics, S], tuple[S, Metrics]] | None
    on_evaluation_end: Keeps[S, EvaluationEnd, Steer]
    on_epoch_end: Keeps[S, EpochEnd, Steer]
    on_record: Keeps[S, Recorded, Never]
    on_checkpoint_saved: Keeps[S, CheckpointSaved, Record]
    on_train_end: Keeps[S, TrainEnd, Never]


class Names(Protocol):
    """Any collection of strings but a string, whose `in` asks for strings alone."""

    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...


class Keys(TypedDict, total=False):
    """What a hook set says of itself besides its hooks; see `HookSet`."""

    name: str
    order: int
    before: Names
    after: Names
    reads: Names
    provides: Names
    writes: Names
    ranks: Collection[int] | None
    devices: Collection[int] | None
    may_skip: bool
    collective: bool
    governs: Names | None
    when: Trigger | None
    quarantined: bool
    timed: bool
    settings: Settings | None


class HookDict(Slots[B, O], Keys, Generic[B, O], total=False):
    """A hook set as a dict of functions: `{"on_batch_end": f}`. An unknown key is a type error."""
