"""Learning rates are a transform of what the program gave, in any order, over skips and resumes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from math import inf, nan
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim import lr_scheduler as torchs

from tests.hooks.scripted import scripted
from tests.hooks.windows import skips_update, two_groups, two_objectives
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from tests.run.saved import experiment, loader, state_of
from trainhooks import (
    BatchBegin,
    EpochEnd,
    GradientsReady,
    HookDict,
    HookSet,
    OptimizerStepped,
    Rates,
    RatesDue,
    Record,
    SkipBatch,
    TrainBegin,
    at_points,
    every,
    named,
    since,
    train,
    until,
    when,
)
from trainhooks.checkpoint import saved_state
from trainhooks.errors import HookDefinitionError, RunDefinitionError
from trainhooks.hooks import checkpoint, lr_monitor, lr_schedule, reduce_on_plateau, torch_scheduler

Scheduler: TypeAlias = Callable[[Optimizer], torchs.LRScheduler]


def halving(update: int) -> float:
    return 0.5**update


def warm(update: int) -> float:
    return min(1.0, (update + 1) / 5)


def noting(rates: list[Any]) -> HookDict:
    """Notes the rates that each update is made with, of all groups."""

    def note(ctx: GradientsReady) -> None:
        groups = ctx.run.optimizers[ctx.optimizer_idx].param_groups
        rates.append([float(group["lr"]) for group in groups])

    return {"on_after_gradient_update": note}


def rates_with(*hooks: HookSet | HookDict, count: int = 6, epochs: int = 2) -> list[float]:
    """The rate of the first group in each update of a run."""
    model, rates = linear(), list[list[float]]()
    train(model, batches(count), squares, sgd(model), epochs=epochs, hooks=[*hooks, noting(rates)])
    return [one[0] for one in rates]


def test_the_event_comes_once_for_each_optimizer_before_the_first_batch_of_a_window(specialised: bool) -> None:
    model, trace = nn.ModuleList([linear(0), linear(1)]), list[tuple[object, ...]]()

    def due(ctx: RatesDue, rates: Rates) -> Rates:
        trace.append(("rates", ctx.optimizer_idx, ctx.at.updates, ctx.at.batches, ctx.at.batch))
        return rates

    def begin(ctx: BatchBegin) -> SkipBatch | None:
        trace.append(("batch", ctx.at.batch))
        return SkipBatch("first") if ctx.at.batch == 0 else None

    hooks: list[HookDict] = [{"transform_rates": due, "on_batch_begin": begin}, skips_update(0)]
    train(model, batches(5), None, two_objectives(model), epochs=1, accumulate=2, hooks=hooks, specialised=specialised)
    assert trace == [
        ("batch", 0),  # is skipped, and opens no window
        ("batch", 1), ("rates", 0, 0, 0, 1), ("rates", 1, 0, 0, 1), ("batch", 2),
        ("batch", 3), ("rates", 0, 1, 2, 3), ("rates", 1, 1, 2, 3), ("batch", 4),
    ]  # fmt: skip


def test_hooks_are_called_in_order_each_with_what_the_one_before_made_and_the_first_with_the_bases() -> None:
    given: list[tuple[str, Rates]] = []

    def doubled(ctx: RatesDue, rates: Rates) -> Rates:
        given.append(("doubled", rates))
        return [2 * rate for rate in rates]

    def less(ctx: RatesDue, rates: Rates) -> Rates:
        given.append(("less", rates))
        return (rates[0] - 0.05, 1)  # any numbers

    model = linear()
    optimizer = two_groups(model)
    train(model, batches(2), squares, optimizer, epochs=1, hooks=[{"transform_rates": [doubled, less]}])
    assert given == [("doubled", (0.1, 0.4)), ("less", [0.2, 0.8])] * 2
    assert [group["lr"] for group in optimizer.param_groups] == [0.2 - 0.05, 1.0]
    assert type(optimizer.param_groups[1]["lr"]) is float


@pytest.mark.parametrize("returned", [None, 0.1, [], [0.1, 0.1], [nan], [inf], ["0.1"], [torch.tensor(0.1)]], ids=str)
def test_what_is_not_one_finite_number_for_each_group_is_refused(returned: Any) -> None:
    hooks: HookDict = {"name": "odd", "transform_rates": lambda ctx, rates: returned}
    with pytest.raises(HookDefinitionError, match=r"transform_rates returns .*, but 'odd' returned") as caught:
        rates_with(hooks)
    assert "Raised in the hook 'odd' on transform_rates, at update 0, batch 0" in caught.value.__notes__[0]


def plateau() -> HookSet:
    return reduce_on_plateau("score", mode="min", patience=0, factor=0.5)


def exponential(optimizer: Optimizer) -> torchs.LRScheduler:
    return torchs.ExponentialLR(optimizer, 0.9)


def steps(optimizer: Optimizer) -> torchs.LRScheduler:
    return torchs.StepLR(optimizer, 2, 0.3)


FACTORS: Mapping[str, tuple[Callable[[], HookSet | tuple[HookSet, ...]], Callable[[int, int], float]]] = {
    "warm-up": (lambda: lr_schedule(warm), lambda update, epoch: warm(update)),
    "another": (lambda: named("another", lr_schedule(lambda update: 0.97**update)), lambda update, epoch: 0.97**update),
    "plateau": (plateau, lambda update, epoch: 0.5 ** max(epoch - 1, 0)),
    "exponential": (lambda: torch_scheduler(exponential, unit="updates"), lambda update, epoch: 0.9**update),
    "steps": (
        lambda: named("steps", torch_scheduler(steps, unit="epochs")), lambda update, epoch: 0.3 ** (epoch // 2),
    ),
    "at times": (
        lambda: when(every(3, "updates"), lr_schedule(lambda update: 0.4)),
        lambda update, epoch: 0.4 if update % 3 == 2 else 1.0,
    ),
    "late": (
        lambda: when(since(4, "updates"), named("late", lr_schedule(lambda update: 0.9**update))),
        lambda update, epoch: 0.9**update if update >= 3 else 1.0,
    ),
}  # fmt: skip
"""Sets, and the factor that each is, by finished updates and epochs."""


@given(
    names=st.lists(st.sampled_from(sorted(FACTORS)), unique=True).flatmap(st.permutations),
    absolute=st.booleans(),
    accumulate=st.integers(1, 3),
    stop=st.none() | st.integers(1, 7),
    specialised=st.booleans(),
)
def test_rates_are_products_of_the_same_factors_in_any_order(
    names: list[str], absolute: bool, accumulate: int, stop: int | None, specialised: bool
) -> None:
    """Keeps P86, P49. An absolute schedule comes first; skipped updates count for nothing."""
    first = [named("absolute", lr_schedule(lambda update: 0.02 * (1 + update), absolute=True))] if absolute else []
    hooks = [*first, scripted([1.0] * 4), *(FACTORS[name][0]() for name in names)]
    if stop is not None:
        hooks.append(cast("Any", skips_update(stop)))
    seen: list[tuple[int, int, float]] = []

    def note(ctx: OptimizerStepped) -> None:
        if ctx.stepped:
            seen.append((ctx.at.updates - 1, ctx.at.epochs, ctx.run.optimizers[0].param_groups[0]["lr"]))

    first_of_all: HookDict = {"on_after_optimizer_step": note, "order": -1}
    model = linear()
    train(
        model, batches(5), squares, sgd(model), epochs=4, accumulate=accumulate, specialised=specialised,
        hooks=cast("Any", [*hooks, first_of_all]),
    )  # fmt: skip
    for update, epoch, rate in seen:
        wanted = 0.02 * (1 + update) if absolute else 0.1
        for name in names:
            if not (absolute and name in ("exponential", "steps")):  # what these leave is what it does not look at
                wanted *= FACTORS[name][1](update, epoch)
        assert rate == pytest.approx(wanted, rel=1e-12)


def test_a_schedule_of_absolute_rates_is_the_first_so_there_is_one() -> None:
    absolute = lr_schedule(halving, absolute=True)
    assert rates_with(absolute, lr_schedule(halving), count=3, epochs=1) == [1.0, 0.25, 0.0625]
    second = named("second", absolute)
    with pytest.raises(RunDefinitionError, match=r"'lr_schedule' sets the learning rates whatever they were, so what "):
        rates_with(named("warm", lr_schedule(warm)), absolute)
    with pytest.raises(RunDefinitionError, match=r"Give 'second' before 'lr_schedule'; of two that set them so, leave"):
        rates_with(absolute, second)


SCHEDULERS: Mapping[str, tuple[Scheduler, str]] = {
    "StepLR": (lambda one: torchs.StepLR(one, 3, 0.7), "updates"),
    "MultiStepLR": (lambda one: torchs.MultiStepLR(one, [2, 5, 5, 9], 0.3), "updates"),
    "ConstantLR": (lambda one: torchs.ConstantLR(one, 0.3, 4), "updates"),
    "LinearLR": (lambda one: torchs.LinearLR(one, 0.1, 1.0, 5), "updates"),
    "ExponentialLR": (lambda one: torchs.ExponentialLR(one, 0.9), "epochs"),
    "PolynomialLR": (lambda one: torchs.PolynomialLR(one, 9, 2.0), "updates"),
    "CosineAnnealingLR": (lambda one: torchs.CosineAnnealingLR(one, 5, 0.01), "updates"),
    "CosineAnnealingWarmRestarts": (lambda one: torchs.CosineAnnealingWarmRestarts(one, 3, 2), "updates"),
    "LambdaLR": (lambda one: torchs.LambdaLR(one, [warm, halving]), "updates"),
    "MultiplicativeLR": (lambda one: torchs.MultiplicativeLR(one, lambda update: 0.95), "updates"),
    "OneCycleLR": (lambda one: torchs.OneCycleLR(one, [0.5, 0.2], total_steps=20), "updates"),
    "CyclicLR": (lambda one: torchs.CyclicLR(one, 0.01, 0.1, step_size_up=3), "updates"),
    "SequentialLR": (
        lambda one: torchs.SequentialLR(one, [torchs.LinearLR(one, 0.1), torchs.StepLR(one, 2)], [4]), "updates",
    ),
    "ChainedScheduler": (
        lambda one: torchs.ChainedScheduler([torchs.ConstantLR(one, 0.1, 4), torchs.ExponentialLR(one, 0.9)]),
        "updates",
    ),
}  # fmt: skip


def by_hand(
    schedulers: Sequence[tuple[Scheduler, str]],
) -> tuple[list[Tensor], list[list[float]], list[dict[str, Any]]]:
    """Weights, rates and options after a loop of two epochs written by hand."""
    model, rates = linear(), list[list[float]]()
    optimizer = two_groups(model)
    made = [(make(optimizer), unit) for make, unit in schedulers]
    for _ in range(2):
        for batch in batches(6):
            optimizer.zero_grad()
            squares(model, batch).loss.backward()
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            for scheduler, unit in made:
                if unit == "updates":
                    scheduler.step()
        for scheduler, unit in made:
            if unit == "epochs":
                scheduler.step()
    return weights(model), rates, options_of(optimizer)


def options_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def sets_of(schedulers: Sequence[tuple[Scheduler, str]]) -> list[HookSet]:
    return [
        named(str(place), torch_scheduler(make, unit=cast("Any", unit)))
        for place, (make, unit) in enumerate(schedulers)
    ]


def passes_on(ctx: RatesDue, rates: Rates) -> Rates:
    return [*rates]


@pytest.mark.parametrize("beside", [[], [{"transform_rates": passes_on}]], ids=["alone", "beside a transform"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_of_torch_does_what_it_does_in_a_loop_written_by_hand(name: str, beside: list[HookDict]) -> None:
    """Keeps P71, P86. Those that cycle a momentum write it themselves."""
    model, rates = linear(), list[list[float]]()
    optimizer = two_groups(model)
    train(
        model, batches(6), squares, optimizer, epochs=2,
        hooks=[*sets_of([SCHEDULERS[name]]), *beside, noting(rates)],
    )  # fmt: skip
    by_torch, rates_of_torch, options = by_hand([SCHEDULERS[name]])
    assert rates == rates_of_torch
    assert equal(weights(model), by_torch)
    if not beside:
        assert options_of(optimizer) == options


@given(names=st.lists(st.sampled_from(sorted(SCHEDULERS)), min_size=2, max_size=3, unique=True))
def test_several_schedulers_of_torch_act_on_one_another_as_in_torch(names: list[str]) -> None:
    """Keeps P86."""
    schedulers = [SCHEDULERS[name] for name in names]
    model, rates = linear(), list[list[float]]()
    hooks: list[HookSet | HookDict] = [*sets_of(schedulers), {"transform_rates": passes_on}, noting(rates)]
    train(model, batches(6), squares, two_groups(model), epochs=2, hooks=hooks)
    assert rates == by_hand(schedulers)[1]


def test_the_recipe_of_detection_warms_up_in_the_first_epoch_and_steps_by_epochs() -> None:
    """torchvision's: a `LinearLR` that steps after each update of epoch 0, beside a `MultiStepLR`."""
    by_torch = linear()
    optimizer = sgd(by_torch)
    main = torchs.MultiStepLR(optimizer, [1, 3], 0.1)
    rates: list[list[float]] = []
    for epoch in range(4):
        warms = torchs.LinearLR(optimizer, 1 / 1000, total_iters=5) if epoch == 0 else None
        for batch in batches(6):
            optimizer.zero_grad()
            squares(by_torch, batch).loss.backward()
            rates.append([optimizer.param_groups[0]["lr"]])
            optimizer.step()
            if warms is not None:
                warms.step()
        main.step()
    model, found = linear(), list[list[float]]()
    first_epoch = torch_scheduler(lambda one: torchs.LinearLR(one, 1 / 1000, total_iters=5), unit="updates")
    hooks: list[Any] = [
        torch_scheduler(lambda one: torchs.MultiStepLR(one, [1, 3], 0.1), unit="epochs"),
        when(until(6, "updates"), named("warm-up", first_epoch)),
        noting(found),
    ]
    train(model, batches(6), squares, sgd(model), epochs=4, hooks=hooks)
    assert found == rates
    assert equal(weights(model), weights(by_torch))


