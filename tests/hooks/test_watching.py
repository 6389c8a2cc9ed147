"""Each second of a run is counted to one phase, and the memory that it took is what the system says."""

import resource
import sys

import pytest
import torch

from tests.hooks.clocks import CLIP, FETCH, LOOK, STEP, Clock, Slow, SlowStep, slow_clip
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchBegin,
    BatchEnd,
    EndEpoch,
    Evaluation,
    HookDict,
    HookSet,
    SkipBatch,
    TrainResult,
    every,
    train,
)
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks.records import Entry, History, history
from trainhooks.hooks.watching import memory, timing

PHASES = ("data", "forward_backward", "update", "evaluation", "other")


def run(clock: Clock, *hooks: HookSet | HookDict, updates: int | None = None, accumulate: int = 1) -> list[Entry]:
    """What `timing` records in two epochs of four batches, each followed by an evaluation of two."""
    model = linear()
    result = train(
        model, Slow(clock, 4), SlowStep(clock), sgd(model), epochs=2, accumulate=accumulate,
        evaluations=[Evaluation("val", Slow(clock, 2))],
        hooks=[timing(updates=updates, clock=clock), slow_clip(clock), *hooks, history()],
    )  # fmt: skip
    return entries(result, "timing")


def entries(result: TrainResult, by: str) -> list[Entry]:
    kept = result.hook_states["history"]
    assert isinstance(kept, History)
    return [one for one in kept.entries if one.by == by]


def test_each_second_of_an_epoch_is_counted_to_one_phase() -> None:
    records = run(Clock())
    assert [one.at.epochs for one in records] == [1, 2]
    for one in records:
        assert one.values == {
            "time/data": 4 * FETCH, "time/forward_backward": 4 * STEP, "time/update": 4 * CLIP,
            "time/evaluation": 2 * (FETCH + LOOK), "time/other": 0.0,
        }  # fmt: skip


def test_several_batches_make_up_an_update() -> None:
    first, _ = run(Clock(), accumulate=4)
    assert (first.values["time/forward_backward"], first.values["time/update"]) == (4 * STEP, CLIP)


def test_it_is_recorded_every_so_many_updates_and_nothing_is_lost_between_epochs() -> None:
    clock = Clock()
    records = run(clock, updates=3)
    assert [one.at.updates for one in records] == [3, 6]
    assert [one.values["time/evaluation"] for one in records] == [0.0, 2 * (FETCH + LOOK)]
    assert [one.values["time/data"] for one in records] == [3 * FETCH] * 2
    assert sum(sum(one.values.values()) for one in records) == clock.now - 1000.0 - 2 * (
        FETCH + STEP + CLIP
    ) - 2 * (FETCH + LOOK)  # fmt: skip


def test_time_outside_of_batches_is_counted_to_the_others() -> None:
    clock = Clock()

    def wait(ctx: object) -> None:
        clock.now += 8.0

    records = run(clock, {"name": "slow begin", "on_train_begin": wait, "on_epoch_begin": wait})
    # The time at the begin of training passes after timing was called there, so the next event counts it.
    assert [one.values["time/other"] for one in records] == [8.0, 0.0]
    assert [one.values["time/data"] for one in records] == [4 * FETCH + 8.0] * 2


def test_time_between_the_last_batch_and_an_evaluation_is_not_the_evaluation_s() -> None:
    clock = Clock()

    def wait(ctx: BatchEnd) -> None:
        clock.now += 8.0 if ctx.at.batch == 3 else 0.0

    first, _ = run(clock, {"on_batch_end": wait})
    assert (first.values["time/other"], first.values["time/evaluation"]) == (8.0, 2 * (FETCH + LOOK))


def test_a_skipped_batch_was_waited_for() -> None:
    def skip(ctx: BatchBegin) -> SkipBatch | None:
        return SkipBatch("second") if ctx.at.batch == 1 else None

    (first, _) = run(Clock(), {"on_batch_begin": skip})
    assert (first.values["time/data"], first.values["time/forward_backward"]) == (4 * FETCH, 3 * STEP)


def test_an_epoch_that_is_ended_early_is_recorded_with_what_it_took() -> None:
    def end(ctx: object) -> EndEpoch:
        return EndEpoch("enough")

    (first, _) = run(Clock(), {"on_after_backward": end})
    assert (first.values["time/forward_backward"], first.values["time/update"]) == (STEP, CLIP)


def test_a_set_measures_anew_in_a_second_run() -> None:
    """Keeps P12."""
    clock = Clock()
    hook = timing(clock=clock)
    totals: list[float] = []
    for _ in range(2):
        clock.now += 64.0
        model = linear()
        result = train(
            model, Slow(clock, 2), SlowStep(clock), sgd(model), epochs=1, hooks=[hook, history()]
        )  # fmt: skip
        totals.append(sum(entries(result, "timing")[0].values.values()))
    assert totals == [2 * (FETCH + STEP)] * 2


def test_watching_changes_no_trained_parameter() -> None:
    """Keeps P08."""
    watched, plain = linear(), linear()
    for model, hooks in ((watched, [timing(), memory()]), (plain, [])):
        train(model, batches(5), squares, sgd(model), epochs=2, hooks=hooks)
    assert equal(weights(watched), weights(plain))
    assert timing().writes == memory().writes == frozenset()


def test_the_memory_of_the_process_is_what_the_system_says() -> None:
    model = linear()
    result = train(model, batches(1), squares, sgd(model), epochs=2, hooks=[memory(), history()])
    unit = 1 if sys.platform == "darwin" else 1024
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    values = [one.values for one in entries(result, "memory")]
    assert [list(one) for one in values] == [["memory/resident"]] * 2
    assert 2**26 < values[0]["memory/resident"] <= values[1]["memory/resident"] <= now


@pytest.mark.gpu
def test_the_memory_of_a_device_is_what_torch_says() -> None:
    model = linear().to("cuda")
    result = train(model, batches(1), squares, sgd(model), epochs=1, hooks=[memory(), history()])
    (record,) = entries(result, "memory")
    assert 0 < record.values["memory/allocated"] <= torch.cuda.max_memory_allocated()
    assert record.values["memory/allocated"] <= record.values["memory/reserved"]


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(HookDefinitionError, match=r"timing records every so many updates, .* got 0"):
        timing(updates=0)
    with pytest.raises(HookDefinitionError, match=r"timing takes a clock, .* got 3\.0"):
        timing(clock=3.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is refused


def test_it_works_in_a_run_without_epochs() -> None:
    clock, model = Clock(), linear()
    result = train(
        model, Slow(clock, 100), SlowStep(clock), sgd(model), max_updates=4,
        evaluations=[Evaluation("val", Slow(clock, 1), when=every(2, "updates"))],
        hooks=[timing(updates=2, clock=clock), history()],
    )  # fmt: skip
    values = [one.values for one in entries(result, "timing")]
    assert [one["time/evaluation"] for one in values] == [0.0, FETCH + LOOK]
    assert tuple(name.removeprefix("time/") for name in values[0]) == PHASES
