"""Mixed precision: PyTorch's own autocast and scaler, in the order that a hand-written loop has them."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW, Optimizer

from tests.loop.programs import Batch, batches, equal, weights
from trainhooks import (
    BatchEnd,
    Evaluation,
    GradientsReady,
    HookDict,
    LossReady,
    Objective,
    OptimizerStepped,
    RunDefinitionError,
    StepOutput,
    TrainResult,
    train,
)
from trainhooks.hooks import clip_grad_norm, lr_schedule

Precision = Literal["float32", "bf16-mixed", "fp16-mixed"]
MakeOptimizer = Callable[[nn.Module], Optimizer]

DTYPE = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def squares(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    x, y = batch
    output = cast("Tensor", model(x))
    return StepOutput(nn.functional.mse_loss(output.float(), y), weight=float(len(y)), output=output, target=y)


def sgd(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.1, momentum=0.9)


def adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), lr=0.01)


def by_hand(
    precision: str, make: MakeOptimizer, data: Sequence[Batch], *, accumulate: int = 1, clip: float | None = None
) -> list[Tensor]:
    """Weights after the loop of PyTorch's own recipe for mixed precision."""
    model = perceptron()
    optimizer = make(model)
    scaler = GradScaler("cpu", enabled=precision == "fp16-mixed")
    for index, batch in enumerate(data, start=1):
        with torch.autocast("cpu", DTYPE[precision]):
            loss = squares(model, batch).loss
        scaler.scale(loss / accumulate).backward()
        if index % accumulate == 0:
            scaler.unscale_(optimizer)
            if clip is not None:
                clip_grad_norm_(model.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    return weights(model)


def run(
    precision: Precision, data: Sequence[Batch], *hooks: Any, make: MakeOptimizer = sgd, **arguments: Any
) -> tuple[TrainResult, list[Tensor]]:
    model = perceptron()
    chosen = cast("Any", {"epochs": 1, **arguments})
    result = train(model, data, squares, make(model), hooks=list(hooks), precision=precision, **chosen)
    return result, weights(model)


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
def test_weights_are_bit_equal_to_the_recipe_written_by_hand(precision: Precision, make: MakeOptimizer) -> None:
    """Keeps P71."""
    data = batches(12)
    assert equal(run(precision, data, make=make)[1], by_hand(precision, make, data))
    assert not equal(run(precision, data, make=make)[1], run("float32", data, make=make)[1])


@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
def test_accumulation_by_a_power_of_two_and_a_clip_are_bit_equal_to_the_recipe(precision: Precision) -> None:
    """Keeps P51, P71. The clip sees gradients that are unscaled."""
    data = batches(12)
    ours = run(precision, data, clip_grad_norm(0.5), accumulate=4)[1]
    theirs = by_hand(precision, sgd, data, accumulate=4, clip=0.5)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert equal(run(precision, data, clip_grad_norm(0.5))[1], by_hand(precision, sgd, data, clip=0.5))


def test_an_fp16_update_with_a_clip_is_that_of_float32_within_its_precision() -> None:
    """Keeps P51. A clip before unscaling would bound gradients of 2 ** 16 times their size: no step to speak of."""
    data = batches(4)
    half, full = (run(precision, data, clip_grad_norm(1.0))[1] for precision in ("fp16-mixed", "float32"))
    torch.testing.assert_close(half, full, rtol=1e-2, atol=1e-2)
    twice = run("fp16-mixed", data, clip_grad_norm(1.0), clip_grad_norm(0.1))[1]
    torch.testing.assert_close(twice, run("fp16-mixed", data, clip_grad_norm(0.1))[1])


def overflowing(at: int) -> HookDict:
    """A set that makes the scaled loss of a batch, from 0, too large for a float."""

    def transform_loss(ctx: LossReady, loss: Tensor) -> Tensor:
        return loss * 1e38 if ctx.at.batches == at else loss

    return {"name": "overflowing", "transform_loss": transform_loss}


def test_an_overflow_is_no_update_for_anybody() -> None:
    """Keeps P50."""
    stepped: list[tuple[int, bool]] = []
    rates: list[float] = []
    updated: list[bool] = []

    def after(ctx: OptimizerStepped) -> None:
        stepped.append((ctx.at.updates, ctx.stepped))
        rates.append(ctx.run.optimizers[0].param_groups[0]["lr"])

    def end(ctx: BatchEnd) -> None:
        updated.append(ctx.updated)

    data = batches(5)
    hooks: HookDict = {"on_after_optimizer_step": after, "on_batch_end": end}
    result, with_overflow = run("fp16-mixed", data, overflowing(2), lr_schedule(lambda update: 0.5**update), hooks)
    assert stepped == [(1, True), (2, True), (2, False), (3, True), (4, True)]
    assert rates == [0.1, 0.05, 0.025, 0.025, 0.0125]
    assert updated == [True, True, False, True, True]
    assert result.at.updates == 4
    without = run("fp16-mixed", [*data[:2], *data[3:]], lr_schedule(lambda update: 0.5**update))[1]
    torch.testing.assert_close(with_overflow, without, rtol=1e-3, atol=1e-4)  # the scale is another


def test_after_an_overflow_the_scale_is_halved_once_for_all_optimizers() -> None:
    """Keeps P51. Each optimizer is unscaled once a window, or torch would raise."""
    model = nn.ModuleList([perceptron(), perceptron()])
    scales: list[float] = []

    def half(index: int) -> Objective:
        def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
            return squares(model.get_submodule(str(index)), batch)

        return Objective(f"half{index}", step, SGD(model[index].parameters(), 0.1))

    def note_scale(gradient: Tensor) -> None:
        scales.append(float(gradient))

    def watch(ctx: LossReady, loss: Tensor) -> Tensor:
        loss.register_hook(note_scale)
        return loss

    def first_only(ctx: LossReady, loss: Tensor) -> Tensor:
        return loss * 1e38 if ctx.at.batches == 1 and ctx.optimizer_idx == 0 else loss

    hooks: HookDict = {"transform_loss": [watch, first_only]}
    objectives = [half(0), half(1)]
    result = train(model, batches(3), None, objectives, epochs=1, hooks=hooks, precision="fp16-mixed")
    full, huge = 2.0**16, float(torch.tensor(2.0**16) * 1e38)
    assert scales == [full, full, huge, full, full / 2, full / 2]
    assert result.at.updates == 3  # the second optimizer stepped in the window in which the first overflowed


@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
def test_evaluations_compute_in_the_precision_of_the_run(precision: Precision) -> None:
    seen: list[torch.dtype] = []

    def note(output: Tensor, target: Tensor) -> float:
        seen.append(output.dtype)
        return 0.0

    run(precision, batches(2), evaluations=[Evaluation("val", batches(1), metrics={"note": note})])
    assert seen == [DTYPE[precision]]


def test_hooks_see_the_loss_before_scaling_and_final_gradients_after_unscaling() -> None:
    """Keeps P52, in one process."""
    losses: list[float] = []
    norms: list[float] = []
    reference: list[float] = []

    def end(ctx: BatchEnd) -> None:
        losses.append(float(ctx.loss))

    def ready(ctx: GradientsReady) -> None:
        assert len(ctx.gradients) == len(ctx.parameters) == 4
        norms.append(float(ctx.grad_norm))

    def ready_in_full(ctx: GradientsReady) -> None:
        reference.append(float(ctx.grad_norm))

    result, _ = run("fp16-mixed", batches(1), {"on_batch_end": end, "on_after_gradient_update": ready})
    run("float32", batches(1), {"on_after_gradient_update": ready_in_full})
    assert losses == [result.metrics["train/loss"]]
    assert losses[0] < 100
    assert norms == pytest.approx(reference, rel=1e-2)


def test_a_window_without_items_needs_no_scale() -> None:
    def weightless(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        return StepOutput(squares(model, batch).loss, weight=0.0)

    model = perceptron()
    result = train(model, batches(2), weightless, sgd(model), epochs=1, precision="fp16-mixed")
    assert result.at.updates == 0
    assert equal(weights(model), weights(perceptron()))


def test_a_device_without_autocast_and_parameters_that_are_halves_are_refused() -> None:
    model = perceptron().half()
    with pytest.raises(
        RunDefinitionError, match=r"keeps parameters in float32, but '0\.weight' is float16; give the model"
    ):
        train(model, batches(1), squares, sgd(model), epochs=1, precision="fp16-mixed")
    model = perceptron().to("meta")
    with pytest.raises(RunDefinitionError, match="needs autocast, which 'meta' does not have; write 'float32'"):
        train(model, batches(1), squares, sgd(model), epochs=1, precision="bf16-mixed")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
def test_on_cuda_the_loss_falls_in_every_precision(precision: Precision) -> None:
    model = perceptron().cuda()
    result = train(model, batches(8), squares, adamw(model), epochs=20, precision=precision)
    assert result.history[-1]["train/loss"] < result.history[0]["train/loss"]
