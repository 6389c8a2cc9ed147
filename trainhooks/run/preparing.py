"""What happens between the registration of the hooks and the first batch."""

import random
import sys
from collections.abc import Callable, Sequence

import torch
from attrs import evolve

from trainhooks.core import TrainBegin
from trainhooks.loop import Bindings, Live, Objective, Worker, forward_in, scaling_of

from .joining import join_models
from .optimizers import check_owners, made_optimizer


def preparation(objectives: Sequence[Objective], bindings: Bindings) -> Callable[[Live], None]:
    """What makes a run ready: seed, device, wrapping, optimizers, states of the hooks, train mode; in this order."""

    def prepare(live: Live) -> None:
        run = live.run
        if run.seed is not None:
            seed_everything(run.seed + run.rank.index)
        run.model.to(run.device)
        live.forward, live.scaling = forward_in(run.precision, run.device), scaling_of(run.precision, run.device)
        if live.together is not None:
            join_models(live, live.together, alone=len(objectives) == 1)
        names = {id(parameter): name for name, parameter in run.model.named_parameters()}
        optimizers = tuple(made_optimizer(one, run.model) for one in objectives)
        check_owners([one.name for one in objectives], optimizers, names)
        sources: dict[str, str] = {}
        live.workers = [
            Worker(
                one, index, optimizer, names, scaling=live.scaling, restricted=len(objectives) > 1,
                together=live.together, sources=sources,
            )
            for index, (one, optimizer) in enumerate(zip(objectives, optimizers, strict=True))
        ]  # fmt: skip
        for worker in live.workers:
            worker.quick.zero()  # gradients that somebody left are not ours
        live.run = evolve(run, optimizers=optimizers)
        bindings.make_states(TrainBegin(run=live.run, at=live.at, resumed=live.resumed))
        run.model.train()

    return prepare


def seed_everything(seed: int) -> None:
    """Seed the global generators of python, numpy if it is loaded, and torch on every device."""
    random.seed(seed)
    torch.manual_seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % 2**32)
