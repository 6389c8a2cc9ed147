"""What a hand-written loop can leave out of a step, one trick on top of the other, every bit of the weights kept.

The last rung is the loop that leaves out all that trainhooks leaves out, and does nothing else.
"""

# pyright: reportPrivateUsage=false

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from .programs import Batch, Program

ALL_TRICKS: Final = "and the optimizer's kernels called one by one"
_C: Final[Any] = torch._C
_run_backward: Final[Any] = torch.autograd.Variable._execution_engine.run_backward


def ladder(data: Sequence[Batch], optimizer: str) -> Mapping[str, Program]:
    """The rungs, each with what it adds to the one before."""
    last = _sgd if optimizer == "SGD" else _adamw
    return {
        "gradients set to None from the optimizer's lists": lambda model, one: _setting_none(data, model, one),
        "and the step without its decorations": lambda model, one: _undecorated(data, model, one),
        "and the engine called with a ready unit": lambda model, one: _by_the_engine(data, model, one),
        ALL_TRICKS: lambda model, one: last(data, model, one),
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
