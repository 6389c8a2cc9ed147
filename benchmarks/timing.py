"""Programs timed in turn, round by round in one process, and held to bit-equal weights after every round."""

import gc
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TypeAlias, final

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.optim import Optimizer

from .programs import Program

Times: TypeAlias = Mapping[str, Sequence[float]]
"""Seconds of each round, by the program's name."""


class WeightsDifferError(AssertionError):
    """Two programs that should train the same model did not."""


@final
@frozen(kw_only=True)
class Ratio:
    """How long one program takes, where another takes 1."""

    median: float
    """Of the rounds, each compared within itself."""
    minimum: float
    """Of the rounds likewise."""
    of_the_best: float
    """The quickest round of the one against the quickest round of the other."""


def race(
    programs: Mapping[str, Program],
    make_model: Callable[[], nn.Module],
    make_optimizer: Callable[[nn.Module], Optimizer],
    *,
    rounds: int,
) -> Times:
    """Run every program once a round, in the order given; a first round warms up and is not counted.

    Raises:
        WeightsDifferError: if the weights that a program leaves are not those of the first, bit for bit.
    """
    times: dict[str, list[float]] = {name: [] for name in programs}
    with _frozen():
        for _ in range(1 + rounds):
            first: list[Tensor] | None = None
            for name, program in programs.items():
                model = make_model()
                times[name].append(_seconds(program, model, make_optimizer(model)))
                weights = list(model.state_dict().values())
                first = first or weights
                if not all(map(torch.equal, first, weights)):
                    raise WeightsDifferError(f"The weights of {name!r} differ from those of {next(iter(programs))!r}.")
    return {name: taken[1:] for name, taken in times.items()}


@contextmanager
def _frozen() -> Generator[None]:
    """Hide from the garbage collector what is there already: collecting between two programs is quick then."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _seconds(program: Program, model: nn.Module, optimizer: Optimizer) -> float:
    """Processor time of one call, which others cannot lengthen by taking turns, with the garbage collector at rest."""
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        program(model, optimizer)
        return time.process_time() - began
    finally:
        gc.enable()


@final
@frozen
class Act:
    """Something to time by the clock on the wall, because it waits for others."""

    do: Callable[[], object]
    after: Callable[[], object] = lambda: None
    """Puts things back; it is not timed."""


def take_turns(acts: Mapping[str, Act], *, rounds: int) -> Times:
    """Do everything once a round, in the order given; a first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    with _frozen():
        for _ in range(1 + rounds):
            for name, act in acts.items():
                began = time.perf_counter()
                act.do()
                times[name].append(time.perf_counter() - began)
                act.after()
    return {name: taken[1:] for name, taken in times.items()}


def ratio(times: Times, name: str, against: str) -> Ratio:
    """One program against another."""
    ours, theirs = times[name], times[against]
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Ratio(median=median(ratios), minimum=min(ratios), of_the_best=min(ours) / min(theirs))
