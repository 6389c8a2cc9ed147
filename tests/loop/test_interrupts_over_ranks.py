"""A signal to one process of several ends the run of all of them, at one step and in good order."""

import os
import signal
import time
from types import FrameType
from typing import Any, Literal, NamedTuple, cast

import pytest
from torch import Tensor

from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from tests.ranks import on_ranks
from trainhooks import Evaluation, HookDict, Interrupted, Progress, TrainEnd, ddp, every, train
from trainhooks.distributed import rank_here

EVENTS_OF_A_RUN = (
    "on_train_begin", "on_epoch_begin", "on_batch_begin", "on_batch_end", "on_evaluation_begin",
    "on_after_batch_prediction", "on_evaluation_end",
)  # fmt: skip
Policy = Literal["raise", "return"]


class Seen(NamedTuple):
    """What one rank saw of a run."""

    left: str
    """What it raised, or that it returned."""
    end: object
    at: Progress
    handled: list[int]
    """What the handler was called for that was there before."""
    restored: bool
    weights: list[Tensor]
    sent: int | None
    """How many updates were finished when the signal was sent; None on a rank that was sent none."""


def seen(
    event: str, ranks: tuple[int, ...], number: int, *, times: int = 1, policy: Policy = "raise", after: int = 0
) -> Seen:
    """A run in which ranks get a signal at the first such event after so many batches, which takes its time."""
    model, ends, handled = linear(), list[TrainEnd](), list[int]()

    def send(ctx: Any) -> None:
        if rank_here().index in ranks and ctx.at.batches >= after and not sent:
            sent.append(ctx.at.updates)
            for _ in range(times):
                os.kill(os.getpid(), number)
            time.sleep(0.05)

    def earlier(number: int, frame: FrameType | None) -> None:
        handled.append(number)

    sent, left = list[int](), "returned"
    due = every(1, "updates") if "evaluation" in event or "prediction" in event else every(1, "epochs")
    before = signal.signal(signal.SIGTERM, earlier)
    try:
        train(
            model, batches(12, seed=rank_here().index), squares, sgd(model), epochs=1, accumulate=2, parallel=ddp(),
            evaluations=[Evaluation("val", batches(1), when=due)], on_interrupt=policy,
            hooks=[cast("HookDict", {"name": "sending", event: send}), {"name": "end", "on_train_end": ends.append}],
        )  # fmt: skip
    except BaseException as error:
        left = repr(error)
    restored = signal.signal(signal.SIGTERM, before) is earlier
    (end,) = ends
    return Seen(left, end.end, end.at, handled, restored, weights(model), sent[0] if sent else None)


def trained(updates: int) -> list[Tensor]:
    """The parameters after so many updates, of a run that nothing disturbs."""
    model = linear()
    train(
        model, batches(12, seed=rank_here().index), squares, sgd(model), max_updates=updates, accumulate=2,
        parallel=ddp(), hooks=()
    )  # fmt: skip
    return weights(model)


def test_sigterm_to_one_rank_ends_all_within_one_update_wherever_it_comes() -> None:
    """Keeps P34."""

    def program() -> list[tuple[str, int, Seen]]:
        return [
            (event, rank, seen(event, (rank,), signal.SIGTERM)) for event in EVENTS_OF_A_RUN for rank in (0, 1)
        ]  # fmt: skip

    for (event, rank, first), (_, _, second) in zip(*on_ranks(2, program), strict=True):
        assert (first.left, second.left) == ("SystemExit(143)",) * 2, event
        assert (first.end, second.end) == (Interrupted(signal.SIGTERM),) * 2, event
        assert first.at == second.at, event
        sent = (first, second)[rank].sent
        assert sent is not None
        assert sent <= first.at.updates <= sent + 1, event
        assert (first.restored, second.restored) == (True, True)
        assert (first.handled, second.handled)[rank] == [signal.SIGTERM]
        assert (first.handled, second.handled)[1 - rank] == []
        assert equal(first.weights, second.weights)


@pytest.mark.parametrize(
    ("number", "left"), [(signal.SIGINT, "KeyboardInterrupt()"), (signal.SIGTERM, "SystemExit(143)")]
)
def test_a_first_signal_to_one_or_all_finishes_the_update_and_returns_or_raises(number: int, left: str) -> None:
    """Keeps P34 and P35."""

    def program() -> list[Seen]:
        return [
            seen("on_batch_begin", ranks, number, policy=policy, after=2)
            for ranks in ((1,), (0, 1))
            for policy in ("raise", "return")
        ]

    def by_hand() -> list[list[Tensor]]:
        return [trained(2), trained(3)]

    undisturbed = on_ranks(2, by_hand)[0]
    for rank in on_ranks(2, program):
        assert [one.left for one in rank] == [left, "returned"] * 2
        for one in rank:
            assert one.end == Interrupted(number)
            assert one.at.batches == 2 * one.at.updates, "the window was finished"
            assert one.at.updates in (2, 3)
            assert equal(one.weights, undisturbed[one.at.updates - 2])


def test_a_second_ctrl_c_to_all_raises_at_once() -> None:
    """Keeps P35."""
    for rank in on_ranks(2, lambda: seen("on_batch_begin", (0, 1), signal.SIGINT, times=2, policy="return")):
        assert (rank.left, rank.end, rank.at.batches) == ("KeyboardInterrupt()", Interrupted(signal.SIGINT), 0)
        assert equal(rank.weights, weights(linear()))


def test_a_second_ctrl_c_to_one_raises_there_at_once_and_the_others_fail_when_it_has_ended() -> None:
    """Keeps P35."""
    first, second = on_ranks(2, lambda: seen("on_batch_begin", (1,), signal.SIGINT, times=2))
    assert (second.left, second.end) == ("KeyboardInterrupt()", Interrupted(signal.SIGINT))
    assert first.left.startswith("RuntimeError(")
    assert equal(first.weights, second.weights)
