"""What single parts of a step and of a start cost; `make bench-parts` measures them and prints a table.

Times of parts are not ratios: compare them with those of the same machine, taken in the same minute.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainhooks import compose
from trainhooks.core import EVENTS, BatchBegin, BatchEnd, Progress, Rank, Run, StepOutput
from trainhooks.loop import FUNCTIONS, Heard, Records, Requests, bind_table, hear, specialise
from trainhooks.loop.quick import Quick

from .programs import OPTIMIZERS, bare, batches, noops, sets_of, table_of, tiny

Call: TypeAlias = Callable[[], object]


class Benchmark(Protocol):
    """The fixture of pytest-benchmark, as far as it is used here."""

    group: str | None

    def __call__(self, call: Call, /) -> object:
        """Time many calls in a row."""
        ...

    def pedantic(self, call: Callable[..., object], /, *, setup: Callable[[], object], rounds: int) -> object:
        """Time calls one by one, each with the arguments that `setup` makes before it, untimed."""
        ...


ROUNDS: Final = 2000
"""Calls that are timed one by one."""
RUN: Final = Run(
    model=tiny(), optimizers=(), device=torch.device("cpu"), rank=Rank(), epochs=1, max_updates=None, accumulate=1,
    precision="float32", seed=None, run_id="parts",
)  # fmt: skip
AT: Final = Progress()
BATCH: Final = batches(1)[0]
LOSS: Final = torch.ones(())
CONTEXTS: Final[dict[str, Call]] = {
    "BatchBegin": lambda: BatchBegin(run=RUN, at=AT, batch=BATCH, closes_window=True),
    "BatchEnd": lambda: BatchEnd(
        run=RUN, at=AT, batch=BATCH, output=LOSS, loss=LOSS, losses={"loss": LOSS}, weight=4.0, updated=True
    ),
    "Progress": lambda: Progress(updates=1, batches=1, epochs=0, epoch=0, batch=1),
    "StepOutput": lambda: StepOutput(LOSS, weight=4.0, output=LOSS, target=LOSS),
}
"""What a step makes, each as the loop makes it."""
TABLES: Final = {
    "no events": frozenset[str](),
    "two events": frozenset({"on_batch_begin", "on_batch_end"}),
    "all events": frozenset(EVENTS),
}
"""The events of a table, which say how much is left out of its loop."""


def heard_with(hooks: int) -> Heard:
    """What a run hears with so many hooks on each of the two batch events."""
    bound = bind_table(table_of(noops(hooks), noops(hooks)), Rank(), lambda: 0.0)
    return hear(bound.hooks, Records(), Requests())


@pytest.mark.parametrize("hooks", [0, 1, 10, 100])
def test_dispatch_of_an_event(benchmark: Benchmark, hooks: int) -> None:
    benchmark.group = "dispatch an event, by count of hooks"
    heard = heard_with(hooks)
    ctx: BatchBegin[object, object] = BatchBegin(run=RUN, at=AT, batch=BATCH, closes_window=True)

    def dispatch() -> None:
        if heard.on_batch_begin is not None:
            heard.on_batch_begin(ctx)

    benchmark(dispatch)


@pytest.mark.parametrize("record", CONTEXTS)
def test_making_a_record(benchmark: Benchmark, record: str) -> None:
    benchmark.group = "make what a step makes"
    benchmark(CONTEXTS[record])


@pytest.mark.parametrize("sets", [10, 100, 1000])
def test_compose(benchmark: Benchmark, sets: int) -> None:
    benchmark.group = "compose, by count of hook sets"
    made = sets_of(noops(sets), noops(sets))
    benchmark(lambda: compose(*made))


@pytest.mark.parametrize("table", TABLES)
def test_specialise(benchmark: Benchmark, table: str) -> None:
    benchmark.group = "specialise the loop: once a process for each set of events"
    events = TABLES[table]
    made = benchmark(lambda: specialise.__wrapped__(events))  # past its cache
    assert made is not FUNCTIONS, "the source of the loop is at hand"


def test_specialise_again(benchmark: Benchmark) -> None:
    benchmark.group = "specialise the loop: for events that were met before"
    events = TABLES["two events"]
    specialise(events)
    benchmark(lambda: specialise(events))


def trained(optimizer: str) -> tuple[nn.Module, Optimizer, Quick]:
    """The tiny model after a step, so that its optimizer has its state and its parameters have gradients."""
    model = tiny()
    made = OPTIMIZERS[optimizer](model)
    loss_of(model).backward()
    made.step()
    return model, made, Quick(made)


def loss_of(model: nn.Module) -> Tensor:
    """A fresh loss with its graph."""
    loss = bare(model, BATCH)
    assert isinstance(loss, Tensor)
    return loss


def given(*arguments: object) -> tuple[tuple[object, ...], dict[str, object]]:
    """Arguments as the setup of a call hands them over."""
    return arguments, {}


def test_backward(benchmark: Benchmark) -> None:
    benchmark.group = "backward"
    model, _, quick = trained("SGD")
    benchmark.pedantic(quick.backward, setup=lambda: given(loss_of(model)), rounds=ROUNDS)


def test_backward_by_torch(benchmark: Benchmark) -> None:
    benchmark.group = "backward"
    model, _, _ = trained("SGD")
    backward = cast("Callable[[Tensor], object]", Tensor.backward)
    benchmark.pedantic(backward, setup=lambda: given(loss_of(model)), rounds=ROUNDS)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_step(benchmark: Benchmark, optimizer: str) -> None:
    benchmark.group = f"step of {optimizer}"
    _, _, quick = trained(optimizer)
    benchmark(quick.step)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_step_by_torch(benchmark: Benchmark, optimizer: str) -> None:
    benchmark.group = f"step of {optimizer}"
    _, made, _ = trained(optimizer)
    step: Any = made.step
    benchmark(step)


def test_zero(benchmark: Benchmark) -> None:
    benchmark.group = "zero"
    model, _, quick = trained("SGD")
    benchmark.pedantic(quick.zero, setup=lambda: give_gradients(model), rounds=ROUNDS)


def test_zero_by_torch(benchmark: Benchmark) -> None:
    benchmark.group = "zero"
    model, made, _ = trained("SGD")
    benchmark.pedantic(made.zero_grad, setup=lambda: give_gradients(model), rounds=ROUNDS)


def give_gradients(model: nn.Module) -> None:
    """Something to set to None."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
