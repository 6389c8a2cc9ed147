"""Refusing what cannot be trained on, before anything moves."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from trainhooks.core import HookSet, Run, Step, definition_of, named_parameters, refusal_of_call, whole_number
from trainhooks.data import check_batches
from trainhooks.errors import HookDefinitionError, NoExperimentError, RunDefinitionError, shown
from trainhooks.loop import AUTOCAST, Objective, length_of
from trainhooks.store import Experiment

from .optimizers import check_optimizer, check_shares_parameters

_PRECISIONS = ("float32", "bf16-mixed", "fp16-mixed")
_INTERRUPT = ("raise", "return")
_OF_ITERATORS = ("builtins", "itertools", "torch.utils.data.dataloader")
_RESUME = ("never", "auto", "must")
_Resume: TypeAlias = Literal["never", "auto", "must"] | int


def check_totals(epochs: object, max_updates: object, accumulate: object) -> tuple[int | None, int | None, int]:
    """These counts as ints; a run without an end, and counts that are none, are refused."""
    total_epochs = None if epochs is None else _count("epochs", epochs, 0)
    total_updates = None if max_updates is None else _count("max_updates", max_updates, 0)
    if epochs is None and max_updates is None:
        raise RunDefinitionError("A run needs an end: give epochs=, max_updates=, or both.")
    return total_epochs, total_updates, _count("accumulate", accumulate, 1)


def _count(name: str, value: object, least: int) -> int:
    count = whole_number(value, least)
    if count is None:
        raise RunDefinitionError(f"{name} is a whole number from {least} on, got {shown(value)}.")
    return count


def check_words(precision: object, on_interrupt: object, seed: object, parallel: object) -> int | None:
    """The seed as an int, or None; words that are none of those that we know, and what stands for one, are refused."""
    if not isinstance(precision, str) or precision not in _PRECISIONS:
        raise RunDefinitionError(f"precision is {_listed(_PRECISIONS)}, got {shown(precision)}.")
    if not isinstance(on_interrupt, str) or on_interrupt not in _INTERRUPT:
        raise RunDefinitionError(f"on_interrupt is {_listed(_INTERRUPT)}, got {shown(on_interrupt)}.")
    if parallel is not None and (isinstance(parallel, type) or not callable(getattr(parallel, "wrap", None))):
        raise RunDefinitionError(f"parallel is ddp(), fsdp(), or None for one process, got {shown(parallel)}.")
    number = whole_number(seed)
    if seed is not None and number is None:
        raise RunDefinitionError(f"seed is a whole number or None, got {shown(seed)}.")
    return number


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"


def check_transfer(transfer: object) -> None:
    """Refuse what is no function of a batch and a device."""
    if transfer is None:
        return
    if not callable(transfer):
        raise RunDefinitionError(
            "transfer is a function that gives the batch on the device, transfer=lambda batch, device: ..., or None; "
            f"got {shown(transfer)}. Where to train says device=."
        )
    if (why := refusal_of_call(transfer, 2)) is not None:
        raise RunDefinitionError(
            f"transfer is called as (batch, device), but {definition_of(transfer)} cannot be called so: {why}."
        )


def check_model(model: object) -> None:
    """Refuse what is no model."""
    if not isinstance(model, nn.Module):
        raise RunDefinitionError(f"model is a torch.nn.Module, got {shown(model)}.")


def check_trainable(model: nn.Module) -> None:
    """Refuse what is no model, and parameters that autograd never tracks."""
    check_model(model)
    parameters = ((name, one) for name, one in model.named_parameters() if not isinstance(one, UninitializedParameter))
    frozen = [name for name, one in parameters if one.is_inference()]
    if frozen:
        raise RunDefinitionError(
            f"The parameter {frozen[0]!r} was made under torch.inference_mode(), so it cannot be trained; make the "
            "model outside of it, or clone its parameters there."
        )


def check_data(data: object, transfer: object, epochs: int | None, *, alone: bool) -> None:
    """Refuse data that is empty, gives no batches, or is used up before the run is over; it is not iterated for that.

    Where other processes may have data, an empty share is no error.
    """
    check_transfer(transfer)
    check_iterable(data, "The data")
    if alone and length_of(data) == 0:
        raise RunDefinitionError("The data has length 0; train needs at least one batch.")
    if epochs is not None and epochs > 1 and is_one_shot(data):
        raise RunDefinitionError(
            f"The data is one-shot (a {type(data).__name__}) and epochs={epochs}: it would be used up after the first. "
            "Give something that can be iterated again, such as a list or a DataLoader, or epochs=1."
        )


def check_iterable(data: object, what: str) -> None:
    """Refuse data that cannot be iterated, or gives no batches then; `what` names it."""
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise RunDefinitionError(
            f"{what} is something to iterate over, such as a DataLoader or a list, got {shown(data)}."
        )
    check_batches(what, data)


def check_experiment(experiment: object, resume: _Resume, data: object, sets: Iterable[HookSet]) -> _Resume:
    """Refuse what saves or goes on without an experiment, and data that can never go on.

    Returns:
        `resume`, a count as an int.

    Raises:
        NoExperimentError: if there is no experiment where one is needed.
        RunDefinitionError: if `resume` is none of its words, or the data is used up when the run would go on.
    """
    if experiment is not None and not isinstance(experiment, Experiment):
        raise RunDefinitionError(f"experiment is an Experiment(project=..., name=...), got {shown(experiment)}.")
    count = whole_number(resume, 0)
    if count is None and not (isinstance(resume, str) and resume in _RESUME):
        raise RunDefinitionError(f"resume is {_listed(_RESUME)}, or an update count from 0 on, got {shown(resume)}.")
    if resume != "never" and is_one_shot(data):
        raise RunDefinitionError(
            f"The data is one-shot (a {type(data).__name__}), so resume={resume!r} cannot find its place in it again. "
            "Give something that can be iterated again, such as trainhooks.data.seeded_loader(...), or resume='never'."
        )
    if experiment is None:
        savers = [repr(one.name) for one in sets if one.keeps is not None]
        asks = f"resume={shown(resume)} asks to go on" if resume != "never" else f"{savers[0]} saves" if savers else ""
        if asks:
            raise NoExperimentError(
                f"{asks}, but the run has no experiment; write train(..., experiment=Experiment(project=..., "
                "name=...))."
            )
    return resume if count is None else count


def is_one_shot(data: object) -> bool:
    """Whether `data` is known to be used up after one iteration: a generator, `zip`, an iterator of a `DataLoader`."""
    return type(data).__module__ in _OF_ITERATORS and isinstance(data, Iterator)


def objectives_of(step: Step[Any, Any] | None, optimizer: object, model: nn.Module) -> tuple[Objective, ...]:
    """What is minimised, as objectives; a single step and optimizer are the objective `"loss"`."""
    if isinstance(optimizer, Sequence):
        objectives = _several(step, cast("Sequence[object]", optimizer))
    else:
        objectives = (_single(step, optimizer),)
    for one in objectives:
        if isinstance(one.optimizer, Optimizer):
            check_shares_parameters(one.optimizer, model)
    return objectives


def _single(step: Step[Any, Any] | None, optimizer: Any) -> Objective:
    if step is None or optimizer is None:
        raise RunDefinitionError(
            "A run needs a step and an optimizer, train(model, data, step, optimizer, ...), or objectives: "
            "train(model, data, None, [Objective(name, step, optimizer), ...], ...)."
        )
    if isinstance(optimizer, Objective):
        raise RunDefinitionError("Objectives come in a list: write optimizer=[Objective(name, step, optimizer)].")
    check_step(step)
    check_optimizer(optimizer)
    return Objective("loss", step, optimizer)


def _several(step: object, objectives: Sequence[object]) -> tuple[Objective, ...]:
    if step is not None:
        raise RunDefinitionError("Objectives bring their own steps; write step=None, or give one optimizer.")
    if not objectives:
        raise RunDefinitionError("The list of objectives is empty; give at least one Objective(name, step, optimizer).")
    found: dict[str, Objective] = {}
    for one in objectives:
        if not isinstance(one, Objective):
            raise RunDefinitionError(
                f"A list given as optimizer= holds Objective(name, step, optimizer), got {shown(one)}."
            )
        if one.name in found:
            raise RunDefinitionError(f"Two objectives are named {one.name!r}; their losses are recorded by name.")
        check_step(one.step)
        check_optimizer(one.optimizer)
        found[one.name] = one
    return tuple(found.values())


def check_step(step: object, whose: str = "", gives: str = "loss") -> None:
    """Refuse what is no step; `whose` goes on after the word step, `gives` is what it returns."""
    if isinstance(step, type):
        raise HookDefinitionError(f"The step{whose} is the class {step.__qualname__}; give an object, or a function.")
    if not callable(step):
        raise HookDefinitionError(f"The step{whose} is a function (model, batch) -> {gives}, got {shown(step)}.")
    why = refusal_of_call(step, 2)
    if why is not None and refusal_of_call(step, 3) is not None:
        raise HookDefinitionError(
            f"The step{whose} is called as (model, batch), but {definition_of(step)} cannot be called so: {why}."
        )


def check_precision(run: Run) -> None:
    """Refuse a precision that the device or the model's parameters cannot have.

    Raises:
        RunDefinitionError: if the device has no autocast, or an fp16 run's parameters are fp16 themselves.
    """
    if run.precision not in AUTOCAST:
        return
    if not torch.amp.is_autocast_available(run.device.type):
        raise RunDefinitionError(
            f"precision={run.precision!r} needs autocast, which {run.device.type!r} does not have; write 'float32'."
        )
    halves = [name for name, one in named_parameters(run.model) if one.dtype == torch.float16]
    if run.precision == "fp16-mixed" and halves:
        raise RunDefinitionError(
            f"precision='fp16-mixed' keeps parameters in float32, but {halves[0]!r} is float16; give the model before "
            ".half()."
        )


def device_of(model: nn.Module, device: object) -> torch.device:
    """The device of a run: the one given, else where the model's first parameter is, or buffer, else the CPU."""
    if device is None:
        first = next(chain(model.parameters(), model.buffers()), None)
        return torch.device("cpu") if first is None else first.device
    try:
        found = torch.device(cast("str", device))  # asking is the way to know
    except (RuntimeError, TypeError) as error:
        raise RunDefinitionError(f"device={shown(device)} is no device: {error}") from None
    if str(found) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())  # as tensors say it
    return found
