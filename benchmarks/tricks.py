"""What a hand-written loop can leave out of a step, one trick on top of the other, every bit of the weights kept.

One rung leaves out all that trainhooks leaves out, and does nothing else: it trains wrongly where somebody listens to
the optimizer, say. The last one asks first whether anybody does, and sums and counts, all in one function.
"""

# pyright: reportPrivateUsage=false

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from trainhooks import StepOutput
from trainhooks.loop.kernels import kernel_step
from trainhooks.loop.quick import bare_step

from .counting import instructions_a_step
from .programs import Batch, Program, bare, batches, by_hand, by_trainhooks, table_of

ALL_TRICKS: Final = "and the optimizer's kernels called one by one"
GUARDED: Final = "all that, made safe, with the mean of the loss and counts"
_C: Final[Any] = torch._C
_profiler_enabled: Final[Any] = _C._autograd._profiler_enabled
_run_backward: Final[Any] = torch.autograd.Variable._execution_engine.run_backward


def ladder(data: Sequence[Batch], optimizer: str) -> Mapping[str, Program]:
    """The rungs, each with what it adds to the one before."""
    last = _sgd if optimizer == "SGD" else _adamw
    return {
        "gradients set to None from the optimizer's lists": lambda model, one: _setting_none(data, model, one),
        "and the step without its decorations": lambda model, one: _undecorated(data, model, one),
        "and the engine called with a ready unit": lambda model, one: _by_the_engine(data, model, one),
        ALL_TRICKS: lambda model, one: last(data, model, one),
        GUARDED: lambda model, one: _guarded(data, model, one),
    }


def instructions_of_loops() -> Mapping[str, Mapping[str, float]]:
    """Instructions of a step of SGD without hooks: by hand, by hand with the tricks, and by trainhooks."""
    return {
        "by hand": instructions_a_step(lambda count: by_hand(batches(count), (), ())),
        "all the tricks": instructions_a_step(lambda count: ladder(batches(count), "SGD")[ALL_TRICKS]),
        "guarded": instructions_a_step(lambda count: ladder(batches(count), "SGD")[GUARDED]),
        "ours": instructions_a_step(lambda count: by_trainhooks(batches(count), bare, table_of((), ()))),
    }


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [one for group in optimizer.param_groups for one in group["params"]]


def _setting_none(data: Sequence[Batch], model: nn.Module, optimizer: Optimizer) -> None:
    parameters = _parameters(optimizer)
    for x, y in data:
        for parameter in parameters:
            parameter.grad = None
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()


def _undecorated(data: Sequence[Batch], model: nn.Module, optimizer: Optimizer) -> None:
    parameters = _parameters(optimizer)
    step = cast("Any", type(optimizer).step).__wrapped__.__wrapped__
    for x, y in data:
        for parameter in parameters:
            parameter.grad = None
        loss = F.mse_loss(model(x), y)
        loss.backward()
        _C._set_grad_enabled(False)
        step(optimizer)
        _C._set_grad_enabled(True)


def _by_the_engine(data: Sequence[Batch], model: nn.Module, optimizer: Optimizer) -> None:
    parameters, unit = _parameters(optimizer), torch.ones(())
    step = cast("Any", type(optimizer).step).__wrapped__.__wrapped__
    for x, y in data:
        for parameter in parameters:
            parameter.grad = None
        loss = F.mse_loss(model(x), y)
        _run_backward((loss,), (unit,), False, False, (), allow_unreachable=True, accumulate_grad=True)
        _C._set_grad_enabled(False)
        step(optimizer)
        _C._set_grad_enabled(True)


def _guarded(data: Sequence[Batch], model: nn.Module, optimizer: Optimizer) -> tuple[int, int]:
    unit, products, weights = torch.ones(()), list[float](), list[float]()
    kernels, plain, asked = kernel_step(optimizer), bare_step(optimizer), optimizer.__dict__
    assert kernels is not None
    assert plain is not None
    first, place, left, log = 1.0, (0, 0), len(data), logging.getLogger("torch.autograd.graph")
    for batch in data:
        left -= 1
        if type(batch) is not tuple or not (batch[0].is_cpu and batch[1].is_cpu):
            raise TypeError
        x, y = batch
        output = StepOutput(F.mse_loss(model(x), y))
        loss, weight = output.loss, output.weight
        if type(weight) is not float or not 0.0 < weight < math.inf or weight != first:
            raise TypeError
        if (
            type(loss) is not Tensor or loss.dtype is not torch.float32 or not loss.is_cpu or loss.shape
            or not loss.requires_grad or unit._version != 0 or _C._len_torch_function_stack()
            or _C._are_functorch_transforms_active() or log.isEnabledFor(logging.DEBUG)
        ):  # fmt: skip
            raise TypeError
        _run_backward((loss,), (unit,), False, False, (), allow_unreachable=True, accumulate_grad=True)
        products.append(loss.item() * weight)
        weights.append(weight)
        if (
            "step" in asked or "zero_grad" in asked or _profiler_enabled()
            or asked["_optimizer_step_pre_hooks"] or asked["_optimizer_step_post_hooks"]
            or _global_optimizer_pre_hooks or _global_optimizer_post_hooks
        ):  # fmt: skip
            raise TypeError
        enabled = torch.is_grad_enabled()
        _C._set_grad_enabled(False)
        if not kernels(optimizer):
            plain(optimizer)
        _C._set_grad_enabled(enabled)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        place = place[0] + 1, left
    return place


def _sgd(data: Sequence[Batch], model: nn.Module, optimizer: Optimizer) -> None:
    parameters, unit = _parameters(optimizer), torch.ones(())
    group = optimizer.param_groups[0]
    for x, y in data:
        for parameter in parameters:
            parameter.grad = None
        loss = F.mse_loss(model(x), y)
        _run_backward((loss,), (unit,), False, False, (), allow_unreachable=True, accumulate_grad=True)
        _C._set_grad_enabled(False)
        rate = -group["lr"]
        for parameter in parameters:
            parameter.add_(cast("Tensor", parameter.grad), alpha=rate)
        _C._set_grad_enabled(True)


def _adamw(data: Sequence[Batch], model: nn.Module, optimizer: Optimizer) -> None:
    parameters, unit = _parameters(optimizer), torch.ones(())
    group = optimizer.param_groups[0]
    kept = [(one, torch.zeros_like(one), torch.zeros_like(one), torch.tensor(0.0)) for one in parameters]
    for x, y in data:
        for parameter in parameters:
            parameter.grad = None
        loss = F.mse_loss(model(x), y)
        _run_backward((loss,), (unit,), False, False, (), allow_unreachable=True, accumulate_grad=True)
        _C._set_grad_enabled(False)
        (beta1, beta2), rate, decay, epsilon = group["betas"], group["lr"], group["weight_decay"], group["eps"]
        for parameter, average, square, count in kept:
            gradient = cast("Tensor", parameter.grad)
            count += 1  # noqa: PLW2901  # in place
            parameter.mul_(1 - rate * decay)
            average.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            steps = count.item()
            root = square.sqrt() / (1 - beta2**steps) ** 0.5
            parameter.addcdiv_(average, root.add_(epsilon), value=-(rate / (1 - beta1**steps)))
        _C._set_grad_enabled(True)
