"""Rates fall on plateaus where PyTorch lets them fall, and each value is judged once."""

import math
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tests.hooks.scripted import scores, scripted
from tests.hooks.windows import two_objectives
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import (
    EpochEnd,
    Evaluation,
    HookDict,
    HookSet,
    MissingValueError,
    Objective,
    OptimizerStepped,
    every,
    train,
    when,
)
from trainhooks.checkpoint import restored_state, saved_state
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks import lr_monitor, reduce_on_plateau
from trainhooks.hooks.schedules import Plateau

NAN = math.nan


def rates_of(values: Sequence[float | None], hook: HookSet, optimizer: Optimizer, model: nn.Module) -> list[float]:
    """The rate of each epoch's updates, where the value at its end is that of `values`."""
    rates: list[float] = []

    def note(ctx: EpochEnd) -> None:
        rates.append(float(optimizer.param_groups[0]["lr"]))

    hooks: list[HookSet | HookDict] = [scripted(values), hook, {"on_epoch_end": note}]
    train(model, batches(2), squares, optimizer, epochs=len(values), hooks=hooks)
    return rates


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        ([5, 4, 4, 4, 4, 3, 3, 3, 3], {"patience": 2}),
        ([5, 5, 5, 5], {"patience": 0}),
        ([5, 5, 5, 5, 5, 5, 5], {"patience": 0, "cooldown": 2, "factor": 0.5}),
        ([5, 5, 5, 5, 5, 5], {"patience": 0, "min_lr": 0.03, "factor": 0.5}),
        ([5, 4.9, 4.8, 4.7, 4.6], {"patience": 1, "threshold": 0.05}),
        ([5, 4.9, 4.8, 4.7, 4.6], {"patience": 1, "threshold": 0.15, "threshold_mode": "abs"}),
        ([5, NAN, NAN, 4, 4, 4], {"patience": 1}),
        ([NAN, NAN, NAN], {"patience": 1}),
    ],
)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_rates_fall_where_pytorchs_scheduler_lets_them_fall(values: list[float], arguments: Any, mode: Any) -> None:
    values = [value if mode == "min" else -value for value in values]
    by_hand = linear()
    optimizer = sgd(by_hand)
    scheduler = ReduceLROnPlateau(optimizer, mode, **arguments)
    rates: list[float] = []
    for value in values:
        for batch in batches(2):
            optimizer.zero_grad()
            squares(by_hand, batch).loss.backward()
            optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    model = linear()
    hook = reduce_on_plateau("score", mode=mode, **arguments)
    assert rates_of(values, hook, sgd(model), model) == rates
    assert equal(weights(model), weights(by_hand))


def test_so_many_failures_are_let_pass_and_the_next_lowers_the_rate() -> None:
    model = linear()
    hook = reduce_on_plateau("score", mode="min", patience=2, factor=0.5)
    rates = rates_of([5, 6, None, 6, None, 6, 6], hook, sgd(model), model)  # an epoch without a value counts not
    assert rates == [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05]


def test_a_value_of_an_evaluation_is_judged_once_though_two_events_show_it() -> None:
    model = linear()
    optimizer = sgd(model)
    result = train(
        model, batches(4), squares, optimizer, epochs=4,
        evaluations=[Evaluation("val", batches(1), metrics=scores(5, 6, 6, 6))],
        hooks=reduce_on_plateau("val/score", mode="min", patience=1),
    )  # fmt: skip
    plateau = result.hook_states["reduce_on_plateau"]
    assert isinstance(plateau, Plateau)
    assert plateau == Plateau(best=5.0, failures=1, reductions=1, judged=4)  # at the second failure, and only one since
    assert optimizer.param_groups[0]["lr"] == 0.1 * 0.1


def test_it_works_in_a_run_without_epochs() -> None:
    model = linear()
    rates: list[float] = []

    def note(ctx: OptimizerStepped) -> None:
        rates.append(ctx.run.optimizers[0].param_groups[0]["lr"])

    train(
        model, batches(1000), squares, sgd, max_updates=10,
        evaluations=[Evaluation("val", batches(1), metrics=scores(5, 6, 6), when=every(3, "updates"))],
        hooks=[reduce_on_plateau("val/score", mode="min", patience=0, factor=0.5), {"on_after_optimizer_step": note}],
    )  # fmt: skip
    assert rates == [0.1] * 6 + [0.05] * 3 + [0.025]


