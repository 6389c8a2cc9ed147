"""A loop over two processes: torch's `DistributedDataParallel` by hand, and the same training by trainhooks."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias, final

import torch
from attrs import define
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainhooks import ddp, launch, train
from trainhooks.distributed import join, rank_here

from .programs import OPTIMIZERS, Batch, bare, batches, larger, tiny
from .timing import Times

WORLD: Final = 2
WARM: Final = 20
"""Steps of each round that are not timed: what is made once is made there."""
MODELS: Final[Mapping[str, tuple[Callable[[], nn.Module], Callable[[int], list[Batch]], int]]] = {
    "nn.Linear(8, 2), batch 4": (tiny, batches, 300),
    "MLP 4 x 512, batch 64": (larger, partial(batches, size=64, inputs=512, outputs=512), 40),
}
"""A model, its batches, and how many steps of it are timed."""

Trains: TypeAlias = Callable[[nn.Module, "Stamped", str], object]


@final
@define(eq=False)
class Stamped:
    """Batches that stamp the clock when the first that counts is asked for, and when all are used."""

    data: Sequence[Batch]
    began: float = 0.0
    ended: float = 0.0

    def __iter__(self) -> Iterator[Batch]:
        for index, batch in enumerate(self.data):
            if index == WARM:
                self.began = time.perf_counter()
            yield batch
        self.ended = time.perf_counter()

    def __len__(self) -> int:
        return len(self.data)


def by_hand(model: nn.Module, data: Stamped, optimizer_name: str) -> None:
    """The loop as torch's tutorial writes it."""
    shared = DistributedDataParallel(model)
    optimizer = OPTIMIZERS[optimizer_name](model)
    for batch in data:
        loss = bare(shared, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def by_trainhooks(model: nn.Module, data: Stamped, optimizer_name: str) -> None:
    """The same by `train`."""
    train(model, data, bare, OPTIMIZERS[optimizer_name], epochs=1, parallel=ddp())


def race_in_a_process(model: str, optimizer: str, rounds: int) -> Times:
    """Both loops in turns, in one of the processes; after every round their weights were equal, bit for bit."""
    torch.set_num_threads(1)
    join(rank_here(), torch.device("cpu"))
    make, ready, steps = MODELS[model]
    data = ready(WARM + steps)
    programs: dict[str, Trains] = {"by hand": by_hand, "ours": by_trainhooks}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(1 + rounds):
        weights: list[list[torch.Tensor]] = []
        for name, program in programs.items():
            trained, stamped = make(), Stamped(data)
            program(trained, stamped, optimizer)
            times[name].append(stamped.ended - stamped.began)
            weights.append([one.detach() for one in trained.parameters()])
        assert all(map(torch.equal, *weights)), "both loops train the same weights"
    return {name: taken[1:] for name, taken in times.items()}


def race_over_processes(model: str, optimizer: str, rounds: int = 9) -> Times:
    """The times of rank 0; every process waits for the others in each step, so those of the others are the same."""
    return launch(race_in_a_process, model, optimizer, rounds, processes=WORLD)[0]
