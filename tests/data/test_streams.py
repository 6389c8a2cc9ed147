"""What a dataset draws from the global streams depends on seed, epoch and sample, and leaves nothing behind."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from tests.core.streams import global_streams
from tests.data.datasets import Noisy
from trainhooks.data import SeededLoader, seeded_loader

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than the machine has cores


def stirred(seed: int) -> None:
    """Leave the global streams somewhere, numpy and python with half a pair of normal numbers put aside."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    random.gauss(0, 1)
    np.random.randn()


def noise_by_sample(
    loader: SeededLoader[tuple[Tensor, Tensor]], epoch: int = 0, start: int = 0
) -> dict[int, list[float]]:
    """Each sample's draws, of a dataset whose samples are an index and draws."""
    found: dict[int, list[float]] = {}
    for indices, noise in loader.epoch_batches(epoch, start):
        found.update({int(index): list(map(float, row)) for index, row in zip(indices, noise, strict=True)})
    return found


def noisy(workers: int = 0, batch_size: int = 4, seed: int = 7) -> SeededLoader[tuple[Tensor, Tensor]]:
    return seeded_loader(Noisy(11), batch_size=batch_size, seed=seed, num_workers=workers)


def test_draws_are_equal_with_and_without_workers_in_every_epoch_and_after_a_start() -> None:
    """Keeps P19 and P20."""
    stirred(1)
    here, there = noisy(), noisy(workers=2)
    alone = [noise_by_sample(here, epoch) for epoch in (0, 1)]
    stirred(2)
    assert [noise_by_sample(there, epoch) for epoch in (0, 1)] == alone
    for loader in (here, there):
        rest = noise_by_sample(loader, epoch=1, start=2)
        assert len(rest) == 3
        assert rest == {index: alone[1][index] for index in rest}


def test_draws_of_a_sample_do_not_depend_on_the_batch_that_it_is_in() -> None:
    assert noise_by_sample(noisy(batch_size=4), 1) == noise_by_sample(noisy(batch_size=5), 1)


def test_every_seed_epoch_sample_and_stream_has_draws_of_its_own() -> None:
    draws = [
        draw for seed in (7, 8) for epoch in (0, 1)
        for row in noise_by_sample(noisy(seed=seed), epoch).values() for draw in row
    ]  # fmt: skip
    assert len(draws) == 2 * 2 * 11 * 6
    assert len(set(draws)) == len(draws)


class Words(Dataset[Tensor]):
    """The lower 24 bits of the first 32 that numpy and torch draw: both run the same generator."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Tensor:
        of_numpy = int(np.random.randint(2**32, dtype=np.uint32)) % 2**24
        return torch.tensor([of_numpy, int(torch.rand(()) * 2**24)])


def test_numpy_and_torch_do_not_draw_one_sequence() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    assert list(map(int, Words()[0])) == [71530, 71530]  # as one seed for both would have it
    pairs = [list(map(int, batch[0])) for batch in seeded_loader(Words(), batch_size=1, seed=0)]
    assert all(of_numpy != of_torch for of_numpy, of_torch in pairs)
    assert len(pairs) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_streams_are_untouched_after_every_batch(workers: int) -> None:
    """Keeps P08."""
    stirred(3)
    before = global_streams()
    loader = noisy(workers)
    for _ in loader.epoch_batches(0):
        assert global_streams() == before
    assert global_streams() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_streams_are_untouched_by_a_dataset_that_raises_and_the_next_epoch_is_whole(workers: int) -> None:
    stirred(3)
    before = global_streams()
    loader = seeded_loader(Noisy(8, refused=[5]), batch_size=4, seed=0, shuffle=False, num_workers=workers)
    batches = loader.epoch_batches(0)
    next(batches)
    with pytest.raises(ArithmeticError, match="sample 5 is broken"):
        next(batches)
    assert global_streams() == before
    first_half, _ = next(loader.epoch_batches(1))
    assert list(map(int, first_half)) == [0, 1, 2, 3]


def test_the_draws_of_a_plain_loader_are_those_that_we_put_back() -> None:
    """Without us the streams move: the test above could not fail otherwise."""
    stirred(3)
    before = global_streams()
    list(DataLoader(Noisy(4)))
    assert global_streams() != before


def shifted(samples: list[Tensor]) -> Tensor:
    return torch.stack(samples) + torch.rand(()) + random.random() + float(np.random.rand())


def test_a_collate_draws_alike_too_for_a_dataset_that_draws_and_for_one_that_does_not() -> None:
    for dataset in ([torch.zeros(()) for _ in range(6)], Zeros()):
        stirred(4)
        before = global_streams()
        loader = seeded_loader(dataset, batch_size=2, seed=0, collate_fn=shifted)
        there = seeded_loader(dataset, batch_size=2, seed=0, collate_fn=shifted, num_workers=2)
        epochs = [
            [float(batch[0]) for batch in each.epoch_batches(epoch)] for each in (loader, there) for epoch in (0, 1)
        ]
        assert global_streams() == before
        assert epochs[:2] == epochs[2:]
        assert len({*epochs[0], *epochs[1]}) == 6
        assert [float(batch[0]) for batch in loader.epoch_batches(1, 2)] == epochs[1][2:]


class Zeros(Dataset[Tensor]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(())


class Whole(Dataset[Tensor]):
    """Is asked for many samples at once."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        raise AssertionError("one by one")

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        self.asked.append(list(indices))
        return [index + torch.rand(()) for index in indices]


def test_a_dataset_that_reads_many_samples_at_once_is_asked_once_for_a_batch_and_draws_alike() -> None:
    whole = Whole()
    before = global_streams()
    loader = seeded_loader(Subset(whole, [5, 4, 3, 2, 1, 0]), batch_size=4, seed=0, shuffle=False)
    first, last = loader
    assert whole.asked == [[5, 4, 3, 2], [1, 0]]
    assert first.int().tolist() == [5, 4, 3, 2]
    assert torch.equal(next(loader.epoch_batches(0, 1)), last)
    assert not torch.equal(next(loader.epoch_batches(1, 1)), last)
    assert global_streams() == before


def test_a_subset_of_a_dataset_that_draws_is_read_one_by_one() -> None:
    part = seeded_loader(Subset(Noisy(11), list(range(11))), batch_size=4, seed=7)
    assert noise_by_sample(part, 1) == noise_by_sample(noisy(), 1)


def test_a_generator_made_in_getitem_from_the_initial_seed_is_the_samples_own() -> None:
    class Own(Dataset[Tensor]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Tensor:
            return torch.rand((), generator=torch.Generator().manual_seed(torch.initial_seed()))

    here, there = (seeded_loader(Own(), batch_size=3, seed=0, num_workers=workers) for workers in (0, 1))
    assert torch.equal(torch.cat(list(here)), torch.cat(list(there)))
    assert len(set(map(float, torch.cat(list(here))))) == 6
