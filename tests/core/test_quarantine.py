"""`quarantine`: a sink that raises is logged, switched off and counted, and training is what it is without it."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.core.callables import hook_set
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import EVENTS, Evaluation, HookSet, Record, TrainEnd, TrainResult, quarantine, stateful, timed, train

HEARD = [event for event in EVENTS if event not in ("on_multiprocess_start", "on_checkpoint_saved", "on_train_end")]


def run(*hooks: Any) -> tuple[list[torch.Tensor], TrainResult]:
    model = linear()
    evaluation = Evaluation("val", batches(2, seed=7))
    result = train(model, batches(3), squares, sgd(model), epochs=2, evaluations=[evaluation], hooks=hooks)
    return weights(model), result


def failing(*given: object) -> Any:
    raise OSError("the disk is full")


class FailsToEnter:
    def __enter__(self) -> None:
        raise OSError("the disk is full")

    def __exit__(self, *raised: object) -> None:
        raise AssertionError("left without having been entered")


class FailsToLeave:
    def __enter__(self) -> None: ...

    def __exit__(self, *raised: object) -> None:
        raise OSError("the disk is full")


def sink(closed: list[TrainEnd], **slots: Any) -> tuple[HookSet, ...]:
    return quarantine(hook_set(name="sink", on_train_end=closed.append, **slots))


def in_quarantine(failed: int, missed: int) -> str:
    return (
        rf"^The hook set 'sink' raised and was switched off: {failed} calls failed, {missed} were not made\. "
        r"The log has the traceback\.$"
    )


MISSED = {
    "on_train_loop_registration": 0, "around_train": 0, "on_train_begin": 0, "around_epoch": 1, "on_epoch_begin": 1,
    "on_batch_begin": 5, "transform_batch": 5, "transform_rates": 5, "transform_loss": 5, "on_after_backward": 5,
    "on_after_gradient_update": 5, "transform_gradients": 5, "on_after_optimizer_step": 5, "on_batch_end": 5,
    "around_evaluation": 1, "on_evaluation_begin": 1, "on_after_batch_prediction": 3, "transform_metrics": 1,
    "on_evaluation_end": 1, "on_epoch_end": 1, "on_record": 3,
}  # fmt: skip


@pytest.mark.parametrize("event", HEARD)
def test_a_sink_that_always_raises_changes_nothing_and_is_counted_once(
    event: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Keeps P38."""
    closed: list[TrainEnd] = []
    expected, plain = run()
    with pytest.warns(RuntimeWarning, match=in_quarantine(1, MISSED[event])) as warned:
        found, result = run(sink(closed, **{event: failing}))
    assert len(warned) == 1
    assert equal(found, expected)
    assert (result.end, result.at, result.metrics, result.history) == (
        plain.end, plain.at, plain.metrics, plain.history,
    )  # fmt: skip
    assert [one.end for one in closed] == [result.end]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trainhooks", logging.ERROR)
    assert record.getMessage() == f"Hook set 'sink' raised on {event}; it is switched off, the run goes on."
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], OSError)


@pytest.mark.parametrize("event", ["around_train", "around_epoch", "around_evaluation"])
@pytest.mark.parametrize("manager", [FailsToEnter, FailsToLeave])
def test_a_manager_that_raises_is_switched_off_too(event: str, manager: Callable[[], object]) -> None:
    """Keeps P38."""
    closed: list[TrainEnd] = []

    def make(ctx: object) -> object:
        return manager()

    expected, plain = run()
    with pytest.warns(RuntimeWarning, match=in_quarantine(1, MISSED[event])):
        found, result = run(sink(closed, **{event: make}))
    assert equal(found, expected)
    assert result.metrics == plain.metrics
    assert [one.end for one in closed] == [result.end]


def test_a_set_that_was_switched_off_still_hears_the_end_and_may_fail_there_too() -> None:
    """Keeps P38."""
    expected, _ = run()
    broken = quarantine(hook_set(name="sink", on_batch_end=failing, on_train_end=failing))
    with pytest.warns(RuntimeWarning, match=in_quarantine(2, 5)) as warned:
        found, _ = run(broken)
    assert len(warned) == 1
    assert equal(found, expected)


def test_a_switched_off_set_is_switched_off_on_every_event_and_the_others_go_on() -> None:
    """Keeps P38."""
    heard: list[str] = []

    def third(ctx: Any) -> Record:
        heard.append("batch")
        if len(heard) == 3:
            raise ValueError("no")
        return Record({"x": float(len(heard))})

    def note(ctx: object) -> None:
        heard.append("epoch")

    noisy = hook_set(name="sink", on_batch_end=third, on_epoch_end=note)
    healthy = hook_set(name="healthy", on_epoch_end=note)
    with pytest.warns(RuntimeWarning, match=in_quarantine(1, 5)):
        _, result = run(quarantine(noisy), healthy)
    assert heard == ["batch", "batch", "batch", "epoch", "epoch"]
    assert result.metrics["x"] == 2.0


