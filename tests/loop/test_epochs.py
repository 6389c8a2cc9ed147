"""The data hears which epoch begins, each object once."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, SequentialSampler

from tests.ranks import on_ranks
from tests.run.several import ENGINES, me
from trainhooks import BatchBegin, StepOutput, train
from trainhooks.data import first
from trainhooks.loop.epochs import set_epoch


class Told:
    """Anything that is told of epochs; the rest of what torch wants of it is that of what it holds."""

    def __init__(self, held: Any = ()) -> None:
        self.held = held
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)


class Samples(Dataset[Tensor]):
    def __init__(self) -> None:
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(float(index))

    def __len__(self) -> int:
        return 6


def test_the_data_its_samplers_and_its_dataset_are_told_once_each() -> None:
    samples, sampler, batches, data = Samples(), Told(range(6)), Told([[0, 1], [2]]), Told()
    set_epoch(data, 3)
    set_epoch(DataLoader(samples, batch_size=2, sampler=sampler), 4)
    set_epoch(DataLoader(samples, batch_sampler=batches), 5)
    assert (data.epochs, samples.epochs, sampler.epochs, batches.epochs) == ([3], [4, 5], [4], [5])


def test_what_is_held_by_the_first_batches_is_told_and_other_data_needs_nothing() -> None:
    sampler = Told(range(6))
    set_epoch(first(DataLoader(Samples(), batch_sampler=BatchSampler(sampler, 2, drop_last=False)), 2), 7)
    assert sampler.epochs == [7]
    set_epoch([1, 2], 0)
    set_epoch(DataLoader(Samples(), sampler=SequentialSampler(Samples())), 0)


def epochs_of_a_distributed_sampler() -> list[list[float]]:
    samples = Samples()
    sampler: DistributedSampler[Any] = DistributedSampler(samples, num_replicas=2, rank=me(), seed=1)
    data, model = DataLoader(samples, batch_size=1, sampler=sampler), nn.Linear(1, 1)
    seen: list[list[float]] = [[], [], []]

    def look(ctx: BatchBegin[Tensor]) -> None:
        seen[ctx.at.epoch].append(ctx.batch.item())

    def step(model: nn.Module, batch: Tensor) -> StepOutput[Tensor]:
        return StepOutput(model(batch[:, None]).mean())

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(model, data, step, optimizer, epochs=3, hooks={"on_batch_begin": look}, parallel=ENGINES["ddp"]())
    return seen


def test_the_epoch_reaches_the_sampler_of_each_rank() -> None:
    """Keeps P45."""
    one, other = on_ranks(2, epochs_of_a_distributed_sampler)
    orders = [torch.randperm(6, generator=torch.Generator().manual_seed(1 + epoch)) for epoch in range(3)]
    expected: list[list[int]] = [order.tolist() for order in orders]
    assert one == [order[0::2] for order in expected]
    assert other == [order[1::2] for order in expected]
    assert len({tuple(epoch) for epoch in one}) == 3
