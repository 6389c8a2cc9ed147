"""Python calls and instructions a step: what a machine's other tenants cannot blur."""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import torch

import trainhooks

from .programs import OPTIMIZERS, Program, Step, bare, batches, by_hand, by_trainhooks, noops, table_of, tiny

_EXTRA = 100
TORCH: Final = "torch"
THE_PROGRAM: Final = "the program"
_MADE_BY_ATTRS: Final = "<attrs generated methods trainhooks."
_HOUSE: Final = Path(trainhooks.__file__).parent
_TORCH_HOUSE: Final = Path(torch.__file__).parent


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


def instructions_of(function: Callable[[], object]) -> Counter[str]:
    """Instructions of Python's virtual machine that `function` executes, by where they stand.

    Functions of trainhooks have each a name of their own; torch and everything else are summed up.
    """
    found = Counter[CodeType]()

    def count(frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            found[frame.f_code] += 1
        return count

    gc.disable()
    sys.settrace(count)
    try:
        function()
    finally:
        sys.settrace(None)
        gc.enable()
    places = Counter[str]()
    for code, times in found.items():
        places[_place(code)] += times
    return places


def _place(code: CodeType) -> str:
    file = Path(code.co_filename)
    if file.is_relative_to(_TORCH_HOUSE):
        return TORCH
    if file.is_relative_to(_HOUSE):
        return f"{file.relative_to(_HOUSE)}: {code.co_qualname}"
    if code.co_filename.startswith(_MADE_BY_ATTRS):
        return f"{code.co_filename.removeprefix(_MADE_BY_ATTRS).rstrip('>')}: {code.co_name}"
    return THE_PROGRAM


def instructions_a_step(make: Callable[[int], Program]) -> Mapping[str, float]:
    """What each further step of SGD adds, the most first; `make` takes the number of batches."""

    def instructions(count: int) -> Counter[str]:
        program = make(count)
        model = tiny()
        optimizer = OPTIMIZERS["SGD"](model)
        program(model, optimizer)
        return instructions_of(lambda: program(model, optimizer))

    added = instructions(10 + _EXTRA)
    added.subtract(instructions(10))
    return {place: times / _EXTRA for place, times in added.most_common() if times >= _EXTRA}
