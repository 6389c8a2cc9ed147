"""Factors of the update count have the values of PyTorch's schedulers, and those of their formulas at every edge."""

import copy
import pickle
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import pytest
import torch
from attrs.exceptions import FrozenInstanceError
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    PolynomialLR,
    SequentialLR,
)

from tests.loop.programs import batches, equal, squares, weights
from tests.loop.programs import linear as linear_model
from trainhooks import train
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks import lr_schedule
from trainhooks.hooks.factors import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    linear,
    polynomial,
    warmup,
    warmup_stable_decay,
)

Factor: TypeAlias = Callable[[int], float]
MakeScheduler: TypeAlias = Callable[[Optimizer], LRScheduler]


def rates_of(make: MakeScheduler, updates: int) -> list[float]:
    """The rate of each update under one of PyTorch's schedulers, from a first rate of 1."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = make(optimizer)
    rates: list[float] = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def rising_then_cosine(optimizer: Optimizer) -> LRScheduler:
    first = LinearLR(optimizer, 0.25, total_iters=5)
    return SequentialLR(optimizer, [first, CosineAnnealingLR(optimizer, 20)], milestones=[5])


RESTARTS: dict[str, tuple[Factor, MakeScheduler]] = {
    "equal": (cosine_restarts(7), lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 7)),
    "doubling": (cosine_restarts(3, growth=2), lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 3, 2)),
    "to a tenth": (
        cosine_restarts(5, growth=3, end=0.1),
        lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 5, 3, 0.1),
    ),
}
"""PyTorch computes these anew at each step, so they are equal bit for bit."""

CHAINED: dict[str, tuple[Factor, MakeScheduler, int]] = {
    "constant": (constant(), lambda optimizer: ConstantLR(optimizer, 1.0), 10),
    "linear, falling": (linear(20, start=0.9, end=0.2), lambda optimizer: LinearLR(optimizer, 0.9, 0.2, 20), 30),
    "linear, rising": (linear(7, start=0.25, end=1.0), lambda optimizer: LinearLR(optimizer, 0.25, 1.0, 7), 30),
    "cosine": (cosine(20), lambda optimizer: CosineAnnealingLR(optimizer, 20), 21),
    "cosine to a tenth": (cosine(13, end=0.1), lambda optimizer: CosineAnnealingLR(optimizer, 13, 0.1), 14),
    "polynomial": (polynomial(20, power=0.9), lambda optimizer: PolynomialLR(optimizer, 20, 0.9), 30),
    "polynomial, square": (polynomial(20, power=2), lambda optimizer: PolynomialLR(optimizer, 20, 2.0), 30),
    "warm-up": (warmup(5, cosine(20), start=0.25), rising_then_cosine, 26),
}
"""PyTorch computes each of these from the one before, and its rounding errors add up."""


@pytest.mark.parametrize(("factor", "scheduler"), RESTARTS.values(), ids=RESTARTS)
def test_restarts_are_those_of_pytorch_bit_for_bit(factor: Factor, scheduler: MakeScheduler) -> None:
    assert [factor(update) for update in range(100)] == rates_of(scheduler, 100)


@pytest.mark.parametrize(("factor", "scheduler", "updates"), CHAINED.values(), ids=CHAINED)
def test_a_factor_is_that_of_pytorchs_scheduler(factor: Factor, scheduler: MakeScheduler, updates: int) -> None:
    assert [factor(update) for update in range(updates)] == pytest.approx(rates_of(scheduler, updates), abs=1e-12)


def test_a_run_with_restarts_is_bit_equal_to_a_loop_written_by_hand() -> None:
    """Keeps P71."""
    by_hand = linear_model()
    optimizer = SGD(by_hand.parameters(), 0.5)
    scheduler = CosineAnnealingWarmRestarts(optimizer, 2, 2)
    for batch in batches(9):
        optimizer.zero_grad()
        squares(by_hand, batch).loss.backward()
        optimizer.step()
        scheduler.step()
    model = linear_model()
    hook = lr_schedule(cosine_restarts(2, growth=2))
    train(model, batches(9), squares, SGD(model.parameters(), 0.5), epochs=1, hooks=hook)
    assert equal(weights(model), weights(by_hand))


@pytest.mark.parametrize(
    ("factor", "values"),
    [
        (constant(0.5), [0.5, 0.5, 0.5]),
        (linear(2), [1.0, 0.5, 0.0, 0.0]),
        (linear(4, start=0.5, end=1.5), [0.5, 0.75, 1.0, 1.25, 1.5, 1.5]),
        (linear(1, start=0.1, end=0.7), [0.1, 0.7, 0.7]),  # the end is exact: 0.1 + (0.7 - 0.1) is not 0.7
        (cosine(2), [1.0, 0.5, 0.0, 0.0]),
        (cosine(1, end=0.25), [1.0, 0.25, 0.25, 0.25]),  # it does not rise again
        (cosine_restarts(1), [1.0, 1.0, 1.0]),
        (cosine_restarts(2), [1.0, 0.5, 1.0, 0.5]),
        (cosine_restarts(1, growth=2, end=0.5), [1.0, 1.0, 0.75, 1.0]),
        (polynomial(2, power=2, end=0.5), [1.0, 0.625, 0.5, 0.5]),
        (polynomial(2, power=0), [1.0, 1.0, 0.0]),
        (warmup(1, constant()), [0.5, 1.0, 1.0]),
        (warmup(3, linear(2)), [0.25, 0.5, 0.75, 1.0, 0.5, 0.0, 0.0]),
        (warmup(2, linear(2), start=0.0), [0.0, 0.5, 1.0, 0.5, 0.0]),
        (warmup(2, constant(0.5), start=0.5), [0.25, 0.375, 0.5, 0.5]),
        (warmup(0, linear(2)), [1.0, 0.5, 0.0]),
        (warmup(1, warmup(1, constant())), [0.25, 0.5, 1.0]),
        (warmup_stable_decay(5, warmup_updates=1, decay_updates=2), [0.5, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0]),
        (warmup_stable_decay(3, warmup_updates=1, decay_updates=2, end=0.5), [0.5, 1.0, 0.75, 0.5, 0.5]),
        (warmup_stable_decay(2, warmup_updates=0, decay_updates=1), [1.0, 1.0, 0.0]),
    ],
)
def test_the_edges_are_where_the_formulas_put_them(factor: Factor, values: list[float]) -> None:
    assert [factor(update) for update in range(len(values))] == values
    assert factor(0) == values[0]  # whatever was asked before


def test_after_its_end_a_factor_stays_where_it_is() -> None:
    wsd = warmup_stable_decay(100, warmup_updates=10, decay_updates=20, end=0.01)
    for factor in (linear(100, end=0.01), cosine(100, end=0.01), polynomial(100, end=0.01), wsd):
        assert factor(99) > 0.01
        assert {factor(update) for update in (100, 101, 200, 10**9)} == {0.01}


@pytest.mark.parametrize(
    ("make", "arguments", "sentence"),
    [
        (constant, {"factor": -0.1}, r"constant takes factor as a finite number from 0 on, got -0\.1\."),
        (constant, {"factor": float("nan")}, r"constant takes factor as a finite number from 0 on, got nan\."),
        (linear, {"updates": 0}, r"linear takes updates as a whole number from 1 on, got 0\."),
        (linear, {"updates": 2, "end": float("inf")}, r"linear takes end as a finite number from 0 on, got inf\."),
        (linear, {"updates": 2, "start": True}, r"linear takes start as a finite number from 0 on, got True\."),
        (cosine, {"updates": 2.5}, r"cosine takes updates as a whole number from 1 on, got 2\.5\."),
        (cosine_restarts, {"updates": 2, "growth": 0}, r"cosine_restarts takes growth as a whole number from 1 on"),
        (polynomial, {"updates": 2, "power": -1}, r"polynomial takes power as a finite number from 0 on, got -1\."),
        (warmup, {"updates": -1, "then": constant()}, r"warmup takes updates as a whole number from 0 on, got -1\."),
        (warmup, {"updates": 1, "then": 1.0}, r"warmup takes then as a function, got 1\.0; write warmup\(100, cosine"),
        (warmup, {"updates": 1, "then": constant(), "start": -1}, "warmup takes start as a finite number from 0 on"),
        (
            warmup_stable_decay,
            {"updates": 9, "warmup_updates": 5, "decay_updates": 5},
            r"warmup_stable_decay takes updates as a whole number from 10 on, got 9\.",
        ),
        (
            warmup_stable_decay,
            {"updates": 9, "warmup_updates": 5, "decay_updates": 0},
            r"warmup_stable_decay takes decay_updates as a whole number from 1 on, got 0\.",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    make: Callable[..., Factor], arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        make(**arguments)


def rising(update: int) -> float:
    return update / 10


MAKES: dict[str, Callable[[int], Schedule]] = {
    "constant": lambda n: constant(1 / n),
    "linear": lambda n: linear(10, start=1 / n),
    "cosine": cosine,
    "cosine_restarts": lambda n: cosine_restarts(10, growth=n),
    "polynomial": lambda n: polynomial(10, power=n),
    "warmup": lambda n: warmup(2, cosine(n)),
    "warmup over a function": lambda n: warmup(n, rising),
    "warmup_stable_decay": lambda n: warmup_stable_decay(20, warmup_updates=n, decay_updates=3),
}


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_schedules_are_values(make: Callable[[int], Schedule]) -> None:
    """Keeps P92."""
    schedule = make(3)
    assert schedule == make(3) != make(4)
    assert len({schedule, make(3), make(4)}) == 2
    for other in (pickle.loads(pickle.dumps(schedule)), copy.copy(schedule), copy.deepcopy(schedule)):
        assert other == schedule
        assert [other(update) for update in range(30)] == [schedule(update) for update in range(30)]
    with pytest.raises(FrozenInstanceError):
        cast("Any", schedule).settings = make(4).settings


def test_a_schedule_is_shown_as_it_is_written() -> None:
    assert repr(warmup(100, cosine(900, end=0.1))) == "warmup(updates=100, then=cosine(updates=900, end=0.1))"
    assert repr(linear(10, start=1.0)) == "linear(updates=10)"
    assert repr(warmup(5, rising)) == "warmup(updates=5, then=tests.hooks.test_factors.rising)"


def test_a_schedule_over_a_function_that_does_not_pickle_says_so_and_is_copied_still() -> None:
    schedule = warmup(5, lambda update: 1.0)
    with pytest.raises(HookDefinitionError, match=r"its argument then does not \(.*lambda.*; give plain data, or a"):
        pickle.dumps(schedule)
    assert copy.deepcopy(schedule) == schedule == copy.copy(schedule)


def test_a_schedule_is_called_with_its_own_arguments() -> None:
    with pytest.raises(TypeError, match=r"^cosine\(\) missing 1 required positional argument: 'updates'"):
        cast("Any", cosine)()
    assert cosine.__doc__ is not None
    assert cosine.__doc__.startswith("Half a cosine")
