"""`Heard`: what a run hears, one callable per event. The one place where the types of hooks are erased."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from operator import length_hint
from typing import Any, NoReturn, TypeAlias, TypeVar, cast, final

from attrs import evolve, frozen
from torch import Tensor

from trainhooks.core import (
    EVENTS,
    AfterBackward,
    Asked,
    BatchBegin,
    BatchEnd,
    BatchPrediction,
    Bound,
    CheckpointSaved,
    EpochBegin,
    EpochEnd,
    EvaluationBegin,
    EvaluationEnd,
    EventSpec,
    Gradients,
    GradientsReady,
    Hook,
    HookSet,
    LossReady,
    Metrics,
    OptimizerStepped,
    ProcessStart,
    Progress,
    Rates,
    RatesDue,
    Record,
    Recorded,
    Registration,
    SkipBatch,
    SkipUpdate,
    TrainBegin,
    TrainEnd,
)
from trainhooks.errors import HookDefinitionError, shown

from .around import Around, locate
from .records import Records
from .replacing import replaced
from .requests import Requests
from .together import Together

C = TypeVar("C")
V = TypeVar("V")
Hears: TypeAlias = Callable[[C], Sequence[Asked]]
Wraps: TypeAlias = Callable[[C], AbstractContextManager[object]]


@final
@frozen(eq=False)
class Heard:
    """One callable per event that somebody hears; None for the others."""

    on_train_loop_registration: Hears[Registration] | None = None
    on_multiprocess_start: Hears[ProcessStart] | None = None
    around_train: Wraps[TrainBegin] | None = None
    on_train_begin: Hears[TrainBegin] | None = None
    around_epoch: Wraps[EpochBegin] | None = None
    on_epoch_begin: Hears[EpochBegin] | None = None
    on_batch_begin: Hears[BatchBegin] | None = None
    transform_batch: Callable[[BatchBegin, Any], Any] | None = None
    transform_rates: Callable[[RatesDue, Rates], Rates] | None = None
    transform_loss: Callable[[LossReady, Tensor], Tensor] | None = None
    on_after_backward: Hears[AfterBackward] | None = None
    on_after_gradient_update: Hears[GradientsReady] | None = None
    transform_gradients: Callable[[GradientsReady, Gradients], Gradients] | None = None
    on_after_optimizer_step: Hears[OptimizerStepped] | None = None
    on_batch_end: Hears[BatchEnd] | None = None
    around_evaluation: Wraps[EvaluationBegin] | None = None
    on_evaluation_begin: Hears[EvaluationBegin] | None = None
    on_after_batch_prediction: Hears[BatchPrediction] | None = None
    transform_metrics: Callable[[EvaluationEnd, Metrics], Metrics] | None = None
    on_evaluation_end: Hears[EvaluationEnd] | None = None
    on_epoch_end: Hears[EpochEnd] | None = None
    on_record: Hears[Recorded] | None = None
    on_checkpoint_saved: Hears[CheckpointSaved] | None = None
    on_train_end: Callable[[TrainEnd], Sequence[BaseException]] | None = None

    def events(self) -> frozenset[str]:
        """The events that somebody hears."""
        return frozenset(event for event in EVENTS if getattr(self, event) is not None)


def hear(
    hooks: Mapping[str, Sequence[Bound]], records: Records, requests: Requests, together: Together | None = None
) -> Heard:
    """What is heard, given the bound hooks of each event in their order, and where their answers go."""
    events = [
        _Event(EVENTS[event], tuple(bound), records, requests, together) for event, bound in hooks.items() if bound
    ]
    heard = {one.spec.name: _one_callable(one) for one in events}
    return Heard(**cast("dict[str, Any]", heard))


def _one_callable(event: "_Event") -> Hook:
    spec, bound = event.spec, event.bound
    if spec.kind == "around":
        return partial(Around, spec, bound)
    if spec.kind == "transform":
        return event.fold
    if spec.name == "on_train_end":
        return event.call_each
    if spec.name in ("on_epoch_end", "on_evaluation_end") and any(one.owner.reads for one in bound):
        return event.call_with_views
    return event.call_and_agree() if event.may_skip() else event.call_all()


@final
@frozen(eq=False)
class _Event:
    spec: EventSpec
    bound: tuple[Bound, ...]
    records: Records
    requests: Requests
    together: Together | None

    def may_skip(self) -> bool:
        """Whether the ranks must agree on skipping at once."""
        takes = SkipBatch in self.spec.answers or SkipUpdate in self.spec.answers
        return self.together is not None and takes and any(one.owner.may_skip for one in self.bound)

    def call_and_agree(self) -> Hears[Any]:
        """Call every hook; their answers, and that a hook of another rank asks to skip."""
        assert self.together is not None
        call = self.call_all()
        names = [one.owner.name for one in self.bound if one.owner.may_skip]
        agreed = self.together.skips(names, SkipBatch if SkipBatch in self.spec.answers else SkipUpdate)
        return lambda ctx: agreed(call(ctx))

    def call_all(self) -> Hears[Any]:
        """Call every hook; their answers, in order."""
        bound, hooks = self.bound, tuple(one.call for one in self.bound)

        def call_all(ctx: Any) -> Sequence[Asked]:
            asked: Sequence[Asked] = ()
            left = iter(hooks)  # how many are left says whose turn it is
            try:
                for hook in left:
                    answer = hook(ctx)
                    if answer is not None:
                        asked = (*asked, *self.answers(bound[-1 - length_hint(left)].owner, answer, ctx))
            except BaseException as error:
                locate(error, bound[-1 - length_hint(left)], self.spec, ctx)
                raise
            return asked

        return call_all

    def call_with_views(self, ctx: Any) -> Sequence[Asked]:
        """Call every hook with the metrics that it may see: what was recorded just now is already there."""
        asked: list[Asked] = []
        for one in self.bound:
            if self.together is not None:
                self.records.share(self.together.ranks, one.owner.reads)
            try:
                answer = one.call(evolve(ctx, metrics=self.records.view(ctx, one.owner)))
                if answer is not None:
                    asked += self.answers(one.owner, answer, ctx)
            except BaseException as error:
                locate(error, one, self.spec, ctx)
                raise
        return asked

    def call_each(self, ctx: TrainEnd) -> Sequence[BaseException]:
        """Call every hook, whatever the others raise; what they raised."""
        raised: list[BaseException] = []
        for one in self.bound:
            try:
                answer = one.call(ctx)
                if answer is not None:
                    self.answers(one.owner, answer, ctx)
            except BaseException as error:
                locate(error, one, self.spec, ctx)
                raised.append(error)
        return raised

    def fold(self, ctx: Any, value: Any) -> Any:
        """Pass the value through every transform."""
        own = self.records.own
        for one in self.bound:
            try:
                value = replaced(self.spec.name, one.owner.name, one.call(ctx, value), value, ctx, own)
            except BaseException as error:
                locate(error, one, self.spec, ctx)
                raise
            if isinstance(ctx, GradientsReady) and ctx.untouched and len(self.bound) > 1:
                ctx = ctx.after_a_transform()
        return value

    def answers(self, owner: HookSet, answer: object, ctx: Any) -> list[Asked]:
        """What a hook asks for, checked; its records are taken in at once."""
        asked: list[Asked] = []
        for one in cast("Sequence[object]", answer) if isinstance(answer, list | tuple) else (answer,):
            if one is None:  # of a list
                continue
            if not isinstance(one, self.spec.answers):
                kinds = " | ".join(kind.__name__ for kind in self.spec.answers) or "nothing"
                raise HookDefinitionError(
                    f"{owner.name!r} answered {shown(one)} to {self.spec.name}, which takes {kinds}. Return one of "
                    "these, a list of them, or None."
                )
            if isinstance(one, Record):
                since, until = covered(ctx, self.spec) if self.records.keeps else (ctx.at, None)  # else nobody sees it
                self.records.take(owner.name, one, ctx, since, until)
            else:
                if self.together is not None and isinstance(one, SkipBatch | SkipUpdate) and not owner.may_skip:
                    _refuse_skip(owner.name, one)
                self.requests.check(owner.name, one)
                asked.append(Asked(owner.name, one))
        return asked


def _refuse_skip(by: str, answer: SkipBatch | SkipUpdate) -> NoReturn:
    raise HookDefinitionError(
        f"{by!r} answered {answer!r}. In a run of several processes all must skip together, which costs an exchange at "
        f"each of these events, so the set says that it may: HookSet(name={by!r}, may_skip=True, ...)."
    )


def covered(ctx: Any, spec: EventSpec) -> tuple[Progress, Progress | None]:
    """When the interval began that an event covers, and when it ends; None for now."""
    at: Progress = ctx.at
    if spec.context is BatchEnd and ctx.updated == ctx.closes_window:  # what is recorded most
        return Progress(at.updates - ctx.updated, at.batches - 1, at.epochs, at.epoch, at.batch), None
    span, epochs = spec.interval.span, getattr(ctx, "since", at).epochs
    updates, batches = span(ctx, "updates"), span(ctx, "batches")
    since = Progress(updates[0], batches[0], epochs, at.epoch, at.batch)
    if updates[1] == at.updates and batches[1] == at.batches:
        return since, None
    return since, Progress(updates[1], batches[1], at.epochs, at.epoch, at.batch)
