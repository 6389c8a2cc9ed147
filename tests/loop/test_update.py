"""The arithmetic of an update, against loops written by hand."""

import itertools
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, equal, gradients, linear, mean_loss, sgd, squares, weights
from trainhooks import (
    BatchEnd,
    GradientsReady,
    Objective,
    OptimizerStepped,
    RunDefinitionError,
    StepOutput,
    train,
)


@given(accumulate=st.integers(1, 8), count=st.integers(1, 17), epochs=st.integers(1, 2))
def test_accumulation_is_the_gradient_of_the_mean_over_the_window(accumulate: int, count: int, epochs: int) -> None:
    """Keeps P71. To the bit `(loss / k).backward()`; a short last window is then multiplied by its own length."""
    ours, theirs = linear(), linear()
    train(ours, batches(count), mean_loss, sgd(ours), epochs=epochs, accumulate=accumulate)
    optimizer = sgd(theirs)
    for _ in range(epochs):
        data = batches(count)
        for start in range(0, count, accumulate):
            window = data[start : start + accumulate]
            optimizer.zero_grad()
            for batch in window:
                (mean_loss(theirs, batch) / accumulate).backward()
            for gradient in gradients(theirs.parameters()):
                gradient.mul_(accumulate / len(window))
            optimizer.step()
    assert equal(weights(ours), weights(theirs))


@pytest.mark.parametrize("max_updates", [None, 2])
def test_a_short_last_window_is_normalised_by_its_own_weight_and_leaves_no_gradient(max_updates: int | None) -> None:
    """Keeps P48."""
    ours, theirs = linear(), linear()
    result = train(ours, batches(7), mean_loss, sgd(ours), epochs=1, max_updates=max_updates, accumulate=4)
    assert (result.at.updates, result.at.batches) == (2, 7)
    assert all(one.grad is None for one in ours.parameters())
    optimizer = sgd(theirs)
    for window in (batches(7)[:4], batches(7)[4:]):
        optimizer.zero_grad()
        torch.stack([mean_loss(theirs, batch) for batch in window]).mean().backward()
        optimizer.step()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-6, atol=1e-6)


def test_a_run_that_is_full_ends_after_a_whole_window() -> None:
    """Keeps P48."""
    ours, theirs = linear(), linear()
    result = train(ours, batches(7), mean_loss, sgd(ours), max_updates=1, accumulate=4)
    assert (result.at.updates, result.at.batches, result.at.epochs) == (1, 4, 0)
    assert all(one.grad is None for one in ours.parameters())
    train(theirs, batches(7)[:4], mean_loss, sgd(theirs), epochs=1, accumulate=4)
    assert equal(weights(ours), weights(theirs))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_batches_of_unequal_size_weigh_by_their_items(as_tensor: bool) -> None:
    """Keeps P71. One batch of 10 equals batches of 1, 2, 3 and 4 in one window."""
    whole = batches(1, size=10)[0]
    xs, ys = ([one[start:end] for start, end in ((0, 1), (1, 3), (3, 6), (6, 10))] for one in whole)
    parts = list(zip(xs, ys, strict=True))

    def weighed(model: nn.Module, batch: Batch) -> StepOutput[None]:
        loss, size = mean_loss(model, batch), len(batch[1])
        return StepOutput(loss, weight=torch.tensor(float(size)) if as_tensor else float(size))

    ours, theirs = linear(), linear()
    result = train(ours, parts, weighed, sgd(ours), epochs=1, accumulate=4)
    one = train(theirs, [whole], mean_loss, sgd(theirs), epochs=1)
    for part, other in zip(weights(ours), weights(theirs), strict=True):
        torch.testing.assert_close(part, other, rtol=1e-6, atol=1e-6)
    assert result.metrics["train/loss"] == pytest.approx(one.metrics["train/loss"])


