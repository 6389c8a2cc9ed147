"""Values follow the update count, and the monitor records the rates that updates were made with."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from tests.hooks.windows import skips_update, two_groups, two_objectives
from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import HookDict, HookSet, LossReady, MissingValueError, Objective, Recorded, Run, train
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks import early_stopping, lr_monitor, lr_schedule, value_schedule


def halves(update: int) -> float:
    return 0.5**update


def test_a_value_follows_the_count_from_the_first_update_on() -> None:
    model = linear()
    optimizer = sgd(model)
    seen: list[float] = []

    def set_momentum(run: Run, momentum: float) -> None:
        run.optimizers[0].param_groups[0]["momentum"] = momentum

    def note(ctx: LossReady, loss: Tensor) -> Tensor:
        seen.append(optimizer.param_groups[0]["momentum"])
        return loss

    hooks: list[HookSet | HookDict] = [value_schedule(set_momentum, halves), skips_update(2), {"transform_loss": note}]
    train(model, batches(7), squares, optimizer, epochs=1, accumulate=2, hooks=hooks)
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25]  # the third window of two is dropped, the last is short
    assert optimizer.param_groups[0]["momentum"] == 0.125


def test_a_value_changes_after_all_optimizers_had_their_turn() -> None:
    model = nn.ModuleList([linear(0), linear(1)])
    dropout = nn.Dropout(0.9)
    seen: list[tuple[int, float]] = []

    def set_dropout(run: Run, p: float) -> None:
        dropout.p = p

    def note(ctx: LossReady, loss: Tensor) -> Tensor:
        seen.append((ctx.optimizer_idx, dropout.p))
        return loss

    hooks: list[HookSet | HookDict] = [
        value_schedule(set_dropout, halves),
        skips_update(1, optimizer_idx=1),
        {"transform_loss": note},
    ]
    train(model, batches(3), None, two_objectives(model), epochs=1, hooks=hooks)
    assert seen == [(0, 1.0), (1, 1.0), (0, 0.5), (1, 0.5), (0, 0.25), (1, 0.25)]
    assert dropout.p == 0.125


def rates_recorded(*hooks: HookSet | HookDict, parts: Callable[[nn.ModuleList], list[Objective]]) -> list[Recorded]:
    model = nn.ModuleList([linear(0), linear(1)])
    records: list[Recorded] = []

    def note(ctx: Recorded) -> None:
        if ctx.by == "lr_monitor":
            records.append(ctx)

    train(model, batches(3), None, parts(model), epochs=1, hooks=[*hooks, {"on_record": note}])
    return records


@pytest.mark.parametrize("hooks", [[lr_schedule(halves), lr_monitor()], [lr_monitor(), lr_schedule(halves)]])
def test_the_monitor_records_the_rate_that_an_update_was_made_with(hooks: list[HookSet]) -> None:
    def one(model: nn.ModuleList) -> list[Objective]:
        part = two_objectives(model)[0]
        return [Objective(part.name, part.step, two_groups(model[0]))]

    records = rates_recorded(*hooks, skips_update(1), parts=one)
    assert [(record.at.updates, record.values) for record in records] == [
        (1, {"lr/0": 0.1, "lr/1": 0.4}),
        (2, {"lr/0": 0.05, "lr/1": 0.2}),
    ]
    assert [record.at.batch for record in records] == [0, 2]


def test_with_several_optimizers_the_names_say_which() -> None:
    records = rates_recorded(lr_schedule(halves), lr_monitor(), skips_update(1), parts=two_objectives)
    assert [(record.at.updates, record.values) for record in records] == [
        (1, {"lr/0/0": 0.1}),
        (1, {"lr/1/0": 0.2}),
        (2, {"lr/1/0": 0.1}),  # the first optimizer's second update was dropped
        (3, {"lr/0/0": 0.025}),
        (3, {"lr/1/0": 0.05}),
    ]


def test_a_rate_that_is_a_tensor_is_recorded_as_it_was() -> None:
    def one(model: nn.ModuleList) -> list[Objective]:
        part = two_objectives(model)[0]
        return [Objective(part.name, part.step, SGD(model[0].parameters(), torch.tensor(0.5)))]

    records = rates_recorded(lr_monitor(), lr_schedule(halves), parts=one)
    assert [record.values["lr/0"] for record in records] == [0.5, 0.25, 0.125]


def test_what_the_sets_write_is_declared() -> None:
    def nothing(run: Run, value: float) -> None: ...

    assert value_schedule(nothing, halves).writes == {"optimizer"}
    assert lr_monitor().writes == frozenset()


def test_a_value_without_a_function_is_refused() -> None:
    sentence = r"value_schedule takes value_of_update as a function, got 0\.5; write value_schedule\(set_value, "
    with pytest.raises(HookDefinitionError, match=sentence):
        value_schedule(lambda run, value: None, cast("Any", 0.5))
    with pytest.raises(HookDefinitionError, match="value_schedule takes set_value as a function, got 'momentum'"):
        value_schedule(cast("Any", "momentum"), halves)


def test_a_reader_of_a_rate_is_refused_for_the_names_are_known_too_late() -> None:
    model = linear()
    with pytest.raises(MissingValueError, match="'early_stopping' reads 'lr/0'"):
        train(
            model, batches(1), squares, sgd(model), epochs=1, hooks=[lr_monitor(), early_stopping("lr/0", mode="min")]
        )
