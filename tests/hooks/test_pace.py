"""Items a second, the share of waiting for data and the time left are what the clock says."""

from collections.abc import Mapping
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.hooks.clocks import FETCH, LOOK, STEP, Clock, Slow, SlowStep
from tests.loop.programs import Batch, Unsized, batches, equal, linear, sgd, squares, weights
from trainhooks import BatchBegin, Evaluation, SkipBatch, TrainResult, every, train
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks.pace import throughput
from trainhooks.hooks.records import History, history

BATCH = 4
"""Items of a batch."""
EACH = FETCH + STEP
"""Seconds of a batch."""


def recorded(result: TrainResult) -> list[tuple[int, Mapping[str, float]]]:
    kept = result.hook_states["history"]
    assert isinstance(kept, History)
    return [(one.at.updates, one.values) for one in kept.entries if one.by == "throughput"]


def run(
    clock: Clock, hook: Any, weight: Tensor | None = None, **arguments: Any
) -> list[tuple[int, Mapping[str, float]]]:
    model = linear()
    given: dict[str, Any] = {"epochs": 2, **arguments}
    data = given.pop("data", None) or Slow(clock, 4)
    return recorded(
        train(model, data, SlowStep(clock, weight), sgd(model), hooks=[hook, history()], **given)
    )  # fmt: skip


def test_an_epoch_without_its_evaluations_is_measured() -> None:
    clock = Clock()
    records = run(clock, throughput(clock=clock), evaluations=[Evaluation("val", Slow(clock, 2))])
    seen = 2 * (FETCH + LOOK)
    assert records == [
        (4, {
            "throughput/items": 4 * BATCH / (4 * EACH),
            "throughput/data_wait": FETCH / EACH,
            "throughput/seconds_left": 4 * EACH + seen,
        }),
        (8, {
            "throughput/items": 4 * BATCH / (4 * EACH),
            "throughput/data_wait": FETCH / EACH,
            "throughput/seconds_left": 0.0,
        }),
    ]  # fmt: skip


def test_a_record_every_so_many_updates_says_how_long_the_run_will_take() -> None:
    clock = Clock()
    records = run(clock, throughput(updates=3, clock=clock))
    assert [(at, values["throughput/seconds_left"]) for at, values in records] == [(3, 5 * EACH), (6, 2 * EACH)]
    assert [values["throughput/items"] for _, values in records] == [BATCH / EACH] * 2


def test_accumulated_batches_all_count() -> None:
    clock = Clock()
    records = run(clock, throughput(updates=1, clock=clock), accumulate=4)
    assert [(at, values["throughput/items"]) for at, values in records] == [(1, BATCH / EACH), (2, BATCH / EACH)]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ({"epochs": None, "max_updates": 10}, [8, 6, 4, 2, 0]),
        ({"epochs": 2, "max_updates": 6}, [4, 2, 0]),
        ({"epochs": 1, "max_updates": 600}, [2, 0]),
    ],
)
def test_the_end_that_comes_first_counts(arguments: dict[str, Any], left: list[int]) -> None:
    clock = Clock()
    records = run(clock, throughput(updates=2, clock=clock), **arguments)
    assert [values["throughput/seconds_left"] / EACH for _, values in records] == pytest.approx(left)


def test_a_run_whose_end_is_not_known_has_no_time_left() -> None:
    clock = Clock()
    records = run(clock, throughput(clock=clock), data=Unsized(batches(2)))
    assert [list(values) for _, values in records] == [["throughput/items", "throughput/data_wait"]] * 2


def test_skipped_batches_bring_the_end_nearer_but_are_no_items() -> None:
    def skip(ctx: BatchBegin) -> SkipBatch | None:
        return SkipBatch("first") if ctx.at.batch == 0 else None

    clock = Clock()
    records = run(clock, [throughput(clock=clock), {"on_batch_begin": skip}])
    spent = 4 * FETCH + 3 * STEP
    assert [values["throughput/items"] for _, values in records] == [3 * BATCH / spent] * 2
    assert [values["throughput/seconds_left"] for _, values in records] == [spent, 0.0]


def test_items_are_counted_by_a_function_of_the_batch() -> None:
    def numbers(batch: Batch) -> int:
        return batch[0].numel()

    clock = Clock()
    records = run(clock, throughput(items=numbers, clock=clock))
    assert [values["throughput/items"] for _, values in records] == [12 / EACH] * 2


def test_items_that_are_tensors_are_summed_where_they_are() -> None:
    clock = Clock()
    records = run(clock, throughput(items=lambda batch: batch[0].new_tensor(7, dtype=torch.int64), clock=clock))
    assert [values["throughput/items"] for _, values in records] == pytest.approx([7 / EACH] * 2)
    records = run(clock, throughput(clock=clock), weight=torch.tensor(BATCH))
    assert [values["throughput/items"] for _, values in records] == pytest.approx([BATCH / EACH] * 2)


class Reads(TorchDispatchMode):
    """Counts the reads of device values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += int(func is torch.ops.aten._local_scalar_dense.default)
        return func(*args, **(kwargs or {}))


def reads_of(*hooks: Any, updates: int) -> int:
    model, clock, reads = linear(), Clock(), Reads()
    with reads:
        train(model, batches(1) * updates, SlowStep(clock, torch.tensor(4.0)), sgd(model), epochs=1, hooks=list(hooks))
    return reads.count


def test_a_weight_that_is_a_tensor_is_read_once_a_record_and_never_in_a_step() -> None:
    """Keeps P57, for this hook."""
    extra = [reads_of(throughput(), updates=n) - reads_of(updates=n) for n in (4, 40)]
    assert extra[0] == extra[1] <= 1


def test_it_works_without_epochs_and_with_evaluations_between() -> None:
    clock = Clock()
    val = Evaluation("val", Slow(clock, 1), when=every(2, "updates"))
    records = run(
        clock, throughput(updates=4, clock=clock), epochs=None, max_updates=8, data=Slow(clock, 100), evaluations=[val]
    )  # fmt: skip
    assert [values["throughput/items"] for _, values in records] == [BATCH / EACH] * 2
    assert records[0][1]["throughput/seconds_left"] == 4 * EACH + FETCH + LOOK


def test_a_set_measures_anew_in_a_second_run() -> None:
    """Keeps P12."""
    clock = Clock()
    hook = throughput(clock=clock)
    first = run(clock, hook)
    clock.now += 1000.0
    assert run(clock, hook) == first


def test_measuring_changes_no_trained_parameter() -> None:
    """Keeps P08."""
    watched, plain = linear(), linear()
    train(watched, batches(5), squares, sgd(watched), epochs=2, hooks=throughput())
    train(plain, batches(5), squares, sgd(plain), epochs=2)
    assert equal(weights(watched), weights(plain))


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(HookDefinitionError, match=r"throughput records every so many updates, .* got True"):
        throughput(updates=True)
    with pytest.raises(HookDefinitionError, match=r"items is a function of a batch .* got 32"):
        throughput(items=cast("Any", 32))
    with pytest.raises(HookDefinitionError, match=r"items gives how many items a batch has, .* got None"):
        run(Clock(), throughput(items=cast("Any", print)))
