"""What a step costs, counted: calls, contexts, memory and tensors, which a machine's other tenants cannot blur."""

import gc
import sys
import tracemalloc
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeAlias, final

import pytest
import torch
from attrs import define, field
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.counting import calls_of
from benchmarks.programs import OPTIMIZERS, Batch, Program, batches, by_hand, by_trainhooks, noops, table_of, tiny
from benchmarks.rows import FORMS
from trainhooks import EVENTS, DispatchTable, Progress, train

MOST_CALLS: Final[Mapping[tuple[str, str], Mapping[int, int]]] = {
    ("SGD", "bare loss"): {0: 32, 1: 51, 10: 69},
    ("SGD", "supervised"): {0: 33, 1: 51, 10: 69},
    ("AdamW", "bare loss"): {0: 35, 1: 54, 10: 72},
    ("AdamW", "supervised"): {0: 36, 1: 54, 10: 72},
}
"""Python calls a step, at most, by the count of hooks on each of the two batch events; lower them when they fall."""

KINDS: Final = frozenset({spec.context for spec in EVENTS.values()} | {Progress})
EXTRA: Final = 50
"""Steps that the longer of two runs makes more."""
WINDOW: Final = 256
"""Steps in which the epoch's means grow and are folded."""
STEPS: Final = 4 * WINDOW
"""Steps between two windows whose memory is compared."""
FEW_BLOCKS: Final = STEPS // 16
FEW_BYTES: Final = 64
"""What a list takes more or less as it grows."""

Count: TypeAlias = Callable[[Callable[[], object]], Counter[str]]
every_program: Final = pytest.mark.parametrize(
    ("optimizer", "form"), MOST_CALLS, ids=["-".join(case) for case in MOST_CALLS]
)


def a_step(count: Count, make: Callable[[int], Program], optimizer: str) -> Mapping[str, float]:
    """What each further step adds to what `count` finds in a run; `make` takes the number of batches."""

    def found(batches: int) -> Counter[str]:
        program, model = make(batches), tiny()
        made = OPTIMIZERS[optimizer](model)
        program(model, made)  # what is imported late or cached is there
        return count(lambda: program(model, made))

    short, long = found(5), found(5 + EXTRA)
    return {name: (long[name] - short[name]) / EXTRA for name in long if long[name] != short[name]}


def plain(count: int) -> Program:
    return by_hand(batches(count), (), ())


def ours(form: str, hooks: int) -> Callable[[int], Program]:
    table = table_of(noops(hooks), noops(hooks))
    return lambda count: by_trainhooks(batches(count), FORMS[form], table)


def calls(function: Callable[[], object]) -> Counter[str]:
    return Counter(calls=calls_of(function))


