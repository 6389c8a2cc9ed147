"""Errors pass between processes, and are copied, with all that they say."""

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import attrs
import numpy
import pytest
import torch
from torch import nn

import trainhooks.cli  # its errors belong to the tree
from trainhooks import DuplicateHookNameError, MissingValueError, OrderCycleError, TrainhooksError, compose
from trainhooks.errors import StorageError, shown

assert trainhooks.cli.__doc__


class OfAUserError(OrderCycleError):
    """Takes something else than `args` holds."""

    def __init__(self, *, sets: int) -> None:
        super().__init__(f"{sets} sets", ("a", "b", "a"))
        self.sets = sets


class ReadsItsArgumentsError(TrainhooksError):
    """Has its sentence from `__str__`."""

    def __init__(self, left: float, right: float) -> None:
        super().__init__(left, right)

    def __str__(self) -> str:
        return "{} is not {}".format(*self.args)


FACTS: dict[type[TrainhooksError], Callable[[], TrainhooksError]] = {
    OrderCycleError: lambda: OrderCycleError("a circle", ("a", "b", "a")),
    DuplicateHookNameError: lambda: DuplicateHookNameError("two", "ema", (0, 2)),
    MissingValueError: lambda: MissingValueError("no value", "val/loss", ("train/loss",)),
    StorageError: lambda: StorageError("full", "space"),
    OfAUserError: lambda: OfAUserError(sets=3),
    ReadsItsArgumentsError: lambda: ReadsItsArgumentsError(1.0, 2.0),
}


def tree(root: type[TrainhooksError] = TrainhooksError) -> Iterator[type[TrainhooksError]]:
    if root.__module__.partition(".")[0] == "trainhooks" or root in FACTS:
        yield root
    for one in root.__subclasses__():
        yield from tree(one)


EVERY = sorted(set(tree()), key=str)


def by_pickle(error: TrainhooksError) -> Any:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("passed_on", [by_pickle, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", EVERY)
def test_every_error_is_passed_on_with_its_facts_and_notes(
    kind: type[TrainhooksError], passed_on: Callable[[TrainhooksError], Any]
) -> None:
    error = FACTS.get(kind, lambda: kind("a sentence"))()
    error.add_note("in the hook f on on_batch_end")
    there = passed_on(error)
    assert type(there) is kind
    assert (str(there), there.args, there.__dict__) == (str(error), error.args, error.__dict__)
    assert there.__notes__ == ["in the hook f on on_batch_end"]


def in_circles() -> None:
    hear: Any = print
    compose(
        {"name": "a", "on_epoch_end": hear, "before": frozenset({"b"})},
        {"name": "b", "on_epoch_end": hear, "before": frozenset({"a"})},
    )


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_error_comes_out_of_a_pool_of_processes_as_what_it_was() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool, pytest.raises(OrderCycleError) as caught:
        pool.submit(in_circles).result()
    assert set(caught.value.path) == {"a", "b"}


@attrs.frozen
class OfTensors:
    value: object


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "None"),
        ("a  b\n", "'a  b\\n'"),
        (1.5, "1.5"),
        ((1,), "(1,)"),
        (["val/loss", 3], "['val/loss', 3]"),
        (list(range(9)), "[0, 1, 2, 3, ...]"),
        ({"a": torch.ones(2)}, "{'a': <Tensor of shape (2,), torch.float32>}"),
        (torch.tensor(0.5), "<Tensor of shape (), torch.float32>"),
        (nn.Parameter(torch.ones(2, 2)), "<Parameter of shape (2, 2), torch.float32>"),
        (numpy.zeros((3, 3)), "<ndarray of shape (3, 3), float64>"),
        (numpy.float32(0.5), "np.float32(0.5)"),
        (torch.float32, "torch.float32"),
        (nn.Linear(1, 1), "Linear(in_features=1, out_features=1, bias=True)"),
        (int, "<class 'int'>"),
    ],
)
def test_a_value_is_shown_short_in_a_sentence(value: object, expected: str) -> None:
    assert shown(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "x" * 9999, 10**999, [[torch.zeros(99)] * 99] * 99, dict.fromkeys(range(99), "y" * 99), OfTensors([1.0] * 999),
        nn.Sequential(*[nn.Linear(1, 1)] * 99), [nn.Sequential(nn.Linear(1, 1))] * 3, {1, 2, 3, 4, 5, 6},
    ],
    ids=range(8),
)  # fmt: skip
def test_what_is_long_is_cut_and_stays_in_a_line(value: object) -> None:
    assert len(shown(value)) < 700
    assert "\n" not in shown(value)
