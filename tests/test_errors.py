"""Errors pass between processes, and are copied, with all that they say."""

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

import trainhooks.cli  # its errors belong to the tree
from trainhooks import DuplicateHookNameError, MissingValueError, OrderCycleError, TrainhooksError, compose
from trainhooks.errors import StorageError

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
