"""What gives samples and not batches is refused as data, wherever data is taken, and is not iterated to find out."""

from collections import UserDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from tests.loop.programs import Batch, batches, linear, sgd, squares
from trainhooks import Evaluation, RunDefinitionError, evaluate, lr_finder, predict, train
from trainhooks.data import first


class Stream(IterableDataset[Batch]):
    def __iter__(self) -> Iterator[Batch]:
        return iter(batches(2))


class OnlyIterated(Dataset[Batch]):
    """It calls itself a dataset, and gives batches."""

    def __iter__(self) -> Iterator[Batch]:
        return iter(batches(2))


class AsHuggingFace:
    """It is no torch Dataset, and is read by index as one."""

    def __getitem__(self, index: int) -> Batch:
        return batches(1)[0]

    def __getitems__(self, indices: list[int]) -> list[Batch]:
        return [self[index] for index in indices]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Batch]:
        raise AssertionError("It is not iterated to find out.")


class Table:
    """As a table of pandas or polars: iterated, it gives names of columns."""

    def __dataframe__(self) -> object:
        return self

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("It is not iterated to find out.")


SAMPLES = TensorDataset(*batches(1)[0])
NO_BATCHES: Mapping[str, tuple[Any, str]] = {
    "TensorDataset": (
        SAMPLES,
        r"a dataset \(TensorDataset\), .* wrap it in a DataLoader: DataLoader\(dataset, batch_size",
    ),
    "Subset": (Subset(SAMPLES, [0, 1]), r"a dataset \(Subset\), .* wrap it in a DataLoader"),
    "ConcatDataset": (
        ConcatDataset[Any]([SAMPLES, SAMPLES]),
        r"a dataset \(ConcatDataset\), .* wrap it in a DataLoader",
    ),
    "another library's": (AsHuggingFace(), r"a dataset \(AsHuggingFace\), .* wrap it in a DataLoader"),
    "tensor": (torch.ones(4, 3), r"a Tensor, .* wrap it in a DataLoader: DataLoader\(TensorDataset"),
    "parameter": (nn.Parameter(torch.ones(4, 3)), "a Parameter, .* wrap it in a DataLoader"),
    "array": (numpy.ones((4, 3)), "a ndarray, .* wrap it in a DataLoader"),
    "table": (Table(), "a Table, .* wrap it in a DataLoader"),
    "dict": ({"x": torch.ones(4, 3)}, r"a dict, which gives its keys .* in a DataLoader. A single batch is \[batch\]"),
    "mapping": (UserDict(x=torch.ones(4, 3)), "a UserDict, which gives its keys"),
    "class": (OnlyIterated, r"the class OnlyIterated; give an object: OnlyIterated\(\.\.\.\)"),
    "text": ("train.csv", "a str, which gives no batches; wrap a dataset in a DataLoader"),
    "bytes": (b"train", "a bytes, which gives no batches"),
    "model": (nn.Sequential(linear()), "a Sequential, which gives no batches"),
}


@pytest.mark.parametrize(("data", "sentence"), NO_BATCHES.values(), ids=NO_BATCHES)
def test_what_gives_samples_is_refused_wherever_data_is_taken(data: Any, sentence: str) -> None:
    model = linear()
    optimizer, given = sgd(model), batches(2)
    takers: list[tuple[str, Callable[[], object]]] = [
        ("", lambda: train(model, data, squares, optimizer, epochs=1)),
        ("", lambda: lr_finder(model, data, squares, optimizer)),
        ("", lambda: evaluate(model, data, squares)),
        ("", lambda: predict(model, data, lambda model, batch: (model(batch), None, None))),
        (" of first", lambda: first(data, 1)),
        (
            " of the evaluation 'val'",
            lambda: train(model, given, squares, optimizer, epochs=1, evaluations=[Evaluation("val", data)]),
        ),
    ]
    for whose, take in takers:
        with pytest.raises(RunDefinitionError, match=f"^The data{whose} is {sentence}"):
            take()


@pytest.mark.parametrize(
    "data",
    [
        Stream(),
        OnlyIterated(),
        DataLoader(SAMPLES, 2),
        first(DataLoader(SAMPLES, 2), 1),
        tuple(batches(2)),
        deque(batches(2)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_gives_batches_is_data(data: Any) -> None:
    model = linear()
    assert train(model, data, squares, sgd(model), epochs=1).at.updates in (1, 2)
    assert set(evaluate(model, data, squares)) == {"evaluation/loss"}