def test_a_batch_without_items_adds_nothing_and_a_window_without_items_is_no_update() -> None:
    model, stepped, data = linear(), list[bool](), batches(4)

    def half(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(mean_loss(model, batch) * float("nan"), weight=0.0)

    def second_half(model: nn.Module, batch: Batch) -> StepOutput[None]:
        index = next(i for i, one in enumerate(data) if one is batch)
        return half(model, batch) if index < 3 else StepOutput(mean_loss(model, batch), weight=4.0)

    def note(ctx: OptimizerStepped) -> None:
        stepped.append(ctx.stepped)

    result = train(
        model, data, second_half, sgd(model), epochs=1, accumulate=2, hooks={"on_after_optimizer_step": note}
    )
    other = linear()
    one = train(other, data[3:], mean_loss, sgd(other), epochs=1)
    assert stepped == [False, True]
    assert result.at.updates == 1
    assert equal(weights(model), weights(other))
    assert result.metrics["train/loss"] == one.metrics["train/loss"]


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0])
def test_a_weight_that_counts_nothing_is_refused_before_the_step(weight: float) -> None:
    model = linear()
    before = weights(model)

    def odd(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(mean_loss(model, batch), weight=weight)

    with pytest.raises(RunDefinitionError, match=r"'.*odd' gave its loss the weight .*; a weight counts items"):
        train(model, batches(1), odd, sgd(model), epochs=1)
    assert equal(before, weights(model))


def test_weights_of_two_kinds_in_one_window_are_refused() -> None:
    model, kinds = linear(), iter((1.0, torch.ones(())))

    def odd(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(mean_loss(model, batch), weight=next(kinds))

    with pytest.raises(RunDefinitionError, match="some weights of a window as numbers and some as tensors"):
        train(model, batches(2), odd, sgd(model), epochs=1, accumulate=2)


def two_heads() -> nn.ModuleDict:
    return nn.ModuleDict({"a": linear(1), "b": linear(2)})


def head(name: str, scale: float) -> Objective:
    def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        heads = cast("nn.ModuleDict", model)
        output = cast("Tensor", heads[name](batch[0]))
        return StepOutput(nn.functional.mse_loss(output, batch[1]) * scale, weight=4.0, output=output)

    return Objective(name, step, lambda model: torch.optim.SGD(cast("nn.ModuleDict", model)[name].parameters(), 0.1))


def test_two_objectives_share_one_count_of_updates() -> None:
    """Keeps P53, P71."""
    model, seen = two_heads(), list[tuple[int, int, int, bool]]()

    def stepped(ctx: OptimizerStepped) -> None:
        seen.append((ctx.optimizer_idx, ctx.at.updates, ctx.at.batches, ctx.stepped))

    losses: list[set[str]] = []

    def end(ctx: BatchEnd) -> None:
        losses.append(set(ctx.losses))
        assert ctx.loss.equal(ctx.losses["b"])

    result = train(
        model, batches(8), None, [head("a", 1.0), head("b", 2.0)], epochs=1, accumulate=4,
        hooks=[{"on_after_optimizer_step": stepped}, {"on_batch_end": end}],
    )  # fmt: skip
    assert (result.at.batches, result.at.updates) == (8, 2)
    assert seen == [(0, 1, 3, True), (1, 1, 3, True), (0, 2, 7, True), (1, 2, 7, True)]
    assert losses == [{"a", "b"}] * 8
    assert set(result.metrics) == {"train/loss/a", "train/loss/b"}
    assert result.metrics["train/loss/b"] != result.metrics["train/loss/a"]
    by_hand = two_heads()
    for name, scale in (("a", 1.0), ("b", 2.0)):
        optimizer = torch.optim.SGD(by_hand[name].parameters(), 0.1)
        for start in (0, 4):
            for x, y in batches(8)[start : start + 4]:
                (nn.functional.mse_loss(by_hand[name](x), y) * scale / 4).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert equal(weights(model), weights(by_hand))


def test_the_names_are_those_of_the_parameters_that_have_a_gradient_in_this_update() -> None:
    model, turns, seen = two_heads(), iter("abba"), list[tuple[str, ...]]()

    def of_one_head(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        return squares(model.get_submodule(next(turns)), batch)

    def note(ctx: GradientsReady) -> None:
        named = dict(model.named_parameters())
        assert all(named[name] is one for name, one in zip(ctx.names, ctx.parameters, strict=True))
        seen.append(ctx.names)
        model["a"].bias.requires_grad_(ctx.at.updates < 1)  # frozen before the fourth update

    train(model, batches(4), of_one_head, sgd(model), epochs=1, hooks={"on_after_gradient_update": note})
    assert seen == [("a.weight", "a.bias"), ("b.weight", "b.bias"), ("b.weight", "b.bias"), ("a.weight",)]


def test_the_epochs_loss_is_the_mean_over_items_and_so_are_the_steps_values() -> None:
    """Keeps P71."""
    model = linear()
    data = [*batches(2, size=8), *batches(1, size=2, seed=9)]

    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        size = len(batch[1])
        return StepOutput(mean_loss(model, batch), weight=float(size), values={"size": float(size)})

    frozen = torch.optim.SGD(model.parameters(), 0.0)
    result = train(model, data, step, frozen, epochs=1)
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    assert result.metrics["train/loss"] == pytest.approx(mean_loss(model, (x, y)).item())
    assert result.metrics["train/size"] == pytest.approx((8 * 8 * 2 + 2 * 2) / 18)


def test_gradients_that_somebody_left_are_not_part_of_the_first_update() -> None:
    ours, theirs = linear(), linear()
    mean_loss(ours, batches(1, seed=5)[0]).backward()
    train(ours, batches(2), mean_loss, sgd(ours), epochs=1)
    train(theirs, batches(2), mean_loss, sgd(theirs), epochs=1)
    assert equal(weights(ours), weights(theirs))


def test_with_objectives_parameters_can_be_frozen_and_let_go_within_a_run() -> None:
    """Keeps P72. While all parameters of an objective are frozen, its backward goes to nobody."""
    model = nn.ModuleList([linear(0), linear(1)])

    def part(index: int) -> Objective:
        def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
            both = squares(model.get_submodule("0"), batch).loss + squares(model.get_submodule("1"), batch).loss
            return StepOutput(both, weight=float(len(batch[1])))

        return Objective(f"part{index}", step, torch.optim.SGD(model[index].parameters(), 0.1))

    seen: list[list[Tensor]] = []

    def switch(ctx: BatchEnd) -> None:
        seen.append(weights(model))
        model[1].requires_grad_(ctx.at.batches == 2)

    model[1].requires_grad_(False)
    train(model, batches(4), None, [part(0), part(1)], epochs=1, hooks={"on_batch_end": switch})
    frozen, trained = weights(linear(1)), [one[2:] for one in seen]
    assert equal(trained[0], frozen)
    assert equal(trained[1], frozen)
    assert not equal(trained[2], frozen)
    assert equal(trained[3], trained[2])
    assert all(not equal(one[:2], other[:2]) for one, other in itertools.pairwise(seen))
