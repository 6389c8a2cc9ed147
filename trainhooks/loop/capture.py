"""The state of a run as one value, taken at a boundary, and put back into a run that begins.

Hook states and the configuration are not the loop's: who saves adds them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from attrs import asdict
from torch import Tensor, nn

from trainhooks.core import Progress, bare_name, named_buffers, named_parameters
from trainhooks.errors import CheckpointError

from .counts import place_of, progress_at
from .feeding import batch_size_of, keeps_position, place_now, within_epoch
from .live import Live
from .means import Mean
from .saver import Position, State
from .steps import Worker
from .streams import Streams, devices_of, generators_of


def captured(live: Live) -> State:
    """The run as it is now on this rank, between two windows; over ranks with the model's buffers once more, apart.

    Reads the device; the tensors are those of the run, not copies.
    """
    live.records.read()
    model = bare_state(live.run.model)
    own = {} if live.ranks is None else {"buffers": _buffers(live.run.model, model)}
    return {
        "progress": asdict(live.at),
        "model": model,
        "optimizers": [worker.optimizer.state_dict() for worker in live.workers],
        "scaler": None if live.scaling is None else live.scaling.scaler.state_dict(),
        "loop": _of_loop(live),
        "data": live.data.state_dict() if keeps_position(live.data) else None,
        "random": Streams.now(devices_of(live.run.model, live.run.device)).state(),
        "generators": {name: one.get_state() for name, one in _generators(live).items()},
        "averages": live.averages.at(live.at),
        **own,
    }


def position_of(live: Live) -> Position:
    """Where the run is in its data."""
    return within_epoch(live.data, live.run.accumulate) if live.in_epoch else "between epochs"


def begin_at(live: Live, state: State) -> None:
    """Put the counters back, which hooks see before anything else."""
    live.resumed = True
    loop: dict[str, Any] = state["loop"]
    live.move_to(state["progress"])
    live.boundaries.set(place_of(loop["boundary"]), place_of(loop["boundary_before"]))
    live.epoch_began = Progress(**loop["epoch_began"])
    live.in_epoch, live.ends_epoch = loop["in_epoch"], loop["ends_epoch"]
    was = state["config"]["world_size"], loop["batch_size"]
    live.fed = place_now(loop["fed"], was, (live.run.rank.world, batch_size_of(live.data))) or 0
    live.history[:] = loop["history"]
    live.requests.evaluated.update(loop["evaluated"])
    live.records.restore(loop["records"])


def restore(live: Live, state: State) -> None:
    """Put back what is trained: model, optimizers, scaler, and the epoch's means, of which there is one list a rank."""
    load_bare_state(live.run.model, state["model"])
    for worker, saved in zip(live.workers, state["optimizers"], strict=True):
        worker.optimizer.load_state_dict(saved)
    for rates in live.rates:
        if (of_rates := state["loop"]["rates"].get(str(rates.optimizer_idx))) is not None:
            rates.restore(of_rates)
    if live.scaling is not None and state["scaler"] is not None:
        live.scaling.scaler.load_state_dict(state["scaler"])
    for worker, *saved in zip(live.workers, *state["loop"]["means"], strict=True):
        _restore_means(worker, saved)
    for worker, first in zip(live.workers, state["loop"]["first_weights"], strict=True):
        worker.window.first = first
    if live.together is not None:
        live.together.cast_again(state["loop"]["votes"])


def restore_streams(live: Live, state: State) -> None:
    """Put back where the data is, and the random streams: the last thing before training goes on.

    What the state has not, since this rank did not exist, stays as it is.
    """
    if state["data"] is not None and keeps_position(live.data):
        live.data.load_state_dict(state["data"])
        live.starts_anew = not state["loop"]["in_epoch"] and not state["loop"]["exhausted"]
    for name, generator in _generators(live).items():
        if name in state["generators"]:
            generator.set_state(state["generators"][name])
    if state["random"] is not None:
        Streams.of(state["random"], devices_of(live.run.model, live.run.device)).restore()


