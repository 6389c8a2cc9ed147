"""Gradients reach their hooks final, and what a hook makes of them or of the loss must fit."""

from collections.abc import Sequence
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, equal, gradients, linear, mean_loss, sgd, squares, weights
from trainhooks import (
    AfterBackward,
    BatchEnd,
    GradientsReady,
    HookDefinitionError,
    LossReady,
    OptimizerStepped,
    SkipUpdate,
    train,
)


def test_skip_update_drops_the_window_and_says_so() -> None:
    model, stepped = linear(), list[tuple[bool, int]]()
    before = weights(model)

    def skip(ctx: GradientsReady) -> SkipUpdate:
        return SkipUpdate("no")

    def never(ctx: GradientsReady, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
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

    def halve(ctx: GradientsReady, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        assert ctx.untouched
        return [one * 0.5 for one in gradients]

    def second(ctx: GradientsReady, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        assert not ctx.untouched
        assert ctx.grad_norm is norms[-1]
        torch.testing.assert_close(torch.nn.utils.get_total_norm(gradients), norms[-1] / 2)
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

    def change(ctx: GradientsReady, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        return [one * 2 for one in gradients]

    def late(ctx: GradientsReady, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
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
        ([torch.ones(1)], r"one gradient for each of the 2 parameters, of its shape, but .* returned 1, of shapes"),
        ([torch.ones(2), torch.ones(2)], r"of shapes \[\(2,\), \(2,\)\]"),
    ],
)
def test_transformed_gradients_must_fit_the_parameters(returned: object, sentence: str) -> None:
    model = linear()

    def odd(ctx: GradientsReady, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        return cast("Sequence[Tensor]", returned)

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
