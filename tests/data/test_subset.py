"""The first n batches of any data: a quick look that keeps what the data can do."""

from collections.abc import Iterable, Iterator
from typing import cast

import pytest
import torch
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trainhooks import Rank, StepOutput, train
from trainhooks.data import Cursor, SeededLoader, first, seeded_loader
from trainhooks.data.subset import FirstOfCursor

INDICES = [torch.tensor(index) for index in range(10)]


def stacked(samples: list[tuple[Tensor, ...]]) -> Tensor:
    return torch.stack([index for (index,) in samples])


PLAIN = cast(
    "Iterable[Tensor]", DataLoader(TensorDataset(torch.arange(10)), 4, collate_fn=stacked, generator=torch.Generator())
)


def ids(batches: Iterator[Tensor]) -> list[list[int]]:
    return [list(map(int, batch)) for batch in batches]


@frozen
class Numbers:
    """A cursor that somebody else wrote: batch k of an epoch is (epoch, k, rank)."""

    length_of_epoch: int = 5
    taken: list[tuple[int, int]] = field(factory=list[tuple[int, int]])

    def epoch_batches(self, epoch: int, start: int = 0, rank: Rank = Rank()) -> Iterator[tuple[int, int, int]]:  # noqa: B008
        for k in range(start, self.length_of_epoch):
            self.taken.append((epoch, k))
            yield epoch, k, rank.index

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return self.epoch_batches(0)


@given(st.integers(1, 6), st.integers(0, 3), st.integers(1, 3), st.integers(1, 4))
def test_of_a_seeded_loader_each_epoch_gives_the_beginning_of_that_epoch_to_each_rank(
    n: int, epoch: int, world: int, batch_size: int
) -> None:
    loader = seeded_loader(INDICES, batch_size=batch_size, seed=1)
    part = first(loader, n)
    for rank in (Rank(index=index, world=world) for index in range(world)):
        whole = ids(loader.epoch_batches(epoch, 0, rank))[:n]
        assert part.length(rank) == len(whole)
        for start in range(len(whole) + 1):
            assert ids(part.epoch_batches(epoch, start, rank)) == whole[start:]
    assert ids(iter(part)) == ids(iter(loader))[:n]
    assert len(part) == min(n, len(loader))


def test_the_first_of_the_first_are_the_fewer_and_the_loader_itself_stays_whole() -> None:
    loader = seeded_loader(INDICES, batch_size=2, seed=1)
    assert [len(part) for part in (first(first(loader, 2), 4), first(first(loader, 4), 2), loader)] == [2, 2, 5]
    assert isinstance(first(loader, 2), SeededLoader)


def test_another_cursor_is_kept_and_asked_for_no_batch_more() -> None:
    numbers = Numbers()
    part: object = first(numbers, 2)
    assert isinstance(part, FirstOfCursor)
    assert isinstance(part, Cursor)
    assert list(part.epoch_batches(3, 1, Rank(index=1, world=2))) == [(3, 1, 1)]
    assert numbers.taken == [(3, 1)]
    assert list(part.epoch_batches(3, 2)) == []
    assert list(part) == [(0, 0, 0), (0, 1, 0)]
    assert numbers.taken == [(3, 1), (0, 0), (0, 1)]


def test_the_length_of_a_share_is_known_where_the_cursor_knows_it() -> None:
    part = FirstOfCursor(seeded_loader(INDICES, batch_size=2, seed=0), 2)
    assert [part.length(Rank(index=index, world=3)) for index in range(3)] == [2, 2, 1]
    assert len(part) == 2
    unknown = FirstOfCursor(Numbers(), 2)
    with pytest.raises(TypeError, match="Numbers does not say how many batches fall to one process"):
        unknown.length(Rank(index=0, world=2))
    with pytest.raises(TypeError, match="has no len"):
        unknown.length()


def test_of_other_data_each_pass_gives_the_first_batches_and_no_further_one_is_asked_for() -> None:
    class Counted:
        def __iter__(self) -> Iterator[int]:
            for batch in range(5):
                asked.append(batch)
                yield batch

    asked: list[int] = []
    part = first(Counted(), 2)
    assert not hasattr(part, "batches")  # it cannot go on from the middle of an epoch
    assert [list(part), list(part)] == [[0, 1], [0, 1]]
    assert asked == [0, 1, 0, 1]
    with pytest.raises(TypeError, match="has no len"):
        len(part)


def test_the_length_is_the_smaller_of_the_two() -> None:
    assert [len(first([1, 2, 3], n)) for n in (1, 3, 9)] == [1, 3, 3]
    assert list(first([1, 2], 9)) == [1, 2]
    assert len(first(PLAIN, 2)) == 2


def test_a_run_over_the_first_batches_sees_those_alone_in_every_epoch() -> None:
    seen: list[list[int]] = []

    def step(model: nn.Module, batch: Tensor) -> StepOutput[Tensor]:
        seen.append(list(map(int, batch)))
        return StepOutput(model(batch.float().unsqueeze(1)).mean())

    model = nn.Linear(1, 1)
    loader = seeded_loader(INDICES, batch_size=4, seed=1)
    result = train(model, first(loader, 2), step, torch.optim.SGD(model.parameters()), epochs=2, accumulate=2)
    assert result.at.updates == 2
    assert all(len(batch) == 4 for batch in seen)
    assert len(seen) == 4
    train(model, first(PLAIN, 2), step, torch.optim.SGD(model.parameters()), epochs=2)
    assert seen[4:] == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2