def _of_loop(live: Live) -> State:
    return {
        "boundary": asdict(progress_at(live.boundaries.newest)),
        "boundary_before": asdict(progress_at(live.boundaries.before)),
        "epoch_began": asdict(live.epoch_began),
        "fed": live.fed,
        "batch_size": batch_size_of(live.data),
        "in_epoch": live.in_epoch,
        "ends_epoch": live.ends_epoch,
        "exhausted": live.exhausted,
        "history": list(live.history),
        "evaluated": sorted(live.requests.evaluated),
        "records": live.records.state(),
        "means": [_means(worker) for worker in live.workers],
        "first_weights": [worker.window.first for worker in live.workers],
        "rates": {str(one.optimizer_idx): one.state() for one in live.rates},
        "votes": [] if live.together is None else live.together.votes_cast(),
        "judged": live.averages.judged_at(live.at),
    }


def _means(worker: Worker) -> State:
    return {"loss": worker.loss.state(), "values": {name: mean.state() for name, mean in worker.values.items()}}


def _restore_means(worker: Worker, saved: Sequence[State]) -> None:
    """Give a worker the means that it had, those of several ranks together if there are fewer now."""
    device = next((one.device for group in worker.optimizer.param_groups for one in group["params"]), None)
    worker.loss = _mean_of([one["loss"] for one in saved], device)
    names = dict.fromkeys(name for one in saved for name in one["values"])
    worker.values = {
        name: _mean_of([one["values"][name] for one in saved if name in one["values"]], device) for name in names
    }


def _mean_of(saved: Sequence[State], device: torch.device | None) -> Mean:
    if len(saved) == 1:
        return Mean.of(saved[0], device)
    terms = [Mean.of(one, device).terms() for one in saved]
    products, counts = ([number for one in terms for number in one[which]] for which in (0, 1))
    return Mean.of({"products": products, "counts": counts, "sums": None}, device)


def _generators(live: Live) -> dict[str, torch.Generator]:
    """The generators that the run's data draws its order from, by where they are."""
    found = generators_of("data", live.data)
    for one in live.requests.evaluations:
        found.update(generators_of(one.name, one.data))
    return found


def bare_state(model: nn.Module) -> dict[str, Any]:
    """The model's state under the names that it has without `torch.compile`."""
    return {bare_name(name): value for name, value in model.state_dict().items()}


def _buffers(model: nn.Module, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The model's buffers that its state holds."""
    return {name: state[name] for name, _ in named_buffers(model) if name in state}


def load_bare_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Give the model a state saved by `bare_state`.

    Raises:
        CheckpointError: if the names or shapes are not those of the model, naming them.
    """
    own = {bare_name(name): name for name in cast("Mapping[str, Any]", model.state_dict())}
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


def load_what_fits(model: nn.Module, state: Mapping[str, Any]) -> set[str]:
    """Give the model what of a state saved by `bare_state` it has under the same name, tensors in the same shape.

    Returns:
        The names of the rest: of the model, of the state, or of both.
    """
    own = {bare_name(name): (name, part) for name, part in cast("Mapping[str, Any]", model.state_dict()).items()}
    fitting = {name for name, (_, part) in own.items() if name in state and _shape(state[name]) == _shape(part)}
    model.load_state_dict({own[name][0]: state[name] for name in fitting}, strict=False)
    return (own.keys() | state.keys()) - fitting


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's parameters and buffers, under all names that they have without `torch.compile`."""
    parameters = named_parameters(model, remove_duplicate=False)
    return dict((*parameters, *named_buffers(model, remove_duplicate=False)))


def _shape(part: object) -> object:
    return part.shape if isinstance(part, Tensor) else None


def _some(names: list[str], shown: int = 10) -> str:
    if not names:
        return "nothing"
    return ", ".join(map(repr, names[:shown])) + (f" and {len(names) - shown} more" if len(names) > shown else "")