def test_a_rate_that_somebody_else_changed_is_taken_as_it_is_and_the_base_is_scaled_with_it() -> None:
    def halve(ctx: EpochEnd) -> None:
        ctx.run.optimizers[0].param_groups[0]["lr"] *= 0.5

    def start_lower(ctx: TrainBegin) -> None:
        ctx.run.optimizers[0].param_groups[0]["lr"] = 0.04

    assert rates_with({"on_epoch_end": halve}, lr_schedule(halving), count=2, epochs=3) == [
        0.1, 0.05, 0.0125, 0.00625, 0.0015625, 0.00078125,
    ]  # fmt: skip
    assert rates_with({"on_train_begin": start_lower}, lr_schedule(halving), count=2, epochs=1) == [0.04, 0.02]
    from_nothing = lr_schedule(lambda update: float(update > 0))
    set_it: HookDict = {"on_batch_end": lambda ctx: start_lower(cast("Any", ctx)) if ctx.at.updates == 1 else None}
    assert rates_with(from_nothing, set_it, count=3, epochs=1) == [0.0, 0.04, 0.04]


def test_a_rate_that_is_a_tensor_with_a_graph_is_read_without_a_warning() -> None:
    model = linear()
    optimizer = SGD(model.parameters(), torch.tensor(0.5, requires_grad=True))
    torch.set_warn_always(True)
    try:
        train(model, batches(1), squares, optimizer, epochs=1)
    finally:
        torch.set_warn_always(False)


