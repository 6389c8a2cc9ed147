"""`train`, the front door."""

import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.optim import Optimizer
from typing_extensions import TypeVar

from trainhooks.core import Completed, Hooks, Interrupted, Rank, Run, Step, Stopped
from trainhooks.loop import (
    FUNCTIONS,
    Bindings,
    Live,
    Objective,
    Transfer,
    compose,
    hear,
    move,
    same_modes,
    specialise,
)

from .assembling import assemble
from .evaluations import Evaluation
from .guard import guarded
from .result import TrainResult
from .validation import (
    check_data,
    check_evaluations,
    check_model,
    check_precision,
    check_totals,
    check_words,
    device_of,
    objectives_of,
)

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
    on_interrupt: Literal["raise", "return"] = "raise",
    guard: bool = False,
    specialised: bool = True,
) -> TrainResult:
    """Train a model; what happens in which order stands in `trainhooks/loop/reference.py`.

    Args:
        model: Moved to the device; its modules' train and eval modes are afterwards what they were.
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
        device: Where to train; None for where the model's parameters are.
        transfer: `transfer(batch, device)` replaces the rule by which batches get to the device.
        seed: Seeds python, numpy (if loaded) and torch before training; None leaves the global generators alone.
        on_interrupt: What a first Ctrl-C does once the update is finished: raise KeyboardInterrupt after the end
            hooks, or return the result. A second raises at once.
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
        MutationError: in guard mode, what a hook did that it did not declare.
        KeyboardInterrupt: as `on_interrupt` says.
        BaseException: what a hook, the step or the data raised, with a note of where.
    """
    check_model(model)
    check_totals(epochs, max_updates, accumulate)
    check_words(precision, on_interrupt, seed)
    check_data(data, epochs)
    objectives = objectives_of(step, optimizer, model)
    run = Run(
        model=model, optimizers=tuple(one.optimizer for one in objectives if isinstance(one.optimizer, Optimizer)),
        device=device_of(model, device), rank=Rank(), epochs=epochs, max_updates=max_updates, accumulate=accumulate,
        precision=precision, seed=seed, run_id=uuid.uuid4().hex,
    )  # fmt: skip
    check_precision(run)
    asked = check_evaluations(evaluations, has_step=len(objectives) == 1)
    live, bindings = assemble(run, data, objectives, asked, compose(hooks), transfer or move)
    return _ended(live, bindings, on_interrupt=on_interrupt, guard=guard, specialised=specialised)


def _ended(live: Live, bindings: Bindings, *, on_interrupt: str, guard: bool, specialised: bool) -> TrainResult:
    """Run it, and say what is left."""
    hooks = guarded(bindings.hooks) if guard else bindings.hooks
    heard = hear(hooks, live.records, live.requests)
    functions = specialise(heard.events()) if specialised else FUNCTIONS
    try:
        with live.interrupts.listening(), same_modes(live.run.model):
            end = functions["run"](live, heard)
    finally:
        bindings.warn_of_the_quarantined()
    if isinstance(end, Interrupted) and on_interrupt == "raise":
        raise KeyboardInterrupt
    for reader, name in bindings.monitored():
        if name not in live.records.times:
            warnings.warn(
                f"{reader!r} reads {name!r}, which never appeared in this run; the names that did: "
                f"{', '.join(sorted(live.records.times)) or 'none'}.",
                RuntimeWarning,
                stacklevel=3,
            )
    return TrainResult(
        end=cast("Completed | Stopped | Interrupted", end), at=live.at, metrics=live.records.metrics(),
        history=live.history, hook_states=bindings.states(),
    )  # fmt: skip