def contexts(function: Callable[[], object]) -> Counter[str]:
    """The contexts and the progress that are made while `function` runs, by their kinds."""
    made: Counter[str] = Counter()

    def see(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_name == "__init__":
            one: object = frame.f_locals[frame.f_code.co_varnames[0]]
            made.update([type(one).__name__] if type(one) in KINDS else ())

    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(None)
    return made


def tensors(function: Callable[[], object]) -> Counter[str]:
    """The tensors with memory of their own that operators make while `function` runs."""
    with MadeTensors() as mode:
        function()
    return Counter(tensors=mode.count)


@final
class MadeTensors(TorchDispatchMode):
    """Sees the operators of backward and of the optimizer too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        returns: Sequence[Any] = func._schema.returns
        self.count += sum(one.alias_info is None and isinstance(one.type, torch.TensorType) for one in returns)
        return func(*args, **(kwargs or {}))


@every_program
def test_a_step_makes_no_more_python_calls_than_it_did(optimizer: str, form: str) -> None:
    """Keeps P58."""
    most = MOST_CALLS[optimizer, form]
    found = {hooks: a_step(calls, ours(form, hooks), optimizer)["calls"] for hooks in most}
    assert {hooks: count for hooks, count in found.items() if count > most[hooks]} == {}
    assert found[0] < a_step(calls, plain, optimizer)["calls"]


@every_program
def test_each_further_pair_of_hooks_costs_the_calls_of_its_hooks_alone(optimizer: str, form: str) -> None:
    found = [a_step(calls, ours(form, hooks), optimizer)["calls"] for hooks in (1, 10, 100)]
    assert [found[1] - found[0], found[2] - found[1]] == [2.0 * 9, 2.0 * 90]


@every_program
def test_a_step_without_hooks_makes_no_context_and_with_more_hooks_no_more(optimizer: str, form: str) -> None:
    assert a_step(contexts, ours(form, 0), optimizer) == {}
    one, ten = (a_step(contexts, ours(form, hooks), optimizer) for hooks in (1, 10))
    assert one == ten
    assert one == {"BatchBegin": 1.0, "BatchEnd": 1.0, "Progress": 2.0}


@every_program
def test_a_step_makes_no_more_tensors_than_one_written_by_hand(optimizer: str, form: str) -> None:
    none, ten = (a_step(tensors, ours(form, hooks), optimizer)["tensors"] for hooks in (0, 10))
    assert none == ten
    assert none <= a_step(tensors, plain, optimizer)["tensors"]


@final
@define(eq=False)
class Watched:
    """One batch, many times over; a number is read whenever the next is asked for, and kept without a new object."""

    read: Callable[[], int]
    steps: int
    batch: Batch = field(factory=lambda: batches(1)[0])
    seen: "array[int]" = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.seen = array("q", bytes(8 * self.steps))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        for place in range(self.steps):
            self.seen[place] = self.read()
            yield self.batch


@contextmanager
def uncollected() -> Generator[None]:
    """What only the garbage collector would free counts as held."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def growth(optimizer: str, form: str, table: DispatchTable) -> int:
    """Blocks of memory held at most in a later window, above those held at most in an earlier one."""
    model = tiny()
    data = Watched(sys.getallocatedblocks, 2 * WINDOW + STEPS)
    with uncollected():
        train(model, data, FORMS[form], OPTIMIZERS[optimizer](model), epochs=1, hooks=table)
    return max(data.seen[-WINDOW:]) - max(data.seen[-WINDOW - STEPS : -STEPS])


@every_program
@pytest.mark.parametrize("hooks", [0, 10])
def test_a_step_leaves_nothing_behind(optimizer: str, form: str, hooks: int) -> None:
    assert growth(optimizer, form, table_of(noops(hooks), noops(hooks))) < FEW_BLOCKS


def test_one_small_object_that_a_hook_keeps_of_each_step_is_seen() -> None:
    kept: list[object] = []

    def keep(ctx: object) -> None:
        kept.append(object())

    assert growth("SGD", "bare loss", table_of([keep], noops(1))) >= STEPS


def peaks(optimizer: str, form: str, table: DispatchTable) -> Sequence[int]:
    """Bytes that each step takes at most at a time, above what was held before it; those of tensors are not among them.

    The first steps, which make the optimizer's state, are left out.
    """
    held = 0

    def read() -> int:
        nonlocal held
        peak = tracemalloc.get_traced_memory()[1] - held
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        return peak

    model = tiny()
    data = Watched(read, 40)
    with uncollected():
        tracemalloc.start()
        try:
            train(model, data, FORMS[form], OPTIMIZERS[optimizer](model), epochs=1, hooks=table)
        finally:
            tracemalloc.stop()
    return data.seen[10:]


@every_program
def test_more_hooks_take_no_more_memory_at_a_time(optimizer: str, form: str) -> None:
    one, ten = (peaks(optimizer, form, table_of(noops(hooks), noops(hooks))) for hooks in (1, 10))
    assert max(abs(a - b) for a, b in zip(one, ten, strict=True)) <= FEW_BYTES


def test_a_kilobyte_that_a_hook_takes_for_a_moment_is_seen() -> None:
    def take(ctx: object) -> None:
        bytes(1024)

    assert min(peaks("SGD", "bare loss", table_of([take], noops(1)))) >= 1024
