"""Python calls a step: what a machine's other tenants cannot blur."""

import gc
import sys
from collections.abc import Callable
from types import FrameType

from .programs import OPTIMIZERS, Program, Step, bare, batches, by_hand, by_trainhooks, noops, table_of, tiny

_EXTRA = 100


def calls_of(function: Callable[[], object]) -> int:
    """Python functions entered while `function` runs, itself included; those of C are not counted."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    gc.disable()  # whoever watches the garbage collector is called by it
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def calls_a_step(make: Callable[[int], Program]) -> float:
    """What each further step of SGD adds; `make` takes the number of batches."""

    def calls(count: int) -> int:
        program = make(count)
        model = tiny()
        optimizer = OPTIMIZERS["SGD"](model)
        program(model, optimizer)  # what is imported late or cached is there
        return calls_of(lambda: program(model, optimizer))

    return (calls(10 + _EXTRA) - calls(10)) / _EXTRA


def calls_by_hand(hooks: int) -> float:
    """Of the hand-written loop that calls so many hooks twice."""
    begin, end = noops(hooks), noops(hooks)
    return calls_a_step(lambda count: by_hand(batches(count), begin, end))


def calls_by_trainhooks(hooks: int, step: Step = bare) -> float:
    """Of the same training with so many hooks on the two batch events."""
    begin, end = noops(hooks), noops(hooks)
    table = table_of(begin, end)
    return calls_a_step(lambda count: by_trainhooks(batches(count), step, table))
