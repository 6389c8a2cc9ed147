"""A step that does the loop's work, and an optimizer that has no part in its loss, show in the first window."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from tests.loop.programs import Batch, batches, equal, linear, mean_loss, sgd, squares, weights
from trainhooks import (
    BatchEnd,
    EpochBegin,
    GradientsReady,
    HookDefinitionError,
    HookDict,
    LossReady,
    Objective,
    SkipUpdate,
    lr_finder,
    train,
)

Habit: TypeAlias = Callable[[Optimizer, Tensor], object]
Precision: TypeAlias = Literal["float32", "fp16-mixed"]


def all_of_it(optimizer: Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    optimizer.step()


def back_and_step(optimizer: Optimizer, loss: Tensor) -> None:
    loss.backward()
    optimizer.step()


def step_alone(optimizer: Optimizer, loss: Tensor) -> None:
    optimizer.step()


def back(optimizer: Optimizer, loss: Tensor) -> None:
    loss.backward()


def back_twice(optimizer: Optimizer, loss: Tensor) -> None:
    loss.backward(retain_graph=True)


def zero(optimizer: Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()


class Mine(Optimizer):
    """An optimizer of somebody else's."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for one in group["params"]:
                if one.grad is not None:
                    one.add_(one.grad, alpha=-group["lr"])


OPTIMIZERS: Final[Mapping[str, Callable[[nn.Module], Optimizer]]] = {
    "sgd": sgd,
    "adamw": lambda model: AdamW(model.parameters(), 0.01),
    "mine": lambda model: Mine(model.parameters()),
}


def run(habit: Habit, optimizer: Optimizer, model: nn.Module, **arguments: Any) -> None:
    def step(model: nn.Module, batch: Batch) -> Tensor:
        loss = mean_loss(model, batch)
        habit(optimizer, loss)
        return loss

    train(model, batches(6), step, optimizer, epochs=1, **arguments)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("habit", [all_of_it, back_and_step, step_alone])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_steps_the_optimizer_is_refused_before_it_does(
    make: Callable[[nn.Module], Optimizer], habit: Habit, accumulate: int
) -> None:
    model = linear()
    before = weights(model)
    with pytest.raises(HookDefinitionError, match=r"stepped by somebody else.* 'run\.<locals>\.step'.* only returns"):
        run(habit, make(model), model, accumulate=accumulate)
    assert equal(weights(model), before)


def test_a_hook_that_steps_an_optimizer_of_the_run_is_refused_also_under_a_schedulers_wrapper() -> None:
    model = linear()
    optimizer = sgd(model)
    StepLR(optimizer, 1)

    def meddle(ctx: BatchEnd) -> None:
        ctx.run.optimizers[0].step()

    with pytest.raises(HookDefinitionError, match="stepped by somebody else"):
        train(
            model, batches(3), mean_loss, optimizer, epochs=1, accumulate=2, hooks={"on_batch_end": meddle}
        )


@pytest.mark.parametrize("specialised", [True, False])
def test_the_first_window_is_watched_to_its_end(specialised: bool) -> None:
    """Also after the optimizer's own step: in hooks, and in the steps of other objectives."""
    model = nn.ModuleDict({"a": linear(0), "b": linear(1)})
    ours, theirs = SGD(model["a"].parameters(), 0.1), SGD(model["b"].parameters(), 0.1)

    def first(model: nn.Module, batch: Batch) -> Tensor:
        return mean_loss(model.get_submodule("a"), batch)

    def second(model: nn.Module, batch: Batch) -> Tensor:
        first(model, batch).backward()
        ours.step()
        return mean_loss(model.get_submodule("b"), batch)

    def meddle(ctx: BatchEnd) -> None:
        ctx.run.optimizers[0].step()

    objectives = [Objective("a", first, ours), Objective("b", second, theirs)]
    with pytest.raises(HookDefinitionError, match=r"stepped by somebody else.* another objective"):
        train(model, batches(3), None, objectives, epochs=1, specialised=specialised)
    with pytest.raises(HookDefinitionError, match=r"stepped by somebody else.* or in a hook") as raised:
        train(model, batches(3), first, ours, epochs=1, hooks={"on_batch_end": meddle}, specialised=specialised)
    assert "on_batch_end" in raised.value.__notes__[0]
    ours.step()


def test_a_run_within_a_hook_steps_the_optimizer_that_it_was_given() -> None:
    model, found = linear(), list[int]()
    optimizer = sgd(model)

    def search(ctx: EpochBegin) -> None:
        found.append(len(lr_finder(ctx.run.model, batches(2), mean_loss, ctx.run.optimizers[0], updates=4).rates))

    def inner(ctx: BatchEnd) -> None:
        found.append(train(ctx.run.model, batches(1), mean_loss, ctx.run.optimizers[0], epochs=1).at.updates)

    hooks: HookDict = {"on_epoch_begin": search, "on_batch_end": inner}
    assert train(model, batches(2), mean_loss, optimizer, epochs=1, hooks=hooks).at.updates == 2
    assert found == [4, 1, 1]


