"""What happens between the registration of the hooks and the first batch."""

import random
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain

import torch
from attrs import evolve

from trainhooks.core import TrainBegin, named_parameters
from trainhooks.loop import (
    Bindings,
    Live,
    Objective,
    Worker,
    begin_training,
    forward_in,
    on_bases,
    rates_of,
    scaling_of,
    steps_on_bases,
)

from .joining import join_models
from .optimizers import check_owners, made_optimizer, parameters_of

_NAMES_SHOWN = 10


def preparation(objectives: Sequence[Objective], bindings: Bindings, *, moves: bool) -> Callable[[Live], None]:
    """What makes a run ready: seed, device, wrapping, optimizers, states of the hooks, train mode; in this order.

    Without `moves` the model stays where it is, which may be several devices.
    """

    def prepare(live: Live) -> None:
        run = live.run
        if run.seed is not None:
            seed_everything(run.seed + run.rank.index)
        if moves:
            run.model.to(run.device)
        live.forward, live.scaling = forward_in(run.precision, run.device), scaling_of(run.precision, run.device)
        if live.together is not None:
            join_models(live, live.together, alone=len(objectives) == 1)
        names = {id(parameter): name for name, parameter in named_parameters(run.model)}
        optimizers = tuple(made_optimizer(one, run.model) for one in objectives)
        check_owners([one.name for one in objectives], optimizers, names)
        sources: dict[str, str] = {}
        live.workers = [
            Worker(
                one, index, optimizer, names, accumulate=run.accumulate, scaling=live.scaling,
                restricted=len(objectives) > 1, together=live.together, sources=sources,
                everybody=lambda: chain(run.model.parameters(), *map(parameters_of, optimizers)),
            )
            for index, (one, optimizer) in enumerate(zip(objectives, optimizers, strict=True))
        ]  # fmt: skip
        for worker in live.workers:
            worker.quick.zero()  # gradients that somebody left are not ours
        live.run = evolve(run, optimizers=optimizers)
        live.rates = rates_of(optimizers, bindings.hooks)
        steps = any(steps_on_bases(member.owner) for member in bindings.members)
        with on_bases(live.rates) if steps else nullcontext():
            bindings.make_states(TrainBegin(run=live.run, at=live.at, resumed=live.resumed))
        stay = begin_training(run.model)
        live.watches_mode = live.is_in_train_mode()
        if stay and run.rank.index == 0:
            _warn_of_eval_mode(stay)

    return prepare


def _warn_of_eval_mode(names: Sequence[str]) -> None:
    shown = ", ".join(map(repr, names[:_NAMES_SHOWN]))
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    warnings.warn(
        f"These modules were in eval mode while others were in train mode, and stay so: {shown}{more}. from_pretrained "
        "gives models in eval; call model.train() first if it is not meant.",
        RuntimeWarning,
        stacklevel=7,
    )


def seed_everything(seed: int) -> None:
    """Seed the global generators of python, numpy if it is loaded, and torch on every device."""
    random.seed(seed)
    torch.manual_seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % 2**32)