def test_a_state_that_cannot_be_made_switches_its_set_off(caplog: pytest.LogCaptureFixture) -> None:
    """Keeps P38."""
    expected, _ = run()
    stately = stateful("sink", failing_init, on_batch_end=failing, on_train_end=failing)
    with pytest.warns(RuntimeWarning, match=in_quarantine(1, 6)):
        found, result = run(quarantine(stately))
    assert equal(found, expected)
    assert result.hook_states == {}
    (record,) = caplog.records
    assert record.getMessage() == "The init of hook set 'sink' raised; it is switched off, the run goes on."


def failing_init() -> int:
    raise OSError("no such folder")


def test_a_sink_that_does_not_raise_works_and_warns_of_nothing() -> None:
    closed: list[TrainEnd] = []
    seen: list[object] = []
    _, result = run(sink(closed, on_batch_end=seen.append))
    assert len(seen) == 6
    assert [one.end for one in closed] == [result.end]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_quarantine_does_not_hold_back_what_must_end_the_program(kind: type[BaseException]) -> None:
    def leave(ctx: object) -> None:
        raise kind

    with pytest.raises(kind):
        run(quarantine(hook_set(name="sink", on_batch_end=leave)))


def test_a_sink_in_quarantine_passes_on_what_the_run_raises() -> None:
    def fail(ctx: object) -> None:
        raise ValueError("the run's own")

    def swallow(ctx: object) -> FailsNever:
        return FailsNever()

    closed: list[TrainEnd] = []
    with pytest.raises(ValueError, match="the run's own") as caught:
        run(sink(closed, around_train=swallow), hook_set(name="broken", on_batch_end=fail))
    assert "Raised in the hook 'broken' on on_batch_end" in caught.value.__notes__[0]
    assert len(closed) == 1


class FailsNever:
    def __enter__(self) -> None: ...

    def __exit__(self, *raised: object) -> bool:
        return True


class RaisesAgain:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            raise error


def test_a_manager_that_passes_on_what_the_run_raises_did_not_fail(caplog: pytest.LogCaptureFixture) -> None:
    def fail(ctx: object) -> None:
        raise ValueError("the run's own")

    def around(ctx: object) -> RaisesAgain:
        return RaisesAgain()

    with pytest.raises(ValueError, match="the run's own"):
        run(sink([], around_epoch=around), hook_set(name="broken", on_batch_end=fail))
    assert caplog.records == []


class Swaps:
    """Counts how often it was entered and left, by a class with no generator that garbage collection would close."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def __enter__(self) -> None:
        self.log.append("enter")

    def __exit__(self, *raised: object) -> None:
        self.log.append("leave")


QUARANTINES: list[Callable[[HookSet], Any]] = [
    quarantine, lambda one: timed(quarantine(one)), lambda one: quarantine(timed(one)),
]  # fmt: skip


@pytest.mark.parametrize("wrap", QUARANTINES)
@pytest.mark.parametrize(
    ("around", "event"),
    [
        ("around_train", "on_train_begin"),
        ("around_train", "on_batch_end"),
        ("around_epoch", "on_epoch_begin"),
        ("around_epoch", "transform_loss"),
        ("around_evaluation", "on_evaluation_begin"),
        ("around_evaluation", "on_after_batch_prediction"),
        ("around_evaluation", "transform_metrics"),
        ("around_evaluation", "on_evaluation_end"),
    ],
)
def test_a_manager_that_was_entered_is_left_also_if_its_set_was_switched_off_meanwhile(
    wrap: Callable[[HookSet], Any], around: str, event: str
) -> None:
    """Keeps P04, P85."""
    log: list[str] = []

    def swap(ctx: object) -> Swaps:
        return Swaps(log)

    one = hook_set(name="sink", **{around: swap, event: failing})
    with pytest.warns(RuntimeWarning, match="The hook set 'sink' raised and was switched off: 1 calls failed"):
        run(wrap(one))
    assert log == ["enter", "leave"]


def test_a_manager_of_a_healthy_set_is_left_if_a_later_one_cannot_be_entered() -> None:
    """Keeps P04."""
    log: list[str] = []

    def swap(ctx: object) -> Swaps:
        return Swaps(log)

    def fails_to_enter(ctx: object) -> FailsToEnter:
        return FailsToEnter()

    healthy = hook_set(name="healthy", around_epoch=[swap, swap])
    with pytest.raises(OSError, match="the disk is full") as caught:
        run(timed(healthy), hook_set(name="broken", around_epoch=fails_to_enter))
    assert log == ["enter", "enter", "leave", "leave"]
    assert "Raised in the hook 'broken' on around_epoch, at update 0" in caught.value.__notes__[0]
    log.clear()
    with pytest.warns(RuntimeWarning, match="'sink' raised and was switched off: 1 calls failed, 1 were not made"):
        run(healthy, sink([], around_epoch=fails_to_enter))
    assert log == ["enter", "enter", "leave", "leave"] * 2


def test_two_runs_of_one_quarantined_set_count_for_themselves() -> None:
    """Keeps P12."""
    one = sink([], on_epoch_end=failing)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match=in_quarantine(1, 1)):
            run(one)
