"""`train`, the front door."""

import signal
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn
from torch.optim import Optimizer
from typing_extensions import TypeVar

from trainhooks.core import Completed, Hooks, Interrupted, Run, Step, Stopped
from trainhooks.data import shielded
from trainhooks.distributed import Parallel, is_restarted_by_a_launcher
from trainhooks.loop import (
    FUNCTIONS,
    Bindings,
    DispatchTable,
    Live,
    Objective,
    Together,
    Transfer,
    compose,
    hear,
    same_modes,
    specialise,
    stepping_on_bases,
)
from trainhooks.store import Experiment

from .assembling import assemble
from .evaluations import Evaluation
from .joining import exit_code, meet
from .result import TrainResult
from .reuse import refuse_reuse, taking
from .validation import (
    check_data,
    check_experiment,
    check_totals,
    check_trainable,
    check_words,
    device_of,
    objectives_of,
)

if TYPE_CHECKING:
    from trainhooks.checkpoint import CheckpointSaver, Start

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)


def train(
    model: nn.Module,
    data: Iterable[B],
    step: Step[B, O] | None,
    optimizer: Optimizer | Callable[[nn.Module], Optimizer] | Sequence[Objective] | None = None,
    *,
    epochs: int | None = None,
    max_updates: int | None = None,
    hooks: Hooks[B, O] = (),
    evaluations: Sequence[Evaluation] = (),
    accumulate: int = 1,
    precision: Literal["float32", "bf16-mixed", "fp16-mixed"] = "float32",
    device: torch.device | str | int | None = None,
    transfer: Transfer | None = None,
    seed: int | None = None,
    experiment: Experiment | None = None,
    resume: Literal["never", "auto", "must"] | int = "never",
    parallel: Parallel | None = None,
    on_interrupt: Literal["raise", "return"] = "raise",
    guard: bool = False,
    specialised: bool = True,
) -> TrainResult:
    """Train a model; what happens in which order stands in `trainhooks/loop/reference.py`.

    Args:
        model: Moved to `device` if that is given, and put in train mode by its `train()`. Modules that are in eval mode
            while the root and others are in train mode stay so, with a warning. Afterwards the modes of all are what
            they were.
        data: Batches, iterated anew in each epoch. Without `len()` it is read until it ends.
        step: `step(model, batch)` returns a 0-d loss or a `StepOutput`; see `supervised`. None with objectives.
        optimizer: An optimizer, a function of the model that makes one once it is on its device, or a list of
            objectives, which run in order on each batch.
        epochs: Total count of epochs.
        max_updates: Total count of optimizer updates. With `epochs` too, whichever comes first ends the run.
        hooks: A `HookSet`, a dict of functions by event, an object with methods named like events, or any nesting of
            sequences of these.
        evaluations: What to evaluate, and when.
        accumulate: Batches that make up one update; the gradient is that of the mean over all their items.
        precision: "float32", or autocast around each step, in training and evaluations, with parameters in float32:
            "bf16-mixed", or "fp16-mixed", which also scales the loss and skips an update whose gradients overflow.
        device: Where to train. None leaves the model where it is, also if its parts are on several devices; batches
            go to where its first parameter is.
        transfer: `transfer(batch, device)` replaces the rule by which batches get to the device.
        seed: Seeds python, numpy (if loaded) and torch before training; None leaves the global generators alone.
        experiment: Where checkpoints go, and under which name; a hook such as `trainhooks.hooks.checkpoint` says when.
        resume: "never" begins afresh. "auto" goes on from the newest whole checkpoint of the experiment, and begins
            afresh only if there is none; "must" is refused then. An update count goes on from there. The run goes on as
            if it had never stopped, within an epoch if the data can do that (`trainhooks.data.seeded_loader`, or a
            loader with `state_dict`), else where an epoch ended. `epochs` and `max_updates` stay total counts.
        parallel: `ddp()` or `fsdp()` in a program that torchrun or `launch` starts as several processes, each of which
            calls this; the same program started as one process trains alone. The process group stays as it is
            afterwards, and a sharded model sharded.
        on_interrupt: What a first Ctrl-C or SIGTERM does once the update is finished: raise after the end hooks
            (KeyboardInterrupt; SystemExit with code 143, or 0 under torchrun, which takes any other for a failure, with
            a file `PREEMPTED` in the run's folder until the run goes on), or return the result. A second Ctrl-C raises
            at once. Over processes it is enough that one of them gets the signal.
        guard: Whether to look, around each call of a hook, for changes in place that its `writes` do not declare, and
            for draws from global random streams: slow, for finding faults. `trainhooks/run/guard.py` says what it
            cannot see.
        specialised: Whether to run the loop without what nobody hears; False runs it as it stands, with equal results.

    Raises:
        RunDefinitionError: if the arguments contradict one another, or an epoch's data gives no batch.
        HookDefinitionError: if a hook, a step or an answer does not have the right form.
        OrderCycleError: if the orders and constraints of hooks contradict one another.
        DuplicateHookNameError: if two stateful hook sets have one name.
        MissingValueError: if a hook reads a value that nothing provides.
        NoExperimentError: if a hook saves, or `resume` asks to go on, and there is no experiment.
        ResumeError: if `resume` asks for what is not there, or something changed that cannot change within a run.
        CheckpointError: if a checkpoint cannot be written, at the next boundary.
        MutationError: in guard mode, what a hook did that it did not declare.
        KeyboardInterrupt: as `on_interrupt` says; SystemExit too.
        BaseException: what a hook, the step or the data raised, with a note of where.
    """
    check_trainable(model)
    epochs, max_updates, accumulate = check_totals(epochs, max_updates, accumulate)
    seed = check_words(precision, on_interrupt, seed, parallel)
    check_data(data, transfer, epochs, alone=parallel is None)
    table = compose(hooks)
    resume = check_experiment(experiment, resume, data, table)
    objectives = objectives_of(step, optimizer, model)
    rank, place, together = meet(parallel, objectives, device_of(model, device), given=device)
    start = _start_of(experiment, resume, data, accumulate, place, together)
    run = Run(
        model=model, optimizers=tuple(one.optimizer for one in objectives if isinstance(one.optimizer, Optimizer)),
        device=place, rank=rank, epochs=epochs, max_updates=max_updates, accumulate=accumulate, precision=precision,
        seed=seed, experiment=experiment, run_id=start.run_id if start else _new_id(together),
    )  # fmt: skip
    live, bindings = assemble(run, data, objectives, evaluations, table, transfer, together, moves=device is not None)
    saver = _saver_of(live, bindings, table, start, objectives)
    return _ended(live, bindings, saver, on_interrupt=on_interrupt, guard=guard, specialised=specialised)


