"""From checked arguments to a run that is ready to start."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trainhooks.core import Horizon, Run, Step, at_boundaries, is_due_at_epochs_alone, may_give_values
from trainhooks.loop import (
    MODEL,
    Averages,
    Bindings,
    DispatchTable,
    DueEvaluation,
    Live,
    Objective,
    Records,
    Requests,
    Source,
    Together,
    Transfer,
    bind_table,
    check_first,
    check_metrics,
    check_values,
    length_of,
    names_of_evaluation,
    names_of_training,
    transfer_of,
)

from .evaluations import Evaluation, check_evaluations
from .preparing import preparation
from .validation import check_precision


def assemble(
    run: Run, data: Iterable[Any], objectives: Sequence[Objective], evaluations: Sequence[Evaluation],
    table: DispatchTable, transfer: Transfer | None, together: Together | None, *, moves: bool,
) -> tuple[Live, Bindings]:  # fmt: skip
    """Bind hooks and evaluations to the run; warns of triggers that can never fire.

    Raises:
        MissingValueError: if a hook reads a value that nothing provides.
        RunDefinitionError: if a hook provides a value of the loop, or sets learning rates whatever another before it
            made of them; if several processes cannot put together what a metric counts.
    """
    check_precision(run)
    evaluations = check_evaluations(evaluations, run.rank.world, has_step=len(objectives) == 1)
    own = names_of_training([one.name for one in objectives]).union(
        *(names_of_evaluation(one.name, one.metrics) for one in evaluations)
    )
    awaited = check_values(table, own, _sources(objectives, evaluations))
    check_metrics(evaluations, run.rank.world)
    shared_clock = time.monotonic if together is None else together.clock
    bindings = bind_table(table, run.rank, time.monotonic, shared_clock)
    check_first(bindings.hooks.get("transform_rates", ()))
    horizon = horizon_of(run, length_of(data, run.rank))
    bindings.warn_of_the_impossible(horizon)
    live = Live(
        run=run,
        data=data,
        requests=Requests([_due(one, objectives[0].step, horizon, shared_clock) for one in evaluations]),
        prepare=preparation(objectives, bindings, moves=moves),
        awaited=awaited,
        transfer=transfer_of(transfer),
        records=Records(own, keeps="on_record" in bindings.hooks),
        averages=Averages([one.name for one in table if one.writes & MODEL and one.hooks("on_evaluation_begin")]),
        together=together,
    )
    if together is not None:
        live.interrupts = together.interrupts
        due = [keep.when for keep in bindings.keepers().values() if keep.when is not None]
        together.saves = [at_boundaries(trigger.rule, shared_clock) for trigger in due]
        together.always_reduces = any(one.may_skip and one.hooks("on_batch_begin") for one in table)
    return live, bindings


def _sources(objectives: Sequence[Objective], evaluations: Iterable[Evaluation]) -> list[Source]:
    """What may bring values whose names are not known yet."""
    steps = [one.step for one in objectives]
    found = [Source("train", gives_values=any(map(may_give_values, steps)))]
    for one in evaluations:
        gives_values = may_give_values(one.step or steps[0])
        found.append(Source(one.name, gives_values=gives_values, metrics=frozenset(one.metrics)))
    return found


def _due(
    evaluation: Evaluation, step: Step[Any, Any], horizon: Horizon, clock: Callable[[], float]
) -> DueEvaluation:
    step = evaluation.step or step
    if evaluation.when is None:
        return DueEvaluation(
            evaluation.name, evaluation.data, step, evaluation.metrics, lambda place: False, at_epochs_alone=True
        )
    rule = evaluation.when.rule
    if rule.never(horizon) and not rule.at_begin:
        warnings.warn(
            f"The evaluation {evaluation.name!r}, when={evaluation.when}, can never be due in this run.",
            RuntimeWarning,
            stacklevel=5,
        )
    due = at_boundaries(rule, clock)
    return DueEvaluation(
        evaluation.name, evaluation.data, step, evaluation.metrics, due, is_due_at_epochs_alone(rule), rule.at_begin
    )


def horizon_of(run: Run, length: int | None) -> Horizon:
    """The totals of a run by unit, as far as they are known from its arguments and the length of its data."""
    batches = None if run.epochs is None or length is None else run.epochs * length
    updates = None if run.epochs is None or length is None else run.epochs * -(-length // run.accumulate)
    most_batches = None if run.max_updates is None else run.max_updates * run.accumulate
    epochs = None if most_batches is None or not length else -(-most_batches // length)
    return {
        "updates": _least(updates, run.max_updates),
        "batches": _least(batches, most_batches),
        "epochs": _least(run.epochs, epochs),
    }


def _least(*totals: int | None) -> int | None:
    return min((one for one in totals if one is not None), default=None)
