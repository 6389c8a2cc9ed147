"""A run whose loss is no number, or that takes too long, ends."""

import math
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchEnd,
    Completed,
    EndEpoch,
    HookDict,
    HookSet,
    Objective,
    Record,
    StepOutput,
    Stopped,
    TrainBegin,
    TrainResult,
    train,
)
from trainhooks.core import Scope, bind
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks import History, history
from trainhooks.hooks.gradients import skip_nonfinite_update
from trainhooks.hooks.safeguards import Began, stop_on_nonfinite, time_limit


def poisoned(count: int, *places: int, by: float = math.nan) -> list[Batch]:
    """Batches of which those at these places, from 0, hold what makes a loss no number."""
    data = batches(count)
    for place in places:
        data[place][0][0, 0] = by
    return data


def loss_of_each_batch(ctx: BatchEnd) -> Record:
    return Record({"batch/loss": ctx.loss})


EACH_BATCH: HookDict = {"name": "each_batch", "on_batch_end": loss_of_each_batch}


def run(data: list[Batch], *hooks: HookSet | HookDict, **totals: Any) -> TrainResult:
    model = linear()
    return train(model, data, squares, sgd(model), hooks=list(hooks), **(totals or {"epochs": 3}))


def stopped(update: int) -> Stopped:
    return Stopped(f"the loss was not finite at update {update}", ("stop_on_nonfinite",))


@pytest.mark.parametrize(("k", "lag", "updates"), [(7, 1, 7), (7, 5, 10), (10, 5, 10), (11, 5, 15), (1, 4, 4)])
@pytest.mark.parametrize("by", [math.nan, math.inf])
def test_a_run_ends_within_the_lag_and_names_the_update_whose_loss_was_not_finite(
    k: int, lag: int, updates: int, by: float
) -> None:
    """Keeps P56, in one process. The record of that update stays what it was."""
    result = run(poisoned(40, k - 1, by=by), EACH_BATCH, history(), stop_on_nonfinite(lag=lag))
    assert (result.end, result.at.updates) == (stopped(k), updates)
    kept = result.hook_states["history"]
    assert isinstance(kept, History)
    losses = dict(kept.series("batch/loss"))
    assert list(losses) == list(range(1, updates + 1))
    assert not math.isfinite(losses[k])
    assert all(math.isfinite(losses[update]) for update in range(1, k))


def test_a_loss_that_is_finite_again_is_still_named() -> None:
    """The update of the bad batch is skipped, so the losses after it are numbers, and it is not counted."""
    data = poisoned(40, 6)
    result = run(data, EACH_BATCH, history(), skip_nonfinite_update(), stop_on_nonfinite(lag=5))
    assert (result.end, result.at.batches, result.at.updates) == (stopped(7), 10, 9)
    assert math.isfinite(result.metrics["batch/loss"])


def test_a_run_in_which_no_update_is_made_ends_too() -> None:
    data = poisoned(40, *range(40))
    result = run(data, skip_nonfinite_update(), stop_on_nonfinite(lag=5))
    assert (result.end, result.at.batches, result.at.updates) == (stopped(1), 5, 0)


@pytest.mark.parametrize("place", [4, 7])
def test_a_batch_within_a_window_is_named_by_the_update_to_which_it_belongs(place: int) -> None:
    result = run(poisoned(40, place), stop_on_nonfinite(lag=1), epochs=1, accumulate=4)
    assert (result.end, result.at.updates) == (stopped(2), 2)


def test_the_end_of_an_epoch_is_a_place_to_look_however_it_came() -> None:
    def end_early(ctx: BatchEnd) -> EndEpoch | None:
        return EndEpoch("enough") if ctx.at.batch == 4 else None

    assert run(poisoned(7, 2), stop_on_nonfinite(lag=1000)).at.updates == 7
    early: HookDict = {"on_batch_end": end_early}
    result = run(poisoned(7, 2), early, stop_on_nonfinite(lag=1000), epochs=3, accumulate=3)
    assert (result.end, result.at.updates, result.at.epochs) == (stopped(1), 2, 1)


def test_the_last_of_max_updates_is_a_place_to_look() -> None:
    result = run(poisoned(40, 4), stop_on_nonfinite(lag=1000), max_updates=7)
    assert (result.end, result.at.updates) == (stopped(5), 7)
    assert run(poisoned(40, 8), stop_on_nonfinite(lag=1000), max_updates=7).end == Completed()


def test_a_run_whose_losses_are_numbers_is_left_alone() -> None:
    model, other = linear(), linear()
    result = train(model, batches(5), squares, sgd(model), epochs=2, hooks=stop_on_nonfinite(lag=1))
    train(other, batches(5), squares, sgd(other), epochs=2)
    assert result.end == Completed()
    assert equal(weights(model), weights(other))


