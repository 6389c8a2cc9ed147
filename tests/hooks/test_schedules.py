"""Learning rates are those of PyTorch's own schedulers, one step for each update that was made."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from tests.hooks.windows import skips_update, two_groups, two_objectives
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import (
    AfterBackward,
    BatchEnd,
    EndEpoch,
    GradientsReady,
    HookDict,
    HookSet,
    LossReady,
    OptimizerStepped,
    SkipUpdate,
    named,
    train,
)
from trainhooks.errors import DuplicateHookNameError, HookDefinitionError, RunDefinitionError
from trainhooks.hooks import lr_schedule, torch_scheduler

MakeScheduler: TypeAlias = Callable[[Optimizer], LRScheduler]


def halves(update: int) -> float:
    return 0.5**update


def by_halves(optimizer: Optimizer) -> LambdaLR:
    return LambdaLR(optimizer, halves)


def cosine(update: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * update / 12))


Trained: TypeAlias = tuple[list[Tensor], list[float]]
"""Weights, and the rate of each update."""


def by_hand(scheduler_of: MakeScheduler, epochs: int = 2, *, per_epoch: bool = False) -> Trained:
    """What a loop written by hand trains."""
    model, rates = linear(), list[float]()
    optimizer = sgd(model)
    scheduler = scheduler_of(optimizer)
    for _ in range(epochs):
        for batch in batches(6):
            optimizer.zero_grad()
            squares(model, batch).loss.backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if not per_epoch:
                scheduler.step()
        if per_epoch:
            scheduler.step()
    return weights(model), rates


def with_hook(hook: HookSet) -> Trained:
    model, rates = linear(), list[float]()
    train(model, batches(6), squares, sgd(model), epochs=2, hooks=[hook, noting(rates)])
    return weights(model), rates


def noting(rates: list[float]) -> HookDict:
    """Notes the rate that each update of the first group is made with."""

    def note(ctx: GradientsReady) -> None:
        rates.append(float(ctx.run.optimizers[ctx.optimizer_idx].param_groups[0]["lr"]))

    return {"on_after_gradient_update": note}


SCHEDULES: dict[str, tuple[HookSet, MakeScheduler, bool]] = {
    "cosine": (lr_schedule(cosine), lambda optimizer: LambdaLR(optimizer, cosine), False),
    "halves": (lr_schedule(halves), lambda optimizer: LambdaLR(optimizer, halves), False),
    "one cycle": (
        torch_scheduler(lambda optimizer: OneCycleLR(optimizer, 0.5, total_steps=20), unit="updates"),
        lambda optimizer: OneCycleLR(optimizer, 0.5, total_steps=20),
        False,
    ),
    "exponential by epochs": (
        torch_scheduler(lambda optimizer: ExponentialLR(optimizer, 0.9), unit="epochs"),
        lambda optimizer: ExponentialLR(optimizer, 0.9),
        True,
    ),
}


@pytest.mark.parametrize(("hook", "scheduler", "per_epoch"), SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_is_bit_equal_to_a_loop_written_by_hand(
    hook: HookSet, scheduler: MakeScheduler, per_epoch: bool
) -> None:
    """Keeps P71."""
    weights_of_hook, rates_of_hook = with_hook(hook)
    weights_by_hand, rates_by_hand = by_hand(scheduler, per_epoch=per_epoch)
    assert equal(weights_of_hook, weights_by_hand)
    assert rates_of_hook == rates_by_hand


def rates_heard(hook: HookSet, *others: HookDict, accumulate: int = 1, epochs: int = 2) -> list[float]:
    """The rate with which each batch's update will be, or was, made."""
    rates: list[float] = []
    model = linear()
    optimizer = sgd(model)

    def note(ctx: LossReady, loss: Tensor) -> Tensor:
        rates.append(optimizer.param_groups[0]["lr"])
        return loss

    hooks: list[HookSet | HookDict] = [hook, *others, {"transform_loss": note}]
    train(model, batches(6), squares, optimizer, epochs=epochs, accumulate=accumulate, hooks=hooks)
    return rates


def test_the_first_update_is_made_with_the_factor_of_0() -> None:
    assert rates_heard(lr_schedule(lambda update: (update + 1) / 10), epochs=1) == pytest.approx(
        [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    )


def test_with_accumulation_a_schedule_advances_once_an_update() -> None:
    rates = rates_heard(lr_schedule(halves), accumulate=4)  # windows of 4 and 2 batches in each epoch
    assert rates == [0.1] * 4 + [0.05] * 2 + [0.025] * 4 + [0.0125] * 2


@pytest.mark.parametrize("hook", [lr_schedule(halves), torch_scheduler(by_halves, unit="updates")])
def test_an_update_that_was_skipped_does_not_advance_a_schedule(hook: HookSet) -> None:
    skips: HookDict = {
        "on_after_gradient_update": lambda ctx: SkipUpdate("even") if ctx.at.batches % 2 == 0 else None,
        "may_skip": True,
    }
    assert rates_heard(hook, skips, epochs=1) == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]


