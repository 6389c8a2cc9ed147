"""What no batches can be made of is refused when the loader is built, with a sentence that says what to write."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from trainhooks import Rank, RunDefinitionError
from trainhooks.data import Cursor, first, seeded_loader

loosely: Callable[..., Any] = seeded_loader
"""Without its types, which refuse most of this already."""


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter([torch.zeros(1)])


class NoLength(Dataset[Tensor]):
    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 0}, "seeded_loader takes batch_size as a whole number from 1 on, got 0."),
        ({"batch_size": 2.0}, "seeded_loader takes batch_size as a whole number from 1 on, got 2.0."),
        ({"batch_size": True}, "seeded_loader takes batch_size as a whole number from 1 on, got True."),
        ({"num_workers": -1}, "seeded_loader takes num_workers as a whole number from 0 on, got -1."),
        ({"seed": None}, "seeded_loader takes seed as a whole number, such as seed=0, got None."),
        ({"seed": 1.5}, "seeded_loader takes seed as a whole number, such as seed=0, got 1.5."),
        ({"seed": False}, "seeded_loader takes seed as a whole number, such as seed=0, got False."),
        (
            {"collate_fn": 3},
            "seeded_loader takes collate_fn as a function of the list of a batch's samples, or None, got 3.",
        ),
        (
            {"batch_size": 4, "drop_last": True},
            (
                "seeded_loader with drop_last=True has no batch: the dataset has 3 samples, and batch_size=4; give a "
                "smaller batch_size, or drop_last=False."
            ),
        ),
    ],
    ids=str,
)
def test_an_argument_that_makes_no_sense_is_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(RunDefinitionError) as raised:
        loosely([1, 2, 3], **{"batch_size": 2, "seed": 0, **options})
    assert str(raised.value) == sentence


NEEDS = "give it torch.utils.data.TensorDataset(x, y), a list of samples, or a Dataset of your own."


DATASETS: list[tuple[object, str]] = [
    (
        Stream(),
        (
            "seeded_loader reads samples by their index, and Stream is an IterableDataset, which has none. Write a "
            "Dataset with __getitem__ and __len__, or give train a DataLoader of it, which resumes at the "
            "beginning of an epoch."
        ),
    ),
    (
        NoLength(),
        f"seeded_loader takes a dataset with __getitem__ and __len__, and NoLength has no __len__; {NEEDS}",
    ),
    (
        DataLoader[Tensor](NoLength()),
        f"seeded_loader takes a dataset with __getitem__ and __len__, and DataLoader has no __getitem__; {NEEDS}",
    ),
    (
        iter([1]),
        f"seeded_loader takes a dataset with __getitem__ and __len__, and list_iterator has no __getitem__; {NEEDS}",
    ),
    (
        torch.tensor(1),
        "seeded_loader needs len() of the dataset, and Tensor has none: len() of a 0-d tensor",
    ),
    ([], "seeded_loader got a dataset without a sample (list); give it at least one."),
]


@pytest.mark.parametrize(("dataset", "sentence"), DATASETS, ids=lambda value: type(value).__name__)
def test_a_dataset_without_indices_a_length_or_a_sample_is_refused(dataset: object, sentence: str) -> None:
    with pytest.raises(RunDefinitionError) as raised:
        loosely(dataset, batch_size=2, seed=0)
    assert str(raised.value).rstrip(".") == sentence.rstrip(".")


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ((-1,), "epoch_batches takes epoch as a whole number from 0 on, got -1."),
        ((0, -1), "epoch_batches takes start as a whole number from 0 on, got -1."),
        ((0, 0.0), "epoch_batches takes start as a whole number from 0 on, got 0.0."),
        (
            (0, 3),
            (
                "epoch_batches takes start up to the 2 batches of an epoch, got 3: the place was taken with another "
                "dataset, batch_size or number of processes."
            ),
        ),
    ],
    ids=str,
)
def test_a_place_that_an_epoch_does_not_have_is_refused_at_once(place: tuple[Any, ...], sentence: str) -> None:
    loader = seeded_loader([torch.zeros(1)] * 3, batch_size=2, seed=0)
    sources: list[Cursor[Tensor]] = [loader, first(loader, 2)]
    for source in sources:
        with pytest.raises(RunDefinitionError) as raised:
            source.epoch_batches(*place)
        assert str(raised.value) == sentence


@pytest.mark.parametrize("index", [-1, 2])
def test_a_rank_outside_its_world_is_refused(index: int) -> None:
    loader = seeded_loader([torch.zeros(1)] * 3, batch_size=2, seed=0)
    rank = Rank(index=index, world=2)
    for asked in (partial(loader.length, rank), partial(loader.epoch_batches, 0, 0, rank)):
        with pytest.raises(RunDefinitionError, match="takes a rank with an index from 0 to below its world, got Rank"):
            asked()


@pytest.mark.parametrize("n", [0, -1, 1.0, True, None])
def test_first_takes_one_batch_or_more(n: Any) -> None:
    for data in ([1, 2], seeded_loader([torch.zeros(1)], batch_size=1, seed=0)):
        with pytest.raises(RunDefinitionError) as raised:
            first(data, n)
        assert str(raised.value) == f"first takes n as a whole number from 1 on, got {n!r}."


def test_first_takes_data_that_can_be_iterated_again() -> None:
    with pytest.raises(RunDefinitionError) as raised:
        first((batch for batch in [1, 2]), 1)
    assert str(raised.value) == (
        "first takes data that can be iterated again, and a generator is one-shot; give it a list of batches or a "
        "loader."
    )
    nothing = cast("Any", 3)
    with pytest.raises(RunDefinitionError, match=r"to iterate over, such as a loader or a list, got 3"):
        first(nothing, 1)