def test_every_optimizer_and_rates_that_are_tensors_follow() -> None:
    model = nn.ModuleList([linear(0), linear(1)])
    parts = two_objectives(model)
    rate = torch.tensor(0.5)
    second = Adam(model[1].parameters(), rate)
    parts[1] = Objective(parts[1].name, parts[1].step, second)
    hook = reduce_on_plateau("score", mode="min", patience=0, factor=0.5)
    train(model, batches(2), None, parts, epochs=4, hooks=[scripted([5, 6, 6, 6]), hook])
    first = parts[0].optimizer
    assert isinstance(first, Optimizer)
    assert first.param_groups[0]["lr"] == 0.025
    assert second.param_groups[0]["lr"] is rate
    assert float(rate) == 0.125


def test_a_plateau_goes_on_from_its_saved_state() -> None:
    model = linear()
    hook = reduce_on_plateau("score", mode="min", patience=2)
    result = train(model, batches(1), squares, sgd(model), epochs=3, hooks=[scripted([5, 6, 6]), hook])
    saved = saved_state(result.hook_states["reduce_on_plateau"])
    assert restored_state(Plateau(best=0.0), saved) == Plateau(best=5.0, failures=2, judged=3)


def test_a_set_of_hooks_is_as_new_in_a_second_run() -> None:
    """Keeps P12."""
    hook = reduce_on_plateau("score", mode="min", patience=1)
    runs: list[list[float]] = []
    for _ in range(2):
        model = linear()
        runs.append(rates_of([5, 6, 6, 6, 6], hook, sgd(model), model))
    assert runs[0] == runs[1] == [0.1, 0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1]


def test_a_trigger_gates_when_values_are_judged_and_reductions_hold_in_between() -> None:
    model = linear()
    (hook,) = when(every(2, "epochs"), reduce_on_plateau("score", mode="min", patience=0, factor=0.5))
    assert rates_of([5, 5, 5, 5, 5, 5], hook, sgd(model), model) == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05]


def test_a_value_that_nothing_provides_is_refused() -> None:
    """Keeps P03."""
    with pytest.raises(MissingValueError, match="'reduce_on_plateau' reads 'val/acc'"):
        train(linear(), batches(1), squares, sgd, epochs=1, hooks=reduce_on_plateau("val/acc", mode="max"))


def test_the_monitor_and_the_plateau_show_what_the_other_did() -> None:
    model = linear()
    result = train(
        model, batches(2), squares, sgd(model), epochs=4,
        hooks=[scripted([5, 6, 6, 6]), reduce_on_plateau("score", mode="min", patience=0, factor=0.5), lr_monitor()],
    )  # fmt: skip
    assert [row["lr/0"] for row in result.history] == [0.1, 0.1, 0.05, 0.025]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"mode": "auto"}, r"reduce_on_plateau\('score'\) takes mode='min' if smaller is better, .*got 'auto'"),
        ({"monitor": "*"}, r"reduce_on_plateau watches one value by its name, such as 'val/loss', got '\*'"),
        ({"factor": 1.0}, r"reduce_on_plateau takes factor as a number from 0 to below 1, got 1\.0\."),
        ({"patience": -1}, r"reduce_on_plateau takes patience as a whole number from 0 on, got -1\."),
        ({"cooldown": 0.5}, r"reduce_on_plateau takes cooldown as a whole number from 0 on, got 0\.5\."),
        ({"threshold": NAN}, r"reduce_on_plateau takes threshold as a finite number from 0 on, got nan\."),
        ({"threshold_mode": "absolute"}, r"reduce_on_plateau takes threshold_mode as 'rel' or 'abs', got 'absolute'\."),
        ({"min_lr": -1e-9}, r"reduce_on_plateau takes min_lr as a finite number from 0 on, got -1e-09\."),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        cast("Any", reduce_on_plateau)(**{"monitor": "score", "mode": "min", **arguments})
