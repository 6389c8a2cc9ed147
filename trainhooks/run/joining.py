"""A run of several processes: meeting the others, and training one model with them."""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from attrs import evolve
from torch import nn
from torch.optim import Optimizer

from trainhooks.core import NO_VALUES, Rank, Step, StepOutput, named_parameters
from trainhooks.distributed import Parallel, is_restarted_by_a_launcher, join, rank_here
from trainhooks.errors import RunDefinitionError
from trainhooks.loop import Forward, Live, Objective, Together


def _rank_of(parallel: Parallel | None) -> Rank:
    """This process among those that train together; warns if it was started among several and trains alone."""
    if parallel is not None:
        return rank_here()
    if (here := rank_here()).world > 1:
        warnings.warn(
            f"This process is rank {here.index} of {here.world}, and parallel=None: each of them trains a model of its "
            "own. Write train(..., parallel=trainhooks.ddp()) to train one together.",
            RuntimeWarning,
            stacklevel=4,
        )
    return Rank()


def meet(
    parallel: Parallel | None, objectives: Sequence[Objective], device: torch.device, *, given: object
) -> tuple[Rank, torch.device, Together | None]:
    """Which process of the run this is, its device, and its end of what they tell each other, if there are several.

    Args:
        parallel: As given to `train`.
        objectives: What is minimised.
        device: Where a run of one process trains.
        given: The device as given to `train`.

    Raises:
        RunDefinitionError: if `parallel` cannot train these objectives, in one process too.
    """
    _check_parallel(parallel, objectives)
    rank = _rank_of(parallel)
    if parallel is None or rank.world == 1:
        return rank, device, None
    if device.type == "cuda":
        # Where CUDA was asked for without saying which device, each process takes its own.
        device = torch.device("cuda", rank.local_index) if str(given) == "cuda" else device
        torch.cuda.set_device(device)
    together = Together(join(rank, device, parallel.timeout), parallel)
    together.time = together.ranks.from_first(time.monotonic)
    return rank, device, together


def _check_parallel(parallel: Parallel | None, objectives: Sequence[Objective]) -> None:
    """Refuse what cannot be trained by several processes, in one process too.

    Raises:
        RunDefinitionError: if the model is to be sharded and an optimizer was made of its whole parameters, or there
            are several objectives.
    """
    if parallel is None or not parallel.sharded:
        return
    for one in objectives:
        if isinstance(one.optimizer, Optimizer):
            kind = type(one.optimizer).__name__
            raise RunDefinitionError(
                f"fsdp() replaces the model's parameters, so an optimizer that was made before would train nothing; "
                f"give a function of the model: lambda model: torch.optim.{kind}(model.parameters(), ...)."
            )
    if len(objectives) > 1:
        raise RunDefinitionError(
            f"fsdp() takes one objective, and the run has {len(objectives)}; write ddp(), or one step for all losses."
        )


def exit_code(signal: int) -> int:
    """What a process exits with that a signal ended in good order: torchrun takes any code but 0 for a failure."""
    return 0 if is_restarted_by_a_launcher() else 128 + signal


def join_models(live: Live, together: Together, *, alone: bool) -> None:
    """Make the models of all processes one: as it is on rank 0, trained by all.

    With several objectives the loop reduces the gradients itself: a backward that is restricted to some of the
    parameters is none that torch's engines know.
    """
    run, parallel = live.run, together.parallel
    if parallel.sharded or not alone:
        together.ranks.copy_from_first([*run.model.parameters(), *run.model.buffers()])
    if alone:
        live.model = together.wrapped = parallel.wrap(run.model, run.rank, run.device)
    if alone and parallel.needs_every_gradient:
        together.awaited = list(named_parameters(run.model))
    live.forward = reducing(live.forward, live, together)


def reducing(forward: Forward, live: Live, together: Together) -> Forward:
    """A forward that says before whether its backward reduces, and after that a batch that stands in weighs nothing."""

    def forward_and_reduce(step: Step[Any, Any], model: nn.Module, batch: Any) -> StepOutput[Any]:
        trains = torch.is_grad_enabled()  # an evaluation goes without gradients
        if trains:
            together.prepare_backward(live.closes)
        output = forward(step, model, batch)
        if trains and live.stands_in:
            nothing = torch.zeros_like(output.weight) if isinstance(output.weight, torch.Tensor) else 0.0
            return evolve(output, weight=nothing, values=NO_VALUES)  # a ratio has a count of its own
        return output

    return forward_and_reduce
