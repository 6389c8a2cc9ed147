"""Which samples come when depends on the seed, the epoch, the start and the rank, and on nothing else."""

import copy
import pickle
from itertools import chain, zip_longest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainhooks import Rank
from trainhooks.data import Cursor, SeededLoader, seeded_loader

SIZES = st.integers(1, 40)
BATCH_SIZES = st.integers(1, 9)
SEEDS = st.integers(-(2**70), 2**70)


def loader_of(
    samples: int, batch_size: int = 4, seed: int = 0, shuffle: bool = True, drop_last: bool = False
) -> SeededLoader[Tensor]:
    indices = [torch.tensor(index) for index in range(samples)]
    return seeded_loader(indices, batch_size=batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last)


def ids(loader: Cursor[Tensor], epoch: int = 0, start: int = 0, rank: Rank | None = None) -> list[list[int]]:
    return [list(map(int, batch)) for batch in loader.epoch_batches(epoch, start, rank or Rank())]


def ranks(world: int) -> list[Rank]:
    return [Rank(index=index, world=world) for index in range(world)]


@given(SIZES, BATCH_SIZES, SEEDS, st.integers(0, 5), st.integers(1, 4), st.booleans(), st.booleans())
def test_from_every_start_come_the_batches_that_would_have_come(
    samples: int, batch_size: int, seed: int, epoch: int, world: int, shuffle: bool, drop_last: bool
) -> None:
    """Keeps P19."""
    if drop_last and samples < batch_size:
        samples += batch_size
    loader = loader_of(samples, batch_size, seed, shuffle, drop_last)
    for rank in ranks(world):
        whole = ids(loader, epoch, rank=rank)
        assert len(whole) == loader.length(rank)
        for start in range(len(whole) + 1):
            another = loader_of(samples, batch_size, seed, shuffle, drop_last)
            assert ids(another, epoch, start, rank) == whole[start:]


@given(SIZES, BATCH_SIZES, SEEDS, st.integers(1, 4))
def test_every_sample_comes_once_over_all_ranks_and_their_batches_interleave_to_those_of_one_process(
    samples: int, batch_size: int, seed: int, world: int
) -> None:
    """Keeps P45."""
    loader = loader_of(samples, batch_size, seed)
    shares = [ids(loader, 1, rank=rank) for rank in ranks(world)]
    interleaved = [batch for turn in zip_longest(*shares) for batch in turn if batch is not None]
    assert interleaved == ids(loader, 1)
    assert sorted(chain.from_iterable(interleaved)) == list(range(samples))
    assert max(map(len, shares)) - min(map(len, shares)) in (0, 1)


def test_ten_batches_on_three_ranks_go_round() -> None:
    loader = loader_of(20, batch_size=2, shuffle=False)
    assert [ids(loader, rank=rank) for rank in ranks(3)] == [
        [[0, 1], [6, 7], [12, 13], [18, 19]],
        [[2, 3], [8, 9], [14, 15]],
        [[4, 5], [10, 11], [16, 17]],
    ]
    assert [loader.length(rank) for rank in ranks(3)] == [4, 3, 3]


def test_a_rank_beyond_the_last_batch_has_none() -> None:
    loader = loader_of(3, batch_size=2)
    assert [loader.length(rank) for rank in ranks(4)] == [1, 1, 0, 0]
    assert ids(loader, rank=Rank(index=3, world=4)) == []


def test_drop_last_leaves_every_rank_as_many_full_batches() -> None:
    """Keeps P42."""
    loader = loader_of(19, batch_size=2, shuffle=False, drop_last=True)
    assert [ids(loader, rank=rank) for rank in ranks(2)] == [
        [[0, 1], [4, 5], [8, 9], [12, 13]],
        [[2, 3], [6, 7], [10, 11], [14, 15]],
    ]
    assert len(loader) == 9


def test_the_order_is_of_the_seed_and_the_epoch_and_the_dataset_keeps_its_own_without_shuffle() -> None:
    orders = [ids(loader_of(50, 50, seed), epoch)[0] for seed in (0, 1, -1, 2**64) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 12
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert ids(loader_of(50, 50, shuffle=False), 7) == [list(range(50))]


def test_the_order_of_a_seed_is_the_same_in_every_version() -> None:
    """A checkpoint names an epoch and a start; another order under the same names would repeat and lose samples."""
    assert ids(loader_of(10, 10, seed=3), 2) == [[8, 9, 1, 0, 2, 3, 7, 5, 6, 4]]


def test_iterating_gives_epoch_0_each_time_and_len_its_batches() -> None:
    """Keeps P12."""
    loader = loader_of(10, seed=5)
    once, again = ([list(map(int, batch)) for batch in loader] for _ in range(2))
    assert once == again == ids(loader, 0)
    assert len(once) == len(loader) == 3


def test_a_loader_that_was_pickled_or_copied_goes_on_with_the_same_batches() -> None:
    loader = loader_of(10, seed=5)
    for other in (pickle.loads(pickle.dumps(loader)), copy.deepcopy(loader)):
        assert ids(other, 1, 1) == ids(loader, 1, 1)
        assert repr(other) == repr(loader) == "SeededLoader(10 samples, batch_size=4, seed=5)"


def test_reading_two_epochs_at_once_mixes_nothing() -> None:
    loader = loader_of(10, seed=5)
    both = zip(loader.epoch_batches(0), loader.epoch_batches(1), strict=True)
    pairs = [(list(map(int, one)), list(map(int, other))) for one, other in both]
    assert pairs == list(zip(ids(loader, 0), ids(loader, 1), strict=True))


@pytest.mark.parametrize("shuffle", [True, False])
def test_two_million_samples_are_put_in_order_without_touching_one(shuffle: bool) -> None:
    class Endless:
        def __len__(self) -> int:
            return 2_000_000

        def __getitem__(self, index: int) -> Tensor:
            read.append(index)
            return torch.tensor(index)

    read: list[int] = []
    loader = seeded_loader(Endless(), batch_size=8, seed=0, shuffle=shuffle)
    ((last),) = loader.epoch_batches(0, len(loader) - 1)
    assert read == list(map(int, last))
    assert len(read) == 8
