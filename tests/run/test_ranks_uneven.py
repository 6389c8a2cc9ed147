"""Ranks with unequal counts of batches make equally many updates, as the declared policy says, and none waits."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from tests.loop.programs import Batch, Unsized, linear, sgd, squares
from tests.ranks import on_ranks
from tests.run.several import ENGINES, joined, me, own_batches, parameters_of
from trainhooks import BatchEnd, Progress, ddp, train
from trainhooks.data import seeded_loader
from trainhooks.distributed import Uneven
from trainhooks.errors import RunDefinitionError

COUNTS = (10, 8)
"""Batches of each rank."""


class Stream(IterableDataset[Batch]):
    """Torch's own kind of data without a length."""

    def __init__(self, data: Sequence[Batch]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.data)


class Generated:
    """Data that makes its batches while it is iterated."""

    def __init__(self, data: Sequence[Batch]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Batch]:
        for x, y in self.data:
            yield x.clone(), y.clone()


KINDS: dict[str, Any] = {"sized": list, "unsized": Unsized, "stream": Stream, "generator": Generated}


class Left(NamedTuple):
    """What a rank knows after its run."""

    at: Progress
    history: list[dict[str, float]]
    parameters: list[Tensor]
    weights: list[float]
    """What each batch weighed."""


def trained(data: Any, accumulate: int, engine: str | None, uneven: Uneven = "join") -> Left:
    model, weights_ = linear(), list[float]()

    def note(ctx: BatchEnd) -> None:
        weights_.append(float(ctx.weight))

    result = train(
        model, data, squares, sgd, epochs=2, accumulate=accumulate, hooks={"on_batch_end": note},
        parallel=None if engine is None else ENGINES[engine](uneven=uneven),
    )  # fmt: skip
    return Left(result.at, result.history, parameters_of(model), weights_)


def of_two(kind: str, counts: Sequence[int], accumulate: int, engine: str, uneven: Uneven) -> Left:
    return trained(KINDS[kind](own_batches(counts[me()])), accumulate, engine, uneven)


def alone(counts: Sequence[int], accumulate: int, uneven: Uneven) -> Left:
    """One process over the data of all ranks, with the same global batches."""
    many = max(counts) if uneven == "join" else min(counts)
    parts = [own_batches(count, rank) for rank, count in enumerate(counts)]
    data = [joined(*(one[place] for one in parts if place < len(one))) for place in range(many)]
    return trained(data, accumulate, None)


def check(lefts: Sequence[Left], expected: Left) -> None:
    """All ranks are where one process is."""
    for one in lefts:
        assert one.at == expected.at
        assert one.history == lefts[0].history
        torch.testing.assert_close(one.parameters, lefts[0].parameters, rtol=0.0, atol=0.0)
    for row, other in zip(lefts[0].history, expected.history, strict=True):
        assert row == pytest.approx(other, rel=1e-6)
    torch.testing.assert_close(lefts[0].parameters, expected.parameters, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("uneven", ["join", "truncate"])
@pytest.mark.parametrize("kind", KINDS)
def test_ten_and_eight_batches_are_the_global_batches_of_one_process(
    kind: str, uneven: Uneven, accumulate: int, engine: str
) -> None:
    """Keeps P42. With windows of four, only one rank has anything for the last."""
    lefts = on_ranks(2, of_two, kind, COUNTS, accumulate, engine, uneven)
    check(lefts, alone(COUNTS, accumulate, uneven))
    assert lefts[0].at.batches == 2 * (10 if uneven == "join" else 8)
    none = [0.0, 0.0] if uneven == "join" else []
    assert lefts[1].weights == 2 * (8 * [4.0] + none)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("sized", "In epoch 0 the ranks have 10, 8 batches, and uneven='raise'"),
        ("stream", "In epoch 0 1 of 2 ranks have another batch, and uneven='raise'"),
    ],
)
def test_every_rank_refuses_uneven_data_if_it_is_told_to(kind: str, sentence: str) -> None:
    """Keeps P42."""

    def program() -> str:
        with pytest.raises(RunDefinitionError) as raised:
            of_two(kind, COUNTS, 1, "ddp", "raise")
        return str(raised.value)

    for said in on_ranks(2, program):
        assert said.startswith(sentence)
        assert "uneven='join' or 'truncate'" in said


@pytest.mark.parametrize("kind", ["sized", "stream"])
def test_even_data_are_not_refused(kind: str) -> None:
    """Keeps P42."""
    check(on_ranks(2, of_two, kind, (3, 3), 2, "ddp", "raise"), alone((3, 3), 2, "join"))


@pytest.mark.parametrize("kind", ["sized", "stream"])
@pytest.mark.parametrize("counts", [(1, 3), (3, 1), (5, 2, 4)], ids=str)
def test_any_rank_may_have_the_most(counts: tuple[int, ...], kind: str) -> None:
    """Keeps P42."""
    check(on_ranks(len(counts), of_two, kind, counts, 2, "ddp", "join"), alone(counts, 2, "join"))


@pytest.mark.parametrize("uneven", ["join", "truncate"])
def test_every_rank_says_that_one_has_no_batch_at_all(uneven: Uneven) -> None:
    """Keeps P42."""

    def program() -> str:
        with pytest.raises(RunDefinitionError) as raised:
            of_two("stream", (3, 0), 1, "ddp", uneven)
        return str(raised.value)

    for said in on_ranks(2, program):
        assert said.startswith("Epoch 0 has no batch for every rank: 1 of 2 ranks have one. Give more data, ")


class Numbered:
    """A data set of items that are known by their number."""

    def __init__(self, items: int) -> None:
        self.items = items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> Batch:
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, generator=generator), torch.randn(2, generator=generator)


def seeded(items: int, batch_size: int, accumulate: int, engine: str | None, uneven: Uneven = "join") -> Left:
    return trained(seeded_loader(Numbered(items), batch_size=batch_size, seed=3), accumulate, engine, uneven)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(("items", "world", "batch_size"), [(17, 2, 2), (13, 3, 2), (2, 3, 1), (5, 2, 3)])
def test_a_seeded_loader_is_split_over_ranks_and_nothing_is_read_twice(
    items: int, world: int, batch_size: int, accumulate: int, engine: str
) -> None:
    """Keeps P42, and P45 of training. With 2 items for 3 ranks the last one has none of its own."""
    lefts = on_ranks(world, seeded, items, batch_size, accumulate, engine)
    check(lefts, seeded(items, world * batch_size, accumulate, None))
    assert sum(sum(one.weights) for one in lefts) == 2 * items


def test_a_seeded_loader_can_be_truncated_to_what_all_ranks_have() -> None:
    """Keeps P42."""
    lefts = on_ranks(2, seeded, 17, 2, 1, "ddp", "truncate")
    check(lefts, trained(seeded_loader(Numbered(17), batch_size=4, seed=3, drop_last=True), 1, None))


def test_a_run_that_ends_by_its_updates_within_uneven_data_ends_everywhere() -> None:
    """Keeps P42."""

    def program(kind: str) -> Progress:
        data = KINDS[kind](own_batches((2, 5)[me()]))
        return train(linear(), data, squares, sgd, max_updates=9, accumulate=2, parallel=ddp()).at

    for kind in ("sized", "stream"):
        for at in on_ranks(2, program, kind):
            assert at == Progress(updates=9, batches=15, epochs=3, epoch=2, batch=4)
