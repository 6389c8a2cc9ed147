"""What two processes do, they do at the update that one process would, where progress alone decides it."""

import time
from pathlib import Path

import pytest

from tests.loop.programs import linear, sgd, squares
from tests.ranks import on_ranks
from tests.run.ranked import store_of
from tests.run.saved import experiment
from tests.run.several import ENGINES, me, own_batches
from trainhooks import BatchBegin, BatchEnd, CheckpointSaved, Evaluation, HookSet, Stop, Stopped, ddp, every, train
from trainhooks.checkpoint import manifests_of
from trainhooks.hooks import checkpoint


def saved_by(folder: Path, engine: str) -> list[int]:
    """The updates of the checkpoints that are there after 15, of which those at multiples of 10 and the last stay."""
    result = train(
        linear(), own_batches(15), squares, sgd, max_updates=15, parallel=ENGINES[engine](),
        experiment=experiment(folder), evaluations=[Evaluation("val", own_batches(1), when=every(3, "updates"))],
        hooks=checkpoint(when=every(5, "updates"), keep_last=1, keep_every=10),
    )  # fmt: skip
    return [one.step for one in result.checkpoints]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_at_multiples_of_a_count_is_made_at_them(tmp_path: Path, engine: str) -> None:
    """Keeps P33. Every rank knows beforehand where one is due, so none waits for the next boundary."""
    assert on_ranks(2, saved_by, tmp_path, engine, fresh=True) == [[10, 15], [10, 15]]


def stopped_beside_news(folder: Path) -> tuple[object, int, list[tuple[int, int]]]:
    """A run that is told of the checkpoint of 4 at the very boundary for which rank 0 asks to stop."""
    heard: list[tuple[int, int]] = []
    now = [0]

    def wait(ctx: BatchBegin) -> None:
        now[0] = ctx.at.updates + 1
        if ctx.at.updates == 4:
            while not manifests_of(store_of(folder)):  # rank 0 knows at the boundary of 5, the others at that of 6
                time.sleep(0.01)
            time.sleep(0.2)  # from the manifest to the writer's word

    def stop(ctx: BatchEnd) -> Stop | None:
        return Stop("enough") if me() == 0 and ctx.at.updates == 6 else None

    def hear(ctx: CheckpointSaved) -> None:
        heard.append((now[0], ctx.step))

    result = train(
        linear(), own_batches(12), squares, sgd, epochs=1, parallel=ddp(), experiment=experiment(folder),
        hooks=[
            HookSet(name="stopping", on_batch_begin=wait, on_batch_end=stop, on_checkpoint_saved=hear),
            checkpoint(when=every(4, "updates"), keep_last=None),
        ],
    )  # fmt: skip
    return result.end, result.at.updates, heard[:1]


def test_when_a_checkpoint_is_durable_does_not_decide_when_answers_act(tmp_path: Path) -> None:
    """Keeps P41. How fast a store is changes nothing about the training."""
    end = Stopped("enough", ("stopping",))
    assert on_ranks(2, stopped_beside_news, tmp_path, fresh=True) == [(end, 7, [(6, 4)])] * 2
