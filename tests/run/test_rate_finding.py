"""The search for a learning rate trains as it says, and leaves everything as it was."""

import copy
import math
import random
from collections.abc import Iterable
from typing import Any, cast

import numpy
import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, Dice, batches, deep, linear, mean_loss, sgd, squares
from trainhooks import StepOutput, lr_finder
from trainhooks.errors import RunDefinitionError
from trainhooks.run.rate_finding import suggestion


def by_hand(data: list[Batch], rates: Iterable[float]) -> list[float]:
    model = linear()
    optimizer = sgd(model)
    losses: list[float] = []
    for batch, rate in zip(data, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = squares(model, batch).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_the_losses_are_those_of_a_loop_written_by_hand() -> None:
    """Keeps P71."""
    data, model = batches(9), linear()
    found = lr_finder(model, data, squares, sgd(model), lowest=1e-4, highest=1e-1, updates=9)
    assert found.rates == tuple(1e-4 * (1e-1 / 1e-4) ** (index / 8) for index in range(9))
    assert found.rates[0] == 1e-4
    assert found.rates[-1] == pytest.approx(0.1)
    assert list(found.losses) == by_hand(data, found.rates)
    average = 0.0
    for count, (loss, smoothed) in enumerate(zip(found.losses, found.smoothed, strict=True), start=1):
        average = 0.98 * average + 0.02 * loss
        assert smoothed == pytest.approx(average / (1 - 0.98**count))
    assert found.suggestion == suggestion(found.rates, found.smoothed)


class Buffered(nn.Module):
    """A model with a buffer that no state dict has, a count in its extra state, and randomness."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = deep()
        self.calls = 0
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen += 1
        return cast("Tensor", self.inner(x))

    def get_extra_state(self) -> int:
        return self.calls

    def set_extra_state(self, state: int) -> None:
        self.calls = state


def everything(model: Buffered, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return copy.deepcopy(
        {
            "weights": dict(model.state_dict()),
            "seen": model.seen,
            "grad": [one.grad for one in model.parameters()],
            "modes": [one.training for one in model.modules()],
            "optimizer": optimizer.state_dict(),
            "streams": (random.getstate(), str(numpy.random.get_state()), torch.get_rng_state()),
        }
    )


def same(one: object, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        pairs = cast("dict[object, object]", one)
        return list(pairs) == list(other) and all(same(value, other[key]) for key, value in pairs.items())
    if isinstance(one, list | tuple):
        parts = cast("list[object]", one)
        return len(parts) == len(other) and all(map(same, parts, other))
    return bool(one == other)


def prepared(kind: str) -> tuple[Buffered, torch.optim.Optimizer]:
    """A model in the middle of its training: there are moments, gradients, and modes of its own."""
    model = Buffered()
    model.inner[1].eval()
    optimizers: dict[str, Any] = {
        "adam": lambda: torch.optim.AdamW(model.parameters(), lr=0.01),
        "adam, rate a tensor": lambda: torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.01)),
        "momentum": lambda: sgd(model),
        "fresh": lambda: torch.optim.Adam(model.parameters()),
    }
    optimizer: torch.optim.Optimizer = optimizers[kind]()
    if kind != "fresh":
        for batch in batches(2):
            mean_loss(model, batch).backward()
            optimizer.step()
    return model, optimizer


KEPT_IN_EVAL = pytest.mark.filterwarnings("ignore:These modules were in eval mode:RuntimeWarning")


@KEPT_IN_EVAL
@pytest.mark.parametrize("kind", ["adam", "adam, rate a tensor", "momentum", "fresh"])
def test_everything_is_bit_equal_to_what_it_was(kind: str) -> None:
    model, optimizer = prepared(kind)
    before, rate = everything(model, optimizer), optimizer.param_groups[0]["lr"]
    found = lr_finder(model, Dice(), squares, optimizer, updates=12)
    assert len(found.losses) > 5
    assert same(everything(model, optimizer), before)
    assert optimizer.param_groups[0]["lr"] is rate or not isinstance(rate, Tensor)


@KEPT_IN_EVAL
def test_everything_is_put_back_when_the_search_fails() -> None:
    calls = 0

    def fail(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise ValueError("broken")
        return squares(model, batch)

    model, optimizer = prepared("adam")
    before = everything(model, optimizer)
    with pytest.raises(ValueError, match="broken"):
        lr_finder(model, batches(3), fail, optimizer)
    assert same(everything(model, optimizer), before)


def test_two_searches_from_one_state_are_equal() -> None:
    """Keeps P12."""
    model = linear()
    optimizer = sgd(model)
    assert lr_finder(model, batches(3), squares, optimizer) == lr_finder(model, batches(3), squares, optimizer)


def scripted(losses: list[float]) -> Any:
    """A step whose losses are these."""
    waiting = iter(losses)

    def step(model: nn.Module, batch: Batch) -> Tensor:
        output = cast("Tensor", model(batch[0])).sum()
        return output * 0.0 + next(waiting)

    return step


@pytest.mark.parametrize(
    ("losses", "made", "smoothed"),
    [
        ([1.0, 1.0, 1.0, 99.0, 1.0], 4, 4),  # the average is far beyond four times the least
        ([1.0, math.nan, 1.0], 2, 1),
        ([1.0, 0.5, math.inf, 1.0], 3, 2),
        ([1.0] * 6, 6, 6),
    ],
)
def test_the_search_stops_when_the_loss_diverges(losses: list[float], made: int, smoothed: int) -> None:
    model = linear()
    found = lr_finder(model, batches(2), scripted([*losses, *losses]), sgd(model), updates=max(6, len(losses)))
    assert len(found.losses) == len(found.rates) == made
    assert len(found.smoothed) == smoothed


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_least_loss() -> None:
    assert suggestion([1e-3, 1e-2, 1.0, 2.0], [5.0, 4.0, 1.0, 3.0]) == 0.1
    assert suggestion([1e-3, 1e-2], [5.0, 6.0]) is None
    assert suggestion([1e-3], [5.0]) is None
    assert suggestion([], []) is None


def test_on_a_quadratic_the_suggestion_is_a_rate_that_trains() -> None:
    model = nn.Linear(8, 1, bias=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.weight.copy_(torch.randn(1, 8, generator=generator))
    data = [(torch.randn(64, 8, generator=generator), torch.zeros(64, 1)) for _ in range(10)]
    found = lr_finder(model, data, squares, torch.optim.SGD(model.parameters(), lr=1.0))
    assert found.suggestion is not None
    assert 1e-3 < found.suggestion < 1.0
    assert len(found.losses) < 100  # beyond a rate of 1 it diverges


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"lowest": 0.0}, r"lowest as a finite number above 0\.0, got 0\.0"),
        ({"highest": 1e-8}, "highest as a finite number above 1e-07, got 1e-08"),
        ({"diverges_at": 1.0}, r"diverges_at as a finite number above 1\.0, got 1\.0"),
        ({"highest": math.nan}, "highest as a finite number above 1e-07, got nan"),
        ({"updates": 1}, "updates as a whole number from 2 on, got 1"),
        ({"optimizer": sgd}, "takes an optimizer that was made, got <function sgd"),
        ({"data": iter(batches(2))}, "one-shot"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    model = linear()
    given: dict[str, Any] = {"data": batches(2), "step": squares, "optimizer": sgd(model), **arguments}
    with pytest.raises(RunDefinitionError, match=sentence):
        lr_finder(model, **given)
