"""Gradients reach their hooks final, and what a hook makes of them or of the loss must fit."""

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, equal, gradients, linear, mean_loss, present, sgd, squares, weights
from trainhooks import (
    AfterBackward,
    BatchEnd,
    Gradients,
    GradientsReady,
    HookDefinitionError,
    HookDict,
    HookSet,
    LossReady,
    OptimizerStepped,
    SkipUpdate,
    train,
)
from trainhooks.hooks import clip_grad_norm, clip_grad_value, grad_noise


def test_skip_update_drops_the_window_and_says_so() -> None:
    model, stepped = linear(), list[tuple[bool, int]]()
    before = weights(model)

    def skip(ctx: GradientsReady) -> SkipUpdate:
        return SkipUpdate("no")

    def never(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        raise AssertionError("nothing is transformed that is dropped")

    def note(ctx: OptimizerStepped) -> None:
        stepped.append((ctx.stepped, ctx.at.updates))

    def end(ctx: BatchEnd) -> None:
        assert not ctx.updated

    result = train(
        model, batches(2), squares, sgd(model), epochs=1,
        hooks=[
            {"on_after_gradient_update": skip, "transform_gradients": never, "on_after_optimizer_step": note},
            {"on_batch_end": end},
        ],
    )  # fmt: skip
    assert stepped == [(False, 0), (False, 0)]
    assert result.at.updates == 0
    assert equal(before, weights(model))
    assert all(one.grad is None for one in model.parameters())


def test_gradients_are_final_named_and_measured_before_any_transform() -> None:
    model, norms = linear(), list[Tensor]()

    def look(ctx: GradientsReady) -> None:
        assert ctx.names == ("weight", "bias")
        assert all(one is other for one, other in zip(ctx.parameters, model.parameters(), strict=True))
        assert ctx.untouched
        norms.append(ctx.grad_norm)
        assert ctx.grad_norm is norms[-1]

    def halve(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        assert ctx.untouched
        return [one * 0.5 for one in present(gradients)]

    def second(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        assert not ctx.untouched
        assert ctx.grad_norm is norms[-1]
        torch.testing.assert_close(torch.nn.utils.get_total_norm(present(gradients)), norms[-1] / 2)
        return gradients

    train(
        model, batches(1), mean_loss, torch.optim.SGD(model.parameters(), 1.0), epochs=1,
        hooks=[{"on_after_gradient_update": look}, {"transform_gradients": [halve, second]}],
    )  # fmt: skip
    by_hand = linear()
    mean_loss(by_hand, batches(1)[0]).backward()
    expected = gradients(by_hand.parameters())
    torch.testing.assert_close(norms[0], torch.nn.utils.get_total_norm(expected))
    with torch.no_grad():
        for one, gradient in zip(by_hand.parameters(), expected, strict=True):
            one.sub_(0.5 * gradient)
    assert equal(weights(model), weights(by_hand))


def test_a_norm_that_nobody_read_before_a_transform_cannot_be_read_after_it() -> None:
    model = linear()

    def change(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        return [one * 2 for one in present(gradients)]

    def late(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        assert ctx.grad_norm is not None
        return gradients

    with pytest.raises(HookDefinitionError, match="measure the value that you were given"):
        train(
            model, batches(1), squares, sgd(model), epochs=1,
            hooks=[{"transform_gradients": change}, {"transform_gradients": late}],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "Did it forget to return the value"),
        ([torch.ones(1)], r"one gradient or None for each of the 2 parameters, of its shape, but .* returned 1,"),
        ([torch.ones(2), torch.ones(2)], r"of shapes \[\(2,\), \(2,\)\]"),
    ],
)
def test_transformed_gradients_must_fit_the_parameters(returned: object, sentence: str) -> None:
    model = linear()

    def odd(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        return cast("Gradients", returned)

    with pytest.raises(HookDefinitionError, match=sentence):
        train(model, batches(1), squares, sgd(model), epochs=1, hooks={"name": "odd", "transform_gradients": odd})


def test_a_transformed_loss_is_what_is_minimised_and_recorded() -> None:
    ours, theirs = linear(), linear()

    def double(ctx: LossReady, loss: Tensor) -> Tensor:
        assert loss.requires_grad
        return loss * 2

    after: list[float] = []

    def note(ctx: AfterBackward) -> None:
        assert not ctx.loss.requires_grad
        after.append(ctx.loss.item())

    def twice(model: nn.Module, batch: Batch) -> Tensor:
        return mean_loss(model, batch) * 2

    one = train(
        ours, batches(3), mean_loss, sgd(ours), epochs=1, hooks={"transform_loss": double, "on_after_backward": note}
    )
    other = train(theirs, batches(3), twice, sgd(theirs), epochs=1)
    assert equal(weights(ours), weights(theirs))
    assert one.metrics == other.metrics
    assert sum(after) / 3 == pytest.approx(one.metrics["train/loss"])


def bias_alone(model: nn.Module, update: int) -> None:
    """Leave the weight out of one update, as a hook that freezes it for a while."""
    if update == 1:
        model.get_parameter("weight").grad = None


@pytest.mark.parametrize("clip", [clip_grad_norm(0.1), clip_grad_value(0.01), grad_noise(1e-3)], ids=repr)
def test_a_gradient_that_a_hook_sets_to_none_stays_so_through_every_transform(clip: HookSet) -> None:
    model, seen = linear(), list[list[bool]]()

    def leave_out(ctx: GradientsReady) -> None:
        bias_alone(ctx.run.model, ctx.at.updates)

    def look(ctx: GradientsReady, given: Gradients) -> Gradients:
        seen.append([one is None for one in given])
        assert ctx.names == ("weight", "bias")
        return list(given)

    kept: list[Tensor] = []
    train(
        model, batches(3), squares, torch.optim.SGD(model.parameters(), 0.1), epochs=1, seed=0,
        hooks=[
            {"on_after_gradient_update": leave_out, "transform_gradients": look}, clip,
            {"on_batch_end": lambda ctx: kept.append(model.weight.detach().clone())},
        ],
    )  # fmt: skip
    assert seen == [[False, False], [True, False], [False, False]]
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[1], kept[2])


def test_a_clip_measures_what_hooks_left_of_the_gradients_also_if_the_norm_was_read_before() -> None:
    """One hook sets a gradient to None, one puts another in its place, one scales it in place."""

    def drop(ctx: GradientsReady) -> None:
        ctx.parameters[0].grad = None

    def put(ctx: GradientsReady) -> None:
        ctx.parameters[0].grad = torch.full_like(ctx.gradients[0], 3.0)

    def scale(ctx: GradientsReady) -> None:
        ctx.gradients[0].mul_(50.0)

    def read(ctx: GradientsReady) -> None:
        assert float(ctx.grad_norm) > 0.0

    for change in (drop, put, scale):
        ours, theirs = linear(), linear()
        train(
            ours, batches(1), squares, torch.optim.SGD(ours.parameters(), 0.1), epochs=1,
            hooks=[{"on_after_gradient_update": [read, change]}, clip_grad_norm(0.05)],
        )  # fmt: skip
        squares(theirs, batches(1)[0]).loss.backward()
        for one in theirs.parameters():
            assert one.grad is not None
        first = theirs.weight.grad
        assert first is not None
        theirs.weight.grad = {"drop": None, "put": torch.full_like(first, 3.0), "scale": first * 50}[change.__name__]
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.05)
        torch.optim.SGD(theirs.parameters(), 0.1).step()
        assert equal(weights(ours), weights(theirs)), change.__name__


def test_a_transform_that_gives_none_leaves_that_parameter_alone() -> None:
    model = linear()
    before = weights(model)

    def drop(ctx: GradientsReady, given: Gradients) -> Gradients:
        return [None, given[1]]

    train(model, batches(2), squares, sgd(model), epochs=1, hooks={"transform_gradients": drop})
    assert torch.equal(before[0], model.weight)
    assert not torch.equal(before[1], model.bias)


def test_a_transform_gives_gradients_of_the_type_that_it_was_given() -> None:
    def widen(ctx: GradientsReady, given: Gradients) -> Gradients:
        return [None if one is None else one.double() for one in given]

    model = linear()
    hooks: HookDict = {"name": "wide", "transform_gradients": widen}
    with pytest.raises(HookDefinitionError, match=r"'wide' returned one of torch\.float64 on cpu for .*float32"):
        train(model, batches(1), squares, sgd(model), epochs=1, hooks=hooks)


def test_a_transform_may_give_a_gradient_where_there_is_none_and_its_shape_is_looked_at() -> None:
    def drop(ctx: GradientsReady) -> None:
        ctx.parameters[0].grad = None

    def give(shape: tuple[int, ...]) -> None:
        def put(ctx: GradientsReady, given: Gradients) -> Gradients:
            return [torch.ones(shape), given[1]]

        hooks: HookDict = {"on_after_gradient_update": drop, "transform_gradients": put}
        train(model, batches(1), squares, torch.optim.SGD(model.parameters(), 1.0), epochs=1, hooks=hooks)

    model = linear()
    before = weights(model)[0]
    give((2, 3))
    torch.testing.assert_close(model.weight.detach(), before - 1)
    with pytest.raises(HookDefinitionError, match=r"or None .* returned 2, of shapes \[\(3, 2\), \(2,\)\]"):
        give((3, 2))