def test_a_rate_that_is_a_tensor_is_filled_in_place_also_beside_a_scheduler_of_torch() -> None:
    model, rates = linear(), list[list[float]]()
    rate = torch.tensor(0.5)
    optimizer = Adam(model.parameters(), rate)
    hooks: list[Any] = [torch_scheduler(exponential, unit="updates"), lr_schedule(halving), noting(rates)]
    train(model, batches(4), squares, optimizer, epochs=1, hooks=hooks)
    assert optimizer.param_groups[0]["lr"] is rate
    assert [one for (one,) in rates] == pytest.approx([0.5 * (0.9 * 0.5) ** update for update in range(4)])
    train(model, batches(2), squares, optimizer, epochs=1, hooks=torch_scheduler(steps, unit="updates"))
    assert optimizer.param_groups[0]["lr"] is rate


class Unrated(Optimizer):
    """One of those that need no learning rate."""

    def __init__(self, params: Any, **defaults: object) -> None:
        super().__init__(params, defaults)

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for one in group["params"]:
                one.data.sub_(one.grad, alpha=0.1)


def test_an_optimizer_without_a_rate_is_left_alone_and_one_whose_rate_is_none_is_named() -> None:
    model, plain = linear(), linear()
    train(model, batches(2), squares, Unrated(model.parameters()), epochs=1, hooks=lr_schedule([halving]))
    train(plain, batches(2), squares, Unrated(plain.parameters()), epochs=1)
    assert equal(weights(model), weights(plain))
    train(plain, batches(1), squares, Unrated(plain.parameters(), lr=None), epochs=1)
    sentence = r"group 0 of the Unrated has lr=None, so there is no learning rate for 'lr_schedule' to change; give"
    with pytest.raises(RunDefinitionError, match=sentence):
        train(model, batches(1), squares, Unrated(model.parameters(), lr=None), epochs=1, hooks=lr_schedule(halving))