def test_afterwards_the_optimizer_is_everybodys_again() -> None:
    """Also if no update was made, and after an exception."""
    model = linear()
    optimizer = sgd(model)

    def skip(ctx: GradientsReady) -> SkipUpdate:
        return SkipUpdate("no")

    def fail(ctx: LossReady, loss: Tensor) -> Tensor:
        raise ValueError("no")

    skipping: HookDict = {"on_after_gradient_update": skip}
    train(model, batches(2), mean_loss, optimizer, epochs=1, hooks=skipping)
    optimizer.step()
    with pytest.raises(ValueError, match="no"):
        train(model, batches(2), mean_loss, optimizer, epochs=1, hooks={"transform_loss": fail})
    optimizer.step()
    train(model, batches(2), mean_loss, optimizer, epochs=1)
    optimizer.step()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_back_propagates_its_loss_is_told_what_to_write(accumulate: int) -> None:
    model = linear()
    with pytest.raises(HookDefinitionError, match=r"Either the step calls loss\.backward\(\) itself, or .* detach\(\)"):
        run(back, sgd(model), model, accumulate=accumulate)


@pytest.mark.parametrize(("accumulate", "precision"), [(1, "float32"), (3, "float32"), (3, "fp16-mixed")])
def test_gradients_that_would_count_twice_are_refused(accumulate: int, precision: Precision) -> None:
    model = linear()
    with pytest.raises(HookDefinitionError, match="its loss itself, so its gradients would count twice"):
        run(back_twice, sgd(model), model, accumulate=accumulate, precision=precision)


def test_another_loss_that_the_step_back_propagates_in_parts_is_its_own_matter() -> None:
    ours, theirs = linear(), linear()

    def chunks(model: nn.Module, batch: Batch) -> Tensor:
        (mean_loss(model, (batch[0][:2], batch[1][:2])) / 2).backward()
        return mean_loss(model, (batch[0][2:], batch[1][2:])) / 2

    train(ours, batches(3), chunks, sgd(ours), epochs=1)
    train(theirs, batches(3), mean_loss, sgd(theirs), epochs=1)
    torch.testing.assert_close(weights(ours), weights(theirs))


def test_zero_grad_in_the_step_is_refused_where_it_drops_what_a_window_accumulated() -> None:
    model, other = linear(), linear()
    with pytest.raises(HookDefinitionError, match=r"call zero_grad\(\)\?"):
        run(zero, sgd(model), model, accumulate=2)
    model = linear()
    run(zero, sgd(model), model)  # nothing is lost
    train(other, batches(6), mean_loss, sgd(other), epochs=1)
    assert equal(weights(model), weights(other))


def test_an_optimizer_that_gets_no_gradient_is_named() -> None:
    model = nn.ModuleList([linear(0), linear(1)])

    def step(model: nn.Module, batch: Batch) -> Tensor:
        return mean_loss(model.get_submodule("0"), batch)

    objectives = [Objective(name, step, SGD(model[index].parameters(), 0.1)) for index, name in enumerate("ab")]
    # Restricted to parameters that it does not reach, torch's backward does nothing.
    with pytest.warns(RuntimeWarning, match=r"None of the parameters of the SGD of 'b' got a gradient in its first"):
        result = train(model, batches(2), None, objectives, epochs=1)
    assert result.at.updates == 2


class Net(nn.Module):
    """Two layers, behind a checkpoint unless `reentrant` is None, and one before and after it."""

    def __init__(self, reentrant: bool | None, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.ones(3))
        self.reentrant = reentrant

    def body(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(x)))
        return out * self.scale

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale  # is used within and outside
        if self.reentrant is not None:
            x = cast("Tensor", checkpoint(self.body, x, use_reentrant=self.reentrant))
        else:
            x = self.body(x)
        out: Tensor = self.last(x)
        return out


def trained(reentrant: bool | None, accumulate: int, precision: Precision) -> tuple[list[Tensor], int]:
    model = nn.ModuleDict({"a": Net(reentrant, 0), "b": Net(reentrant, 1)})

    def both(model: nn.Module, batch: Batch) -> Tensor:
        return mean_loss(model.get_submodule("a"), batch) + mean_loss(model.get_submodule("b"), batch)

    objectives = [Objective(name, both, AdamW(model[name].parameters(), 0.01)) for name in ("a", "b")]
    result = train(model, batches(6), None, objectives, epochs=1, accumulate=accumulate, precision=precision)
    return weights(model), result.at.updates


@pytest.mark.parametrize("precision", ["float32", "fp16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("reentrant", [True, False])
def test_objectives_train_what_is_behind_a_checkpoint(reentrant: bool, accumulate: int, precision: Precision) -> None:
    """Keeps P72. Each alone, although both losses depend on all parameters."""
    ours, theirs = (trained(which, accumulate, precision) for which in (reentrant, None))
    assert ours[1] == theirs[1] > 0
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert not any(map(torch.equal, ours[0], weights(nn.ModuleList([Net(None, 0), Net(None, 1)]))))


def test_a_run_without_other_habits_is_soon_stepped_without_any_hook() -> None:
    model, seen = linear(), list[int]()
    optimizer = sgd(model)

    def look(ctx: BatchEnd) -> None:
        seen.append(len(cast("Any", optimizer)._optimizer_step_pre_hooks))

    train(model, batches(3), squares, optimizer, epochs=1, hooks={"on_batch_end": look})
    assert seen == [1, 0, 0]  # others are watched for one more window
