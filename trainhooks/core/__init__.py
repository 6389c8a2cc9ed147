"""The words and the algebra: contexts, answers, hook sets, their order, triggers and wrappers. No clock, no I/O."""

from .answers import (
    Answer,
    Asked,
    Decision,
    EndEpoch,
    Evaluate,
    Record,
    Save,
    SkipBatch,
    SkipUpdate,
    Steer,
    Stop,
    decide,
)
from .batches import (
    AfterBackward,
    BatchBegin,
    BatchEnd,
    BatchPrediction,
    GradientsReady,
    LossReady,
    OptimizerStepped,
)
from .binding import Entry, Hook, Scope, bind
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
from .definitions import definition_of, name_of
from .endings import Completed, End, Failed, Interrupted, Stopped
from .events import EVENTS, EventSpec, since_then
from .hookset import WRITABLE, Hooks, HookSet, flatten, spec_of
from .objects import HookObject
from .ordering import Arrangement, arrange
from .progress import Progress, Rank, Unit
from .rules import Condition, Horizon
from .run import Run
from .slots import Answers, Gradients, HookDict, Manager, Slots, StatefulSlots
from .stateful import needs_begin, stateful
from .steps import Step, StepOutput
from .triggers import Trigger, at_points, every, every_seconds, since, until
from .values import Metrics, Values
from .wrappers import fenced, for_device, for_rank, guards_of, named, ordered, quarantine, when

__all__ = [
    "AfterBackward",
    "Answer",
    "Answers",
    "Arrangement",
    "Asked",
    "BatchBegin",
    "BatchEnd",
    "BatchPrediction",
    "CheckpointSaved",
    "Completed",
    "Condition",
    "Decision",
    "EVENTS",
    "End",
    "EndEpoch",
    "Entry",
    "EpochBegin",
    "EpochEnd",
    "Evaluate",
    "EvaluationBegin",
    "EvaluationEnd",
    "EventSpec",
    "Failed",
    "Gradients",
    "GradientsReady",
    "Hook",
    "HookDict",
    "HookObject",
    "HookSet",
    "Hooks",
    "Horizon",
    "Interrupted",
    "LossReady",
    "Manager",
    "Metrics",
    "OptimizerStepped",
    "ProcessStart",
    "Progress",
    "Rank",
    "Record",
    "Recorded",
    "Registration",
    "Run",
    "Save",
    "Scope",
    "SkipBatch",
    "SkipUpdate",
    "Slots",
    "StatefulSlots",
    "Steer",
    "Step",
    "StepOutput",
    "Stop",
    "Stopped",
    "TrainBegin",
    "TrainEnd",
    "Trigger",
    "Unit",
    "Values",
    "WRITABLE",
    "arrange",
    "at_points",
    "bind",
    "decide",
    "definition_of",
    "every",
    "every_seconds",
    "fenced",
    "flatten",
    "for_device",
    "for_rank",
    "guards_of",
    "name_of",
    "named",
    "needs_begin",
    "ordered",
    "quarantine",
    "since",
    "since_then",
    "spec_of",
    "stateful",
    "until",
    "when",
]