def test_a_schedule_is_asked_once_for_each_window_by_the_count_of_finished_updates() -> None:
    asked: list[int] = []

    def note(update: int) -> float:
        asked.append(update)
        return 1.0

    rates_heard(lr_schedule(note), skips_update(2), epochs=1)
    assert asked == [0, 1, 2, 2, 3, 4]  # five updates of six windows


def test_a_scheduler_by_epochs_does_not_step_for_an_epoch_without_an_end() -> None:
    hook = torch_scheduler(by_halves, unit="epochs")
    model = linear()
    optimizer = sgd(model)
    ends: HookDict = {"on_batch_end": lambda ctx: EndEpoch("early") if ctx.at.batch == 1 else None}
    train(model, batches(6), squares, optimizer, max_updates=5, hooks=[hook, ends])  # epochs of 2, 2 and 1 batches
    assert optimizer.param_groups[0]["lr"] == 0.1 * 0.25


def test_a_second_run_with_one_optimizer_starts_from_its_first_rate_unless_it_was_changed() -> None:
    """As PyTorch's schedulers do, by `initial_lr`, which is not needed."""
    model = linear()
    optimizer = sgd(model)
    runs: list[list[float]] = []
    for _ in range(3):
        rates: list[float] = []
        train(model, batches(3), squares, optimizer, epochs=1, hooks=[lr_schedule(halves), noting(rates)])
        runs.append(rates)
        if len(runs) == 2:
            optimizer.param_groups[0]["lr"] = 0.03
    assert runs == [[0.1, 0.05, 0.025], [0.1, 0.05, 0.025], [0.03, 0.015, 0.0075]]


def test_nothing_is_added_to_the_groups() -> None:
    model = linear()
    optimizer = two_groups(model)
    keys = [set(group) for group in optimizer.param_groups]
    train(model, batches(6), squares, optimizer, epochs=1, hooks=lr_schedule(halves))
    assert [set(group) for group in optimizer.param_groups] == keys


def test_every_group_and_rates_that_are_tensors_follow() -> None:
    model = linear()
    rate = torch.tensor(0.5)
    optimizer = Adam([{"params": [model.weight], "lr": rate}, {"params": [model.bias], "lr": 0.2}])
    train(model, batches(2), squares, optimizer, epochs=1, hooks=lr_schedule(halves))
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == 0.25
    assert optimizer.param_groups[1]["lr"] == 0.1


def test_a_function_for_each_group_is_bit_equal_to_a_loop_written_by_hand() -> None:
    """Keeps P71."""
    by_hand, rates = linear(), list[float]()
    optimizer = two_groups(by_hand)
    scheduler = LambdaLR(optimizer, [halves, cosine])
    for batch in batches(6):
        optimizer.zero_grad()
        squares(by_hand, batch).loss.backward()
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()
    model = linear()
    optimizer_of_run = two_groups(model)
    train(model, batches(6), squares, optimizer_of_run, epochs=1, hooks=lr_schedule([halves, cosine]))
    assert equal(weights(model), weights(by_hand))
    assert [group["lr"] for group in optimizer_of_run.param_groups] == rates == [0.1 * halves(5), 0.4 * cosine(5)]


@pytest.mark.parametrize("functions", [[halves], [halves, halves, halves]])
def test_functions_for_another_number_of_groups_are_refused_before_a_rate_changes(
    functions: list[Callable[[int], float]],
) -> None:
    model = linear()
    optimizer = two_groups(model)
    sentence = f"got a list of {len(functions)} functions, .* the SGD of this run has 2 groups"
    with pytest.raises(RunDefinitionError, match=sentence):
        train(model, batches(1), squares, optimizer, epochs=1, hooks=lr_schedule(functions))
    assert all("initial_lr" not in group for group in optimizer.param_groups)
    assert equal(weights(model), weights(linear()))


def test_a_list_that_changes_later_changes_no_schedule() -> None:
    functions = [halves]
    hook = lr_schedule(functions)
    functions.append(cosine)
    assert rates_heard(hook, epochs=1)[:2] == [0.1, 0.05]


def test_all_optimizers_of_a_window_follow_one_count() -> None:
    model = nn.ModuleList([linear(0), linear(1)])
    parts = two_objectives(model)
    seen: list[tuple[int, int, float]] = []

    def note(ctx: OptimizerStepped) -> None:
        seen.append((ctx.at.updates, ctx.optimizer_idx, ctx.run.optimizers[ctx.optimizer_idx].param_groups[0]["lr"]))

    hooks: list[HookSet | HookDict] = [lr_schedule(halves), {"on_after_optimizer_step": note}]
    train(model, batches(2), None, parts, epochs=1, hooks=hooks)
    assert seen == [(1, 0, 0.1), (1, 1, 0.2), (2, 0, 0.05), (2, 1, 0.1)]


