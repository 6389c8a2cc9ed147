"""What a rank raises is put out before a hook of the end is called, and ends it though the others do not move."""

import logging
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, linear, sgd, squares
from tests.ranks import on_ranks
from tests.run.saved import experiment
from trainhooks import (
    BatchEnd,
    EpochBegin,
    Evaluation,
    EvaluationBegin,
    HookDict,
    HookSet,
    Record,
    Recorded,
    StepOutput,
    TrainBegin,
    TrainEnd,
    ddp,
    every,
    train,
)
from trainhooks.distributed import rank_here
from trainhooks.hooks import checkpoint

Trace = list[tuple[str, ...]]


class Noting(logging.Handler):
    """A handler that notes what is put out."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        assert record.exc_info is not None
        error = record.exc_info[1]
        self.trace.append(("told", record.getMessage(), repr(error), *getattr(error, "__notes__", ())))


def leaving(trace: Trace) -> HookSet:
    """A set that notes when the blocks of a run are left, and its end."""

    @contextmanager
    def around(ctx: TrainBegin | EpochBegin | EvaluationBegin) -> Generator[None]:
        try:
            yield
        finally:
            trace.append(("left", type(ctx).__name__))

    def end(ctx: TrainEnd) -> None:
        trace.append(("end", type(ctx.end).__name__))

    return HookSet(
        name="leaving", around_train=around, around_epoch=around, around_evaluation=around, on_train_end=end
    )


def fail(*given: object) -> None:
    raise ValueError("no")


def fail_later(ctx: BatchEnd) -> None:
    if ctx.at.updates == 2:
        fail()


def broken_step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    fail()
    return squares(model, batch)


class BrokenData:
    """Two batches, and then an error."""

    def __iter__(self) -> Iterator[Batch]:
        yield from batches(2)
        fail()


NO_HOOK: HookDict = {"name": "none", "on_batch_end": lambda ctx: None}


def traced(hook: HookDict = NO_HOOK, *, step: Any = squares, data: Any = None) -> Trace:
    """What happens at the end of a run that fails in every process at the same place."""
    trace, model, logger = Trace(), linear(), logging.getLogger("trainhooks")
    handler = Noting(trace)
    logger.addHandler(handler)
    with pytest.raises(ValueError, match="no"):
        train(
            model, data or batches(4), step, sgd(model), epochs=1, parallel=ddp(), hooks=[hook, leaving(trace)],
            evaluations=[Evaluation("val", batches(1), when=every(2, "updates"))],
        )  # fmt: skip
    logger.removeHandler(handler)
    return trace


def test_what_is_raised_is_told_once_and_before_any_hook_of_the_end() -> None:
    """Keeps P36."""

    def program() -> list[Trace]:
        return [
            traced({"name": "broken", "on_batch_end": fail_later}),
            traced({"name": "broken", "on_evaluation_end": fail}),
            traced(step=broken_step),
            traced(data=BrokenData()),
        ]

    end = [("left", "EpochBegin"), ("left", "TrainBegin"), ("end", "Failed")]
    for index, (hook, evaluation, step, data) in enumerate(on_ranks(2, program)):
        told = ("told", f"Rank {index} failed.", "ValueError('no')")
        assert [one[:3] for one in hook] == [told, *end]
        assert hook[0][3].startswith("Raised in the hook 'broken' on on_batch_end, at update 2, batch 1 of epoch 0: ")
        assert [one[:3] for one in evaluation] == [told, ("left", "EvaluationBegin"), *end]
        assert evaluation[0][3].startswith("Raised in the hook 'broken' on on_evaluation_end, at update 2, ")
        assert [one[:3] for one in step] == [told, *end]
        assert step[0][3].startswith("Raised in the step `broken_step(")
        assert step[0][3].endswith(", at update 0, batch 0 of epoch 0.")
        assert [one[:3] for one in data] == [told, *end]
        assert data[0][3].startswith("Raised in the data, at update ")


def stopping_the_other(folder: Path) -> tuple[list[str], list[str]]:
    """A run in which rank 1 stops rank 0 and fails: what ran until the end was over, and the notes."""
    index, ran, others = rank_here().index, list[str](), list[int]()

    def meet(ctx: TrainBegin) -> None:
        (folder / str(index)).write_text(str(os.getpid()), encoding="utf-8")

    def stop_and_fail(ctx: BatchEnd) -> None:
        if index == 1 and ctx.at.updates == 3:
            others.append(int((folder / "0").read_text(encoding="utf-8")))
            os.kill(others[0], signal.SIGSTOP)
            fail()

    def end(ctx: TrainEnd) -> None:
        ran.append("first")
        raise OSError("cannot close")

    def end_too(ctx: TrainEnd) -> None:
        ran.append("second")

    model = linear()
    try:
        train(
            model, batches(6), squares, sgd(model), epochs=1, parallel=ddp(), experiment=experiment(folder),
            hooks=[
                checkpoint(when=every(2, "updates")), leaving(Trace()),
                HookSet(name="meet", on_train_begin=meet, on_batch_end=stop_and_fail),
                HookSet(name="sink", on_train_end=end), HookSet(name="other sink", on_train_end=end_too),
            ],
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
        return ran, error.__notes__
    raise AssertionError("it did not fail")


def test_the_end_of_a_rank_that_failed_needs_no_other_rank(tmp_path: Path) -> None:
    """Keeps P36. The other one is stopped until the end is over, so whatever needs it would hang."""
    _, (ran, notes) = on_ranks(2, stopping_the_other, tmp_path, fresh=True)
    assert ran == ["first", "second"]
    assert notes[0].startswith("Raised in the hook 'meet' on on_batch_end, at update 3, batch 2 of epoch 0")
    assert notes[1].startswith("While the run ended, this was raised too: ")
    assert "OSError: cannot close" in notes[1]
    assert len(notes) == 2


def test_records_that_cannot_be_delivered_at_the_end_keep_no_hook_from_its_end() -> None:
    """Keeps P36, in one process."""
    trace, model = Trace(), linear()

    def cannot_write(ctx: Recorded) -> None:
        raise OSError("cannot write")

    def record_and_fail(ctx: BatchEnd) -> Record:
        if ctx.at.batches == 2:
            fail()
        return Record({"n": 1.0})

    with pytest.raises(ValueError, match="no") as caught:
        train(
            model, batches(4), squares, sgd(model), epochs=1, accumulate=2,
            hooks=[{"on_batch_end": record_and_fail}, {"name": "sink", "on_record": cannot_write}, leaving(trace)],
        )  # fmt: skip
    assert trace == [("left", "EpochBegin"), ("left", "TrainBegin"), ("end", "Failed")]
    assert ["OSError: cannot write" in note for note in caught.value.__notes__] == [False, True]


def test_in_one_process_nothing_is_told_before_the_exception_itself(caplog: pytest.LogCaptureFixture) -> None:
    model = linear()
    with pytest.raises(ValueError, match="no"):
        train(model, batches(4), squares, sgd(model), epochs=1, hooks={"on_batch_end": fail})
    assert caplog.records == []