@pytest.mark.parametrize("form", [float, torch.tensor])
def test_the_loss_of_a_batch_without_items_counts_for_nothing(form: Any) -> None:
    def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        """A mean over no items is NaN."""
        x, y = batch
        return StepOutput(nn.functional.mse_loss(cast("Tensor", model(x)), y), weight=form(float(len(y))))

    data = batches(6)
    data[2] = (data[2][0][:0], data[2][1][:0])
    model = linear()
    hooks: list[HookSet | HookDict] = [EACH_BATCH, history(), stop_on_nonfinite(lag=1)]
    result = train(model, data, step, sgd(model), epochs=1, accumulate=2, hooks=hooks)
    assert result.end == Completed()
    kept = result.hook_states["history"]
    assert isinstance(kept, History)
    assert [math.isnan(loss) for _, loss in kept.series("batch/loss")] == [False, False, True, False, False, False]


@pytest.mark.parametrize("bad", [0, 1])
def test_the_loss_of_each_objective_is_looked_at(bad: int) -> None:
    model = nn.ModuleList([linear(0), linear(1)])
    calls = [0, 0]

    def part(index: int) -> Objective:
        def step(model: nn.Module, batch: Batch) -> Tensor:
            calls[index] += 1
            factor = math.nan if index == bad and calls[index] == 3 else 1.0
            return squares(model.get_submodule(str(index)), batch).loss * factor

        return Objective(f"part{index}", step, torch.optim.SGD(model[index].parameters(), 0.1))

    hook = stop_on_nonfinite(lag=2)
    result = train(model, batches(9), None, [part(0), part(1)], epochs=1, hooks=hook)
    assert (result.end, result.at.updates) == (stopped(3), 4)


def test_a_set_of_hooks_is_as_new_in_a_second_run() -> None:
    """Keeps P12."""
    hook = stop_on_nonfinite(lag=1)
    assert run(poisoned(5, 2), hook).end == stopped(3)
    assert run(batches(5), hook).end == Completed()


def ticking(*times: float) -> Iterator[float]:
    return iter(times)


def test_a_run_stops_at_the_first_batchs_end_after_the_time_is_over() -> None:
    clock = ticking(100.0, 103.0, 106.0, 109.75, 112.0)
    result = run(batches(40), time_limit(9.5, clock=lambda: next(clock)))
    assert result.end == Stopped("9.8 s have passed, and the limit is 9.5 s", ("time_limit",))
    assert result.at.updates == 3
    assert result.hook_states["time_limit"] == Began(at=100.0)
    clock = ticking(100.0, 104.0, 109.5)
    assert run(batches(40), time_limit(9.5, clock=lambda: next(clock))).at.updates == 2


def test_time_counts_from_the_begin_of_each_run() -> None:
    """Keeps P12."""
    now = [0.0]

    def work(ctx: BatchEnd) -> None:
        now[0] += 1.0

    hook = time_limit(4.0, clock=lambda: now[0])
    worker: HookDict = {"on_batch_end": work}
    assert [run(batches(9), worker, hook).at.updates for _ in range(3)] == [4, 4, 4]


def test_a_run_that_is_resumed_has_the_whole_time_again() -> None:
    """Its state was saved by another process, whose clock began elsewhere."""
    began: list[TrainBegin] = []
    run(batches(1), {"on_train_begin": began.append})
    hook = time_limit(5.0, clock=lambda: 1000.0)
    scope = Scope(name="time_limit", clock=lambda: 0.0)
    scope.state = Began(at=77_000.0)
    (on_train_begin,) = bind(hook, "on_train_begin", scope)
    on_train_begin.call(began[0])
    assert scope.state == Began(at=1000.0)


def test_time_that_is_over_within_a_window_ends_the_run_at_its_boundary() -> None:
    now = [0.0]

    def work(ctx: BatchEnd) -> None:
        now[0] += 1.0

    worker: HookDict = {"on_batch_end": work}
    result = run(batches(9), worker, time_limit(2.0, clock=lambda: now[0]), epochs=1, accumulate=4)
    assert (result.at.batches, result.at.updates) == (4, 1)


def test_a_run_that_is_in_time_completes() -> None:
    result = run(batches(3), time_limit(3600))
    assert (result.end, result.at.epochs) == (Completed(), 3)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: stop_on_nonfinite(lag=0), "stop_on_nonfinite takes lag as a whole number from 1 on, got 0"),
        (lambda: time_limit(-1), "time_limit takes seconds as a finite number from 0 on, got -1"),
        (lambda: time_limit(math.inf), "time_limit takes seconds as a finite number from 0 on, got inf"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        make()
