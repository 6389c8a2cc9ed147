"""The steps of torch's SGD and Adam on the CPU: the very kernels in the very order, without what prepares for others.

Torch's `step` collects lists, chooses between kernels for devices that are not there, and asks whether it is being
compiled, parameter by parameter. What is computed is torch's code line by line, for the releases that were compared;
a group with an option that is not here, or another release, is stepped by torch.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, lr_scheduler

KernelStep: TypeAlias = Callable[[Optimizer], bool]
"""Steps under `no_grad`; False, with nothing changed, where torch must do it."""

_NUMBERS: Final = (float, int)
"""The types of options that are computed here: a tensor may have a graph, or change what torch computes."""

RELEASES: Final = ("2.13",)
"""Releases of torch whose arithmetic is the one below: their tests compare every bit."""


def kernel_step(optimizer: Optimizer) -> KernelStep | None:
    """The step of an optimizer of torch's own in a known release; None for any other."""
    return _STEPS.get(type(optimizer)) if is_known_release() else None


def is_known_release() -> bool:
    """Whether this is a release of torch that was compared."""
    return ".".join(torch.__version__.split(".")[:2]) in RELEASES


def only_notes_the_call(step: Any, optimizer: Optimizer) -> bool:
    """Whether what torch's schedulers put in the place of a step is all that was put there.

    It sets `_opt_called` and calls the step of the class.
    """
    return (
        is_known_release()
        and getattr(step, "_wrapped_by_lr_sched", False)
        and getattr(step, "__wrapped__", None) is type(optimizer).step
        and step.__code__.co_filename == lr_scheduler.__file__
    )


def step_sgd(optimizer: Optimizer) -> bool:
    """A step of `SGD`."""
    groups = optimizer.param_groups
    for group in groups:
        if (
            not (group["params"] and group["params"][0].is_cpu)  # torch takes others all at once, unless told otherwise
            or group["foreach"]
            or group["fused"]
            or group["differentiable"]
            or group["maximize"]
            or type(group["lr"]) is not float
            or (group["weight_decay"] and type(group["weight_decay"]) not in _NUMBERS)
            or (group["momentum"] and not _is_plain_momentum(group))
        ):
            return False
    for group in groups:
        decay, momentum, rate = group["weight_decay"], group["momentum"], -group["lr"]
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if decay:
                gradient = gradient.add(parameter, alpha=decay)
            if momentum:
                gradient = _with_momentum(gradient, optimizer.state[parameter], momentum, group)
            parameter.add_(gradient, alpha=rate)
    return True


def _is_plain_momentum(group: Mapping[str, Any]) -> bool:
    return type(group["momentum"]) in _NUMBERS and type(group["dampening"]) in _NUMBERS


def _with_momentum(gradient: Tensor, state: dict[str, Any], momentum: float, group: Mapping[str, Any]) -> Tensor:
    buffer: Tensor | None = state.get("momentum_buffer")
    if buffer is None:
        buffer = state["momentum_buffer"] = gradient.detach().clone()
    else:
        buffer.mul_(momentum).add_(gradient, alpha=1 - group["dampening"])
    return gradient.add(buffer, alpha=momentum) if group["nesterov"] else buffer


def step_adam(optimizer: Optimizer) -> bool:
    """A step of `Adam` or `AdamW`, whose first one is always torch's, which makes the state."""
    states = optimizer.state
    found: list[tuple[Tensor, Tensor, Mapping[str, Tensor], Mapping[str, Any]]] = []
    for group in optimizer.param_groups:
        if not _is_plain_adam(group):
            return False
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            state = states.get(parameter)
            if not state or gradient.is_sparse or parameter.is_complex():
                return False
            found.append((parameter, gradient, state, group))
    for parameter, gradient, state, options in found:
        (beta1, beta2), rate, decay = options["betas"], options["lr"], options["weight_decay"]
        average, square, steps = state["exp_avg"], state["exp_avg_sq"], state["step"]
        steps += 1
        if decay:
            if options["decoupled_weight_decay"]:
                parameter.mul_(1 - rate * decay)
            else:
                gradient = gradient.add(parameter, alpha=decay)  # noqa: PLW2901
        average.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        step = steps.item()
        root = square.sqrt() / (1 - beta2**step) ** 0.5
        parameter.addcdiv_(average, root.add_(options["eps"]), value=-(rate / (1 - beta1**step)))
    return True


def _is_plain_adam(group: Mapping[str, Any]) -> bool:
    beta, _ = group["betas"]  # both are numbers, or both tensors
    return bool(group["params"]) and group["params"][0].is_cpu and not (
        group["foreach"]
        or group["fused"]
        or group["differentiable"]
        or group["maximize"]
        or group["amsgrad"]
        or group["capturable"]
        or type(group["lr"]) is not float
        or type(beta) is not float
        or type(group["eps"]) not in _NUMBERS
        or type(group["weight_decay"]) not in _NUMBERS
    )


_STEPS: Final[Mapping[type[Optimizer], KernelStep]] = {SGD: step_sgd, Adam: step_adam, AdamW: step_adam}