def test_an_optimizer_whose_own_update_was_skipped_follows_the_count_of_the_others() -> None:
    model = nn.ModuleList([linear(0), linear(1)])
    parts = two_objectives(model)
    rates: list[tuple[int, list[float]]] = []
    made_with: list[tuple[int, float]] = []

    def note(ctx: BatchEnd) -> None:
        rates.append((ctx.at.updates, [one.param_groups[0]["lr"] for one in ctx.run.optimizers]))

    def note_made_with(ctx: AfterBackward) -> None:
        made_with.append((ctx.at.updates, ctx.run.optimizers[ctx.optimizer_idx].param_groups[0]["lr"]))

    notes: HookDict = {"on_batch_end": note, "on_after_backward": note_made_with}
    hooks: list[HookSet | HookDict] = [lr_schedule(halves), skips_update(1), notes]
    train(model, batches(3), None, parts, epochs=1, hooks=hooks)
    assert rates == [(1, [0.1, 0.2]), (2, [0.05, 0.1]), (3, [0.025, 0.05])]
    assert made_with == [(0, 0.1), (0, 0.2), (1, 0.05), (1, 0.1), (2, 0.025), (2, 0.05)]


def test_two_optimizers_take_two_schedulers_under_two_names() -> None:
    model = nn.ModuleList([linear(0), linear(1)])
    parts = two_objectives(model)
    first = torch_scheduler(by_halves, unit="updates")
    second = torch_scheduler(lambda optimizer: StepLR(optimizer, 1, 0.1), unit="updates", optimizer_idx=1)
    with pytest.raises(DuplicateHookNameError, match="two stateful hook sets named 'torch_scheduler'"):
        train(model, batches(2), None, parts, epochs=1, hooks=[first, second])
    result = train(model, batches(2), None, parts, epochs=1, hooks=[first, named("second", second)])
    rates = [one.optimizer.param_groups[0]["lr"] for one in parts if isinstance(one.optimizer, Optimizer)]
    assert rates == pytest.approx([0.1 * 0.25, 0.2 * 0.01])
    assert set(result.hook_states) == {"torch_scheduler", "second"}


def test_the_scheduler_is_the_state_and_new_in_each_run() -> None:
    hook = torch_scheduler(by_halves, unit="updates")
    states: list[Any] = []
    for _ in range(2):
        model = linear()
        result = train(model, batches(3), squares, sgd(model), epochs=1, hooks=hook)
        states.append(result.hook_states["torch_scheduler"])
    assert [state.last_epoch for state in states] == [3, 3]
    assert states[0] is not states[1]
    assert states[0].state_dict() == states[1].state_dict()


def test_what_is_no_schedule_is_refused() -> None:
    scheduler: Any = StepLR(sgd(linear()), 1)
    with pytest.raises(HookDefinitionError, match="torch_scheduler takes a function that makes the scheduler, got <"):
        torch_scheduler(scheduler, unit="epochs")
    unit: Any = "batches"
    with pytest.raises(HookDefinitionError, match="steps in 'updates' or 'epochs', got unit='batches'"):
        torch_scheduler(by_halves, unit=unit)
    for arguments in ((), ("epochs",)):
        with pytest.raises(HookDefinitionError, match=r"it takes .*unit: Literal\[.updates., .epochs.\]"):
            cast("Any", torch_scheduler)(by_halves, *arguments)
    factor: Any = 0.5
    with pytest.raises(HookDefinitionError, match=r"lr_schedule takes a function of the update count, got 0\.5"):
        lr_schedule(factor)
    for factors in ([], [halves, factor], "halves"):
        with pytest.raises(HookDefinitionError, match=r"or a list with one function for each parameter group\."):
            lr_schedule(cast("Any", factors))


@pytest.mark.parametrize(
    ("hook", "sentence"),
    [
        (torch_scheduler(by_halves, unit="updates", optimizer_idx=1), "the run has 1, from 0"),
        (
            torch_scheduler(cast("MakeScheduler", ReduceLROnPlateau), unit="updates"),
            r"needs one; write reduce_on_plateau\('val/loss', mode",
        ),
    ],
)
def test_a_scheduler_that_cannot_work_in_a_run_is_refused_before_the_first_batch(hook: HookSet, sentence: str) -> None:
    model = linear()
    with pytest.raises(RunDefinitionError, match=sentence):
        train(model, batches(1), squares, sgd(model), epochs=1, hooks=hook)
    assert equal(weights(model), weights(linear()))


def test_a_factory_that_makes_something_else_is_named() -> None:
    def makes_a_rate(optimizer: Optimizer) -> Any:
        return 0.1

    model = linear()
    with pytest.raises(RunDefinitionError, match=r"makes_a_rate' should make a learning-rate scheduler, and made 0\.1"):
        train(model, batches(1), squares, sgd(model), epochs=1, hooks=torch_scheduler(makes_a_rate, unit="epochs"))
