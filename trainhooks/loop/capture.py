"""The state of a run as one value, taken at a boundary, and put back into a run that begins.

Hook states and the configuration are not the loop's: who saves adds them.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from attrs import asdict
from torch import nn

from trainhooks.core import Progress
from trainhooks.errors import CheckpointError

from .feeding import keeps_position, within_epoch
from .live import Live
from .means import Mean
from .saver import Position, State
from .steps import Worker
from .streams import Streams, generators_of


def captured(live: Live) -> State:
    """The run as it is now, between two windows. Reads the device; the tensors are those of the run, not copies."""
    live.records.read()
    return {
        "progress": asdict(live.at),
        "model": bare_state(live.run.model),
        "optimizers": [worker.optimizer.state_dict() for worker in live.workers],
        "scaler": None if live.scaling is None else live.scaling.scaler.state_dict(),
        "loop": _of_loop(live),
        "data": live.data.state_dict() if keeps_position(live.data) else None,
        "random": Streams.now(live.run.device).state(),
        "generators": {name: one.get_state() for name, one in _generators(live).items()},
    }


def position_of(live: Live) -> Position:
    """Where the run is in its data."""
    return within_epoch(live.data, live.run.accumulate) if live.in_epoch else "between epochs"


def begin_at(live: Live, state: State) -> None:
    """Put the counters back, which hooks see before anything else."""
    live.resumed = True
    loop: dict[str, Any] = state["loop"]
    live.move_to(state["progress"])
    live.boundaries.set(loop["boundary"], loop["boundary_before"])
    live.epoch_began = Progress(**loop["epoch_began"])
    live.fed, live.in_epoch, live.ends_epoch = loop["fed"], loop["in_epoch"], loop["ends_epoch"]
    live.history[:] = loop["history"]
    live.requests.evaluated.update(loop["evaluated"])
    live.records.restore(loop["records"])


def restore(live: Live, state: State) -> None:
    """Put back what is trained: model, optimizers, scaler, and the epoch's means."""
    load_bare_state(live.run.model, state["model"])
    for worker, saved in zip(live.workers, state["optimizers"], strict=True):
        worker.optimizer.load_state_dict(saved)
    if live.scaling is not None and state["scaler"] is not None:
        live.scaling.scaler.load_state_dict(state["scaler"])
    for worker, saved in zip(live.workers, state["loop"]["means"], strict=True):
        _restore_means(worker, saved)


def restore_streams(live: Live, state: State) -> None:
    """Put back where the data is, and the random streams: the last thing before training goes on."""
    if state["data"] is not None and keeps_position(live.data):
        live.data.load_state_dict(state["data"])
        live.starts_anew = not state["loop"]["in_epoch"] and not state["loop"]["exhausted"]
    for name, generator in _generators(live).items():
        if name in state["generators"]:
            generator.set_state(state["generators"][name])
    Streams.of(state["random"], live.run.device).restore()


def _of_loop(live: Live) -> State:
    return {
        "boundary": asdict(live.boundaries.newest),
        "boundary_before": asdict(live.boundaries.before),
        "epoch_began": asdict(live.epoch_began),
        "fed": live.fed,
        "in_epoch": live.in_epoch,
        "ends_epoch": live.ends_epoch,
        "exhausted": live.exhausted,
        "history": list(live.history),
        "evaluated": sorted(live.requests.evaluated),
        "records": live.records.state(),
        "means": [_means(worker) for worker in live.workers],
    }


def _means(worker: Worker) -> State:
    return {"loss": worker.loss.state(), "values": {name: mean.state() for name, mean in worker.values.items()}}


def _restore_means(worker: Worker, saved: State) -> None:
    device = next((one.device for group in worker.optimizer.param_groups for one in group["params"]), None)
    worker.loss = Mean.of(saved["loss"], device)
    worker.values = {name: Mean.of(one, device) for name, one in saved["values"].items()}


def _generators(live: Live) -> dict[str, torch.Generator]:
    """The generators that the run's data draws its order from, by where they are."""
    found = generators_of("data", live.data)
    for one in live.requests.evaluations:
        found.update(generators_of(one.name, one.data))
    return found


def bare_state(model: nn.Module) -> dict[str, Any]:
    """The model's state under the names that it has without `torch.compile`."""
    return {_bare(name): value for name, value in model.state_dict().items()}


def load_bare_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Give the model a state saved by `bare_state`.

    Raises:
        CheckpointError: if the names or shapes are not those of the model, naming them.
    """
    own = {_bare(name): name for name in cast("Mapping[str, Any]", model.state_dict())}
    if own.keys() != state.keys():
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        raise CheckpointError(
            f"The checkpoint is of another model: it lacks {_some(missing)}, and has {_some(unexpected)} that the "
            "model has not."
        )
    try:
        model.load_state_dict({own[name]: value for name, value in state.items()})
    except RuntimeError as error:
        raise CheckpointError(f"The checkpoint is of another model: {error}") from None


def _some(names: list[str], shown: int = 10) -> str:
    if not names:
        return "nothing"
    return ", ".join(map(repr, names[:shown])) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _bare(name: str) -> str:
    return name.replace("_orig_mod.", "")
