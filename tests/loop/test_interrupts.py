"""A first Ctrl-C finishes the update, a second raises at once, and signals are otherwise left alone."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, cast

import pytest
import torch

from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchBegin,
    BatchEnd,
    Completed,
    Evaluation,
    HookDict,
    Interrupted,
    StepOutput,
    TrainEnd,
    TrainResult,
    every,
    train,
)


def interrupted_at(batch: int, times: int = 1) -> HookDict:
    def interrupt(ctx: BatchBegin) -> None:
        if ctx.at.batch == batch:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    return {"on_batch_begin": interrupt}


def test_the_first_ctrl_c_finishes_the_update_and_returns_or_raises() -> None:
    model, other = linear(), linear()
    handler = signal.getsignal(signal.SIGINT)
    result = train(
        model, batches(6), squares, sgd(model), epochs=1, accumulate=2, hooks=interrupted_at(2), on_interrupt="return"
    )
    assert result.end == Interrupted(signal.SIGINT)
    assert (result.at.updates, result.at.batches) == (2, 4)
    with pytest.raises(KeyboardInterrupt):
        train(other, batches(6), squares, sgd(other), epochs=1, accumulate=2, hooks=interrupted_at(2))
    by_hand = linear()
    train(by_hand, batches(4), squares, sgd(by_hand), epochs=1, accumulate=2)
    assert equal(weights(model), weights(by_hand))
    assert equal(weights(other), weights(by_hand))
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin", "on_evaluation_begin", "on_batch_begin"])
def test_sigterm_ends_the_run_within_one_update_wherever_it_comes(event: str) -> None:
    """Keeps P34, in one process."""
    called, before = list[int](), signal.getsignal(signal.SIGTERM)

    def earlier(number: int, frame: FrameType | None) -> None:
        called.append(number)

    def terminate(ctx: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, earlier)
    try:
        model = linear()
        evaluations = [Evaluation("val", batches(1), when=every(1, "updates"))]
        with pytest.raises(SystemExit) as caught:
            train(
                model, batches(6), squares, sgd(model), epochs=1, evaluations=evaluations,
                hooks=cast("HookDict", {event: terminate}),
            )  # fmt: skip
        result = train(
            model, batches(6), squares, sgd(model), epochs=1, evaluations=evaluations, on_interrupt="return",
            hooks=cast("HookDict", {event: terminate}),
        )  # fmt: skip
        assert signal.getsignal(signal.SIGTERM) is earlier
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143
    assert result.end == Interrupted(signal.SIGTERM)
    assert result.at.updates <= 1
    assert called == [signal.SIGTERM] * 2


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_that_comes_when_nothing_is_left_to_train_is_passed_on_after_the_run(
    number: int, error: type[BaseException]
) -> None:
    """Keeps P35. The end hooks hear that the run is complete; whoever asked to return gets that."""
    ends: list[object] = []

    def last(ctx: TrainEnd) -> None:
        ends.append(ctx.end)
        os.kill(os.getpid(), number)

    def run(on_interrupt: Any) -> TrainResult:
        model = linear()
        hooks: HookDict = {"on_train_end": last}
        return train(model, batches(2), squares, sgd(model), epochs=1, hooks=hooks, on_interrupt=on_interrupt)

    with pytest.raises(error):
        run("raise")
    assert isinstance(run("return").end, Completed)
    assert ends == [Completed(), Completed()]


def test_sigterm_again_changes_nothing_and_ctrl_c_after_it_raises() -> None:
    def again(ctx: BatchBegin) -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    def then_ctrl_c(ctx: BatchEnd) -> None:
        signal.raise_signal(signal.SIGINT)

    model = linear()
    result = train(
        model, batches(6), squares, sgd(model), epochs=1, hooks={"on_batch_begin": again}, on_interrupt="return"
    )
    assert (result.end, result.at.updates) == (Interrupted(signal.SIGTERM), 1)
    with pytest.raises(KeyboardInterrupt):
        train(
            model, batches(6), squares, sgd(model), epochs=1,
            hooks={"on_batch_begin": again, "on_batch_end": then_ctrl_c},
        )  # fmt: skip


SIGNALS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]


def inner_run(number: int, policy: Any, ends: list[object]) -> Callable[..., None]:
    """A hook that trains another model, in whose second batch a signal comes."""

    def press(ctx: BatchEnd) -> None:
        if ctx.at.batches == 2:
            signal.raise_signal(number)

    def hook(ctx: object, *value: object) -> None:
        with torch.enable_grad():
            model = linear()
            hooks: HookDict = {"on_batch_end": press, "on_train_end": lambda ctx: ends.append(ctx.end)}
            train(model, batches(4), squares, sgd(model), epochs=1, hooks=hooks, on_interrupt=policy)

    return hook


@contextmanager
def handled_by(number: int, handler: Any) -> Generator[None]:
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("event", ["on_train_begin", "on_batch_end", "on_evaluation_begin", "on_epoch_end"])
@pytest.mark.parametrize(("number", "error"), SIGNALS)
def test_a_signal_in_an_inner_run_that_returns_ends_the_outer_one_too(
    event: str, number: int, error: type[BaseException]
) -> None:
    """Keeps P34 and P35: each run finishes its update."""
    ends, called = list[object](), list[int]()

    def outer(on_interrupt: Any) -> TrainResult:
        model = linear()
        return train(
            model, batches(3), squares, sgd(model), epochs=3, evaluations=[Evaluation("val", batches(1))],
            hooks=cast("HookDict", {event: inner_run(number, "return", ends)}), on_interrupt=on_interrupt,
        )  # fmt: skip

    def note(number: int, frame: object) -> None:
        called.append(number)

    handler = signal.default_int_handler if number == signal.SIGINT else note
    with handled_by(number, handler):
        result = outer("return")
        with pytest.raises(error):
            outer("raise")
    assert result.end == Interrupted(number)
    assert result.at.epochs <= 1
    assert ends == [Interrupted(number)] * 2
    assert called == ([] if number == signal.SIGINT else [number] * 2)


def test_a_signal_in_a_run_within_a_step_ends_both() -> None:
    ends, model = list[object](), linear()
    inner = inner_run(signal.SIGINT, "return", ends)

    def step(model: torch.nn.Module, batch: Any) -> StepOutput[Any]:
        inner(None)
        return squares(model, batch)

    result = train(model, batches(3), step, sgd(model), epochs=3, on_interrupt="return")
    assert (ends, result.end, result.at.updates) == ([Interrupted(signal.SIGINT)], Interrupted(signal.SIGINT), 1)


@pytest.mark.parametrize(("number", "error"), SIGNALS)
def test_an_inner_run_that_raises_a_signal_interrupts_the_outer_one(number: int, error: type[BaseException]) -> None:
    ends = list[object]()
    hooks: HookDict = {
        "on_epoch_end": inner_run(number, "raise", ends),
        "on_train_end": lambda ctx: ends.append(ctx.end),
    }
    model, handlers = linear(), [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(error):
        train(model, batches(2), squares, sgd(model), epochs=3, hooks=hooks)
    assert ends == [Interrupted(number)] * 2
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_signal_is_passed_on_whichever_came_first_and_though_the_run_fails() -> None:
    called = list[int]()

    def both(ctx: BatchEnd) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    def fail(ctx: BatchEnd) -> None:
        raise ValueError("nothing to do with it")

    def note(number: int, frame: object) -> None:
        called.append(number)

    for hooks in (both, [both, fail]):
        model = linear()
        with handled_by(signal.SIGINT, note), handled_by(signal.SIGTERM, note), suppress(ValueError):
            train(model, batches(3), squares, sgd(model), epochs=1, on_interrupt="return",
                  hooks=[{"on_batch_end": one} for one in ([hooks] if callable(hooks) else hooks)])  # fmt: skip
    assert called == [signal.SIGINT, signal.SIGTERM] * 2


def test_a_child_that_was_forked_in_the_run_dies_of_sigterm() -> None:
    ends = list[int]()

    def fork(ctx: BatchEnd) -> None:
        if (child := os.fork()) == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(7)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    model = linear()
    result = train(model, batches(2), squares, sgd(model), epochs=1, hooks={"on_batch_end": fork})
    assert ends == [-signal.SIGTERM] * 2
    assert result.end == Completed()


def test_the_second_ctrl_c_raises_at_once() -> None:
    model = linear()
    before = weights(model)
    with pytest.raises(KeyboardInterrupt):
        train(model, batches(6), squares, sgd(model), epochs=1, hooks=interrupted_at(0, times=2), on_interrupt="return")
    assert equal(before, weights(model))


def test_a_second_ctrl_c_never_lands_inside_an_optimizer_step() -> None:
    class Interrupting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            super().step()

    model, by_hand = linear(), linear()
    with pytest.raises(KeyboardInterrupt):
        train(model, batches(3), squares, Interrupting(model.parameters(), 0.1), epochs=1, on_interrupt="return")
    train(by_hand, batches(1), squares, torch.optim.SGD(by_hand.parameters(), 0.1), epochs=1)
    assert equal(weights(model), weights(by_hand))


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    model, handlers = linear(), list[object]()

    def look(ctx: BatchEnd) -> None:
        handlers.append(signal.getsignal(signal.SIGINT))

    def target() -> None:
        train(model, batches(1), squares, sgd(model), epochs=1, hooks={"on_batch_end": look})

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert handlers == [handler]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        model = linear()
        result = train(model, batches(3), squares, sgd(model), epochs=1, hooks=interrupted_at(0))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert result.end == Completed()