def _new_id(together: Together | None) -> str:
    own = uuid.uuid4().hex
    return own if together is None else together.ranks.from_first(lambda: own)


def _start_of(
    experiment: Experiment | None, resume: Any, data: Iterable[Any], accumulate: int, device: torch.device,
    together: Together | None,
) -> "Start | None":  # fmt: skip
    if experiment is None:
        return None
    from .saving import start_of  # a run that saves nothing does not load what saves

    return start_of(experiment, resume, data, accumulate, device, None if together is None else together.ranks)


def _saver_of(
    live: Live, bindings: Bindings, table: DispatchTable, start: "Start | None", objectives: Sequence[Objective]
) -> "CheckpointSaver | None":
    """What saves the run, if it has an experiment. Hook objects that were in another run are refused before."""
    saved, saver = frozenset[str](), None
    if start is not None:
        from .saving import saved_hooks

        saved = saved_hooks(start, live.run.rank)
    refuse_reuse(bindings, live.run.run_id, saved)
    if start is not None:
        from .saving import tie

        saver = tie(live, bindings, table, start, [one.name for one in objectives])
    live.prepare = taking(live.prepare, bindings)
    return saver


def _ended(
    live: Live, bindings: Bindings, saver: "CheckpointSaver | None", *, on_interrupt: str, guard: bool,
    specialised: bool,
) -> TrainResult:  # fmt: skip
    """Run it, and say what is left."""
    hooks = bindings.hooks
    if guard:
        from .guard import guarded  # a run without it does not load it

        hooks = guarded(hooks)
    heard = hear(stepping_on_bases(hooks, lambda: live.rates), live.records, live.requests, live.together)
    functions = specialise(heard.events()) if specialised else FUNCTIONS
    read = (live.data, *(one.data for one in live.requests.evaluations))
    try:
        with live.interrupts.listening(), shielded(*read), same_modes(live.run.model), _gradients_on():
            end = functions["run"](live, heard)
            _leave_word(live, end, saver)
    finally:
        for worker in live.workers:
            worker.quick.unwatch()
        bindings.warn_of_the_quarantined()
        if saver is not None:
            saver.close()
    # One that came after the last boundary ended nothing any more, and is passed on all the same.
    signalled = end.signal if isinstance(end, Interrupted) else live.interrupts.signal
    if signalled is not None and on_interrupt == "raise":
        raise KeyboardInterrupt if signalled == signal.SIGINT else SystemExit(exit_code(signalled))
    for reader, name in bindings.monitored() if live.at.epochs else ():
        if name not in live.records.times:
            warnings.warn(
                f"{reader!r} reads {name!r}, which never appeared in this run; the names that did: "
                f"{', '.join(sorted(live.records.times)) or 'none'}.",
                RuntimeWarning,
                stacklevel=3,
            )
    return TrainResult(
        end=cast("Completed | Stopped | Interrupted", end), at=live.at, metrics=live.records.metrics(),
        history=live.history, hook_states=bindings.states(), hook_times=bindings.times(),
        checkpoints=saver.kept() if saver else (),
    )  # fmt: skip


def _gradients_on() -> AbstractContextManager[None]:
    """Training needs gradients, also where its caller, such as a hook of an evaluation, does without."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else torch.enable_grad()


def _leave_word(live: Live, end: object, saver: "CheckpointSaver | None") -> None:
    """Mark a run that SIGTERM ended under torchrun, where the exit code 0 would say that it is complete."""
    if isinstance(end, Interrupted) and end.signal == signal.SIGTERM and is_restarted_by_a_launcher():
        if saver is not None and live.run.rank.index == 0:
            from trainhooks.checkpoint import mark_preempted

            facts = {"signal": end.signal, "step": live.at.updates, "attempt": saver.attempt.number}
            mark_preempted(saver.folder, facts)