def test_a_group_that_is_added_within_a_run_takes_part() -> None:
    model = linear()
    optimizer = SGD([model.weight], 0.1)
    rates: list[list[float]] = []

    def add(ctx: EpochEnd) -> None:
        if ctx.at.epochs == 1:
            ctx.run.optimizers[0].add_param_group({"params": [model.bias], "lr": 0.4})

    hooks: list[Any] = [lr_schedule(halving), {"on_epoch_end": add}, noting(rates)]
    train(model, batches(1), squares, optimizer, epochs=3, hooks=hooks)
    assert rates == [[0.1], [0.05, 0.2], [0.025, 0.1]]


def test_a_plateau_lowers_no_rate_below_its_least_nor_lifts_one_to_it() -> None:
    lowest = reduce_on_plateau("score", mode="min", patience=0, factor=0.1, min_lr=0.02)
    rates = rates_with(scripted([1.0, 1.0, 1.0]), lr_schedule(warm), lowest, count=2, epochs=3)
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.02, 0.02])
    assert rates_with(scripted([1.0, 1.0, 1.0]), lowest, lr_schedule(warm), count=1, epochs=3)[0] == pytest.approx(0.02)


def flat(ctx: EpochEnd) -> Record:
    return Record({"score": 1.0})


def left_by(updates: int, folder: Path, resume: Any) -> object:
    """What a run with one set of each kind leaves: weights, options of the groups, and the states of hooks."""
    model = linear()
    optimizer = two_groups(model)
    hooks: list[Any] = [
        checkpoint(when=every(1, "updates"), keep_last=None),
        lr_schedule(lambda update: 0.01 * (update + 1), absolute=True),
        torch_scheduler(exponential, unit="updates"),
        when(~every(3, "updates"), named("sometimes", lr_schedule(warm))),
        {"name": "flat", "provides": {"score"}, "on_epoch_end": flat},
        plateau(),
    ]
    result = train(
        model, loader(), squares, optimizer, max_updates=updates, experiment=experiment(folder), resume=resume,
        hooks=hooks,
    )  # fmt: skip
    states = {name: saved_state(state) for name, state in result.hook_states.items()}
    return state_of(model), options_of(optimizer), states


@pytest.mark.parametrize("stop", [1, 6, 7, 13, 20])
def test_a_run_goes_on_with_the_rates_that_it_would_have_had(stop: int, tmp_path: Path) -> None:
    """Keeps P17."""
    whole = left_by(20, tmp_path / "whole", "never")  # six updates an epoch
    left_by(stop, tmp_path / "parts", "never")
    assert left_by(20, tmp_path / "parts", "must") == whole


STOP = 4


def test_a_schedule_that_is_left_out_on_a_resume_has_no_effect_any_more_and_the_resume_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saver = checkpoint(when=at_points([STOP], "updates"))

    def run(updates: int, resume: Any, *hooks: Any) -> list[list[float]]:
        model, rates = linear(), list[list[float]]()
        train(
            model, loader(), squares, sgd(model), max_updates=updates, experiment=experiment(tmp_path), resume=resume,
            hooks=[saver, *hooks, noting(rates)],
        )  # fmt: skip
        return rates

    assert run(STOP, "never", lr_schedule(halving), lr_monitor()) == [[0.1 * halving(update)] for update in range(STOP)]
    with caplog.at_level(logging.INFO, "trainhooks"):
        assert run(STOP + 2, "must") == [[0.1]] * 2
    assert "lr_schedule" in caplog.text


@pytest.mark.parametrize("hooks", [[], [lr_schedule(halving)]], ids=["alone", "scheduled"])
def test_a_rate_that_the_program_changed_is_the_new_base_of_a_run_that_goes_on_and_is_told(
    hooks: list[HookSet], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, rates = linear(), list[list[float]]()
    saver = checkpoint(when=at_points([2], "updates"))
    for rate, updates in ((0.1, 2), (0.4, 4)):
        with caplog.at_level(logging.INFO, "trainhooks"):
            train(
                model, loader(), squares, SGD(model.parameters(), rate), max_updates=updates, resume="auto",
                experiment=experiment(tmp_path), hooks=[saver, *hooks, noting(rates)],
            )  # fmt: skip
    assert rates == [[base * (halving(update) if hooks else 1.0)] for update, base in enumerate([0.1, 0.1, 0.4, 0.4])]
    assert "The lr of group 0 of the SGD was 0.1 and is 0.4; it is the new base." in caplog.messages


def test_schedulers_of_torch_go_on_from_what_they_reached_and_the_run_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, rates = linear(), list[list[float]]()
    hooks: list[Any] = [checkpoint(when=at_points([2], "updates")), torch_scheduler(steps, unit="updates")]
    for rate, updates in ((0.1, 2), (0.4, 4)):
        with caplog.at_level(logging.INFO, "trainhooks"):
            train(
                model, loader(), squares, SGD(model.parameters(), rate), max_updates=updates, resume="auto",
                experiment=experiment(tmp_path), hooks=[*hooks, noting(rates)],
            )  # fmt: skip
    assert [one for (one,) in rates] == pytest.approx([0.1, 0.1, 0.03, 0.03])
    assert any("was 0.1 and is 0.4; sets that step on the rates go on" in one for one in caplog.messages)
