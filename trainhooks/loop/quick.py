"""Bit-equal short cuts through `torch.optim` and autograd, each taken only where nobody could tell.

A hand-written `zero_grad`, `backward`, `step` spends a third of a tiny step on profiler ranges, hook lists and switches
of the grad mode. This file leaves those out while nothing listens to them, and makes the plain call otherwise. The
private names of torch stand here and nowhere else; where one of them is missing, every call is the plain one.
"""

# pyright: reportPrivateUsage=false, reportPossiblyUnboundVariable=false, reportConstantRedefinition=false

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ctypes import c_float
from typing import Any, Final, TypeGuard, cast, final

import torch
from attrs import define, field, frozen
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from trainhooks.core import Gradients

from .kernels import KernelStep, kernel_step, only_notes_the_call

_AUTOGRAD_LOG: Final = logging.getLogger("torch.autograd.graph")
_LOGGED: Final[Mapping[int, bool]] = getattr(_AUTOGRAD_LOG, "_cache", {})  # what it said, until a level changes
_DEBUG: Final = logging.DEBUG
_FLOAT32: Final = torch.float32
_scalar_tensor: Final[Callable[..., Tensor]] = cast("Any", torch).scalar_tensor  # the cheapest way to make one

try:
    from torch.autograd import _profiler_enabled  # type: ignore[attr-defined]
    from torch.optim.optimizer import (
        _global_optimizer_post_hooks,
        _global_optimizer_pre_hooks,
        _use_grad_for_differentiable,
    )

    _run_backward: Final[Any] = torch.autograd.Variable._execution_engine.run_backward
    _set_grad_enabled: Final[Any] = torch._C._set_grad_enabled
    _function_modes: Final[Any] = torch._C._len_torch_function_stack
    _functorch: Final[Any] = cast("Any", torch._C)._are_functorch_transforms_active
    # Every optimizer class is given the first decoration when it is first used, and carries the second from its source.
    _HOOKED: Final[Any] = Optimizer.profile_hook_step(lambda: None).__code__
    _UNDER_NO_GRAD: Final[Any] = _use_grad_for_differentiable(lambda: None).__code__
    AVAILABLE = True
except (AttributeError, ImportError):  # another torch: the plain calls serve
    AVAILABLE = False

_STEPPED_BY_A_RUN: Final = set[int]()
"""The `id` of each optimizer that a run is stepping: a run within a hook of another one steps what it was given."""


@final
@define(eq=False)
class Quick:
    """The three calls of an update on one optimizer: `backward`, `step`, `zero`."""

    optimizer: Optimizer
    """What is stepped."""
    _step: object = field(init=False)
    _bare_step: Callable[[Optimizer], object] | None = field(init=False)
    _kernel_step: KernelStep | None = field(init=False)
    _plain_zero: bool = field(init=False)
    _watch: RemovableHandle | None = field(init=False, default=None)
    _refuse: Callable[[], None] | None = field(init=False, default=None)
    """What `watch` was given; None after the first step here."""

    def __attrs_post_init__(self) -> None:
        self._step = type(self.optimizer).step
        self._bare_step = bare_step(self.optimizer)
        self._kernel_step = None if self._bare_step is None else kernel_step(self.optimizer)
        self._plain_zero = not AVAILABLE or type(self.optimizer).zero_grad is not Optimizer.zero_grad

    def backward(self, loss: Tensor, inputs: tuple[Tensor, ...] = (), start: float | Tensor = 1.0) -> bool:
        """Add `start` times the gradients of a 0-d loss to the `.grad` of `inputs`, or of every leaf of its graph.

        Calls the autograd engine where that does exactly what `loss.backward()` does. False, with nothing done, where
        that must be called.
        """
        if not (
            AVAILABLE
            and type(loss) is Tensor
            and loss.dtype is _FLOAT32
            and loss.is_cpu
            and not loss.shape
            and loss.requires_grad
            and not _function_modes()
            and not _functorch()
            and (_LOGGED.get(_DEBUG) is False or not _AUTOGRAD_LOG.isEnabledFor(_DEBUG))
        ):
            return False
        if isinstance(start, Tensor):
            gradient = start.to(loss.device, _FLOAT32)
        else:
            gradient = _scalar_tensor(start, dtype=_FLOAT32)  # may become a `.grad` that is edited: each has its own
        _run_backward((loss,), (gradient,), False, False, inputs, allow_unreachable=True, accumulate_grad=True)
        return True

    def watch(self, refuse: Callable[[], None]) -> None:
        """Call `refuse` where anybody else steps the optimizer, until it is stepped here for the second time.

        So what comes after the first step, the other objectives and hooks on `on_batch_end`, is watched too. An
        optimizer that torch's `Optimizer` did not make ready for hooks is not watched.
        """
        self._refuse = refuse
        self._register(refuse)

    def _register(self, refuse: Callable[[], None]) -> None:
        def see(optimizer: Optimizer, *given: object) -> None:
            if id(optimizer) not in _STEPPED_BY_A_RUN:
                refuse()

        with suppress(AttributeError):
            self._watch = self.optimizer.register_step_pre_hook(see)

    def _step_watched(self) -> None:
        refuse, self._refuse = self._refuse, None
        self.unwatch()
        self.step()
        if refuse is not None:
            self._register(refuse)

    def unwatch(self) -> None:
        """Watch it no longer."""
        if self._watch is not None:
            self._watch.remove()
            self._watch = None

    def step(self) -> None:
        """Step the optimizer, without its decorations where those of class and instance would do nothing."""
        if self._watch is not None:
            self._step_watched()
            return
        optimizer = self.optimizer
        wrapped = "step" in optimizer.__dict__
        if (
            self._bare_step is None
            or type(optimizer).step is not self._step
            or (wrapped and not only_notes_the_call(optimizer.__dict__["step"], optimizer))
            or optimizer._optimizer_step_pre_hooks
            or optimizer._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
            or _profiler_enabled()
        ):
            _STEPPED_BY_A_RUN.add(id(optimizer))
            try:
                optimizer.step()
            finally:
                _STEPPED_BY_A_RUN.discard(id(optimizer))
            return
        if wrapped:
            cast("Any", optimizer)._opt_called = True  # a scheduler of torch asks for it
        enabled = torch.is_grad_enabled()
        _set_grad_enabled(False)
        try:
            if self._kernel_step is None or not self._kernel_step(optimizer):
                self._bare_step(optimizer)
        finally:
            _set_grad_enabled(enabled)

    def zero(self) -> None:
        """Set the gradients of the optimizer's parameters to None."""
        if self._plain_zero or "zero_grad" in self.optimizer.__dict__ or _profiler_enabled():
            self.optimizer.zero_grad()
            return
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def backward(loss: Tensor, inputs: tuple[Tensor, ...], start: float | Tensor) -> None:
    """The plain call that `Quick.backward` stands for."""
    if isinstance(start, Tensor):
        gradient: Tensor | None = start.to(loss.device, loss.dtype)
    else:
        gradient = None if start == 1.0 else torch.full_like(loss, start)
    loss.backward(gradient, inputs=inputs or None)


def bare_step(optimizer: Optimizer) -> Callable[[Optimizer], object] | None:
    """The optimizer's `step` without its two decorations; None if they are not those that we know, or do something."""
    step: Any = type(optimizer).step
    if not AVAILABLE or getattr(step, "__code__", None) is not _HOOKED or optimizer.defaults.get("differentiable"):
        return None
    inner = getattr(step, "__wrapped__", None)
    if getattr(inner, "__code__", None) is not _UNDER_NO_GRAD:
        return None
    bare: Callable[[Optimizer], object] | None = getattr(inner, "__wrapped__", None)
    return bare


def version_of(tensor: Tensor) -> int:
    """How often a tensor was changed in place, as far as autograd counts it; 0 where it does not."""
    return 0 if tensor.is_inference() else tensor._version


def marks_of(parameters: Sequence[Tensor]) -> list[tuple[int, int]]:
    """By what it shows that a gradient is another one, or was changed in place."""
    return [(id(one.grad), 0 if one.grad is None else version_of(one.grad)) for one in parameters]


def overflowed(scaler: torch.amp.GradScaler, optimizer: Optimizer) -> bool:
    """Whether a gradient was not finite when `scaler` unscaled those of `optimizer`; reads the device."""
    found: Mapping[Any, Tensor] = cast("Any", scaler)._found_inf_per_device(optimizer)
    return any(one.item() for one in found.values())


@final
@frozen
class Clip:
    """Clipping of gradients as `get_total_norm` and `clip_grads_with_norm_` do it, bit for bit.

    Torch sorts gradients by device and type and looks for kernels anew in every update. Where all of them are plain
    ones of one device, their kernels are called at once. On the CPU, where a number costs nothing to read, the factor
    is computed with numbers, each rounded as torch rounds it, and a factor of 1 is left out.
    """

    def norm(self, gradients: Gradients, /) -> Tensor | None:
        """The 2-norm of all gradients together; None where torch must be asked."""
        if not are_plain(gradients):
            return None
        norms: list[Tensor] = cast("Any", torch)._foreach_norm(gradients)
        norm: Tensor = cast("Any", torch).linalg.vector_norm(torch.stack(norms))
        return norm

    def clip(self, gradients: Gradients, max_norm: float, norm: Tensor, /) -> bool:
        """Scale gradients down to `max_norm`; whether that was done, or torch must do it."""
        if type(norm) is not Tensor or not norm.is_cpu or norm.dtype is not torch.float32 or norm.shape:
            return False
        factor = clip_factor(max_norm, norm.item())
        if factor >= 1.0:
            return True
        if not are_plain(gradients) or not gradients[0].is_cpu:
            return False
        scale(gradients, factor)  # by NaN too
        return True


QUICK_CLIP: Final = Clip()
_EPSILON: Final = c_float(1e-6).value


def are_plain(gradients: Gradients) -> TypeGuard[Sequence[Tensor]]:
    """Whether these are dense float32 tensors of one device, of torch's own class and without a graph."""
    if not AVAILABLE or not gradients:
        return False
    device = None if gradients[0] is None else gradients[0].device
    for one in gradients:
        if type(one) is not Tensor or one.dtype is not torch.float32 or one.device != device or one.requires_grad:
            return False
        if one.is_sparse:
            return False
    return True


def clip_factor(max_norm: float, norm: float) -> float:
    """`max_norm / (norm + 1e-6)` in float32, as torch computes it of a tensor: by way of the reciprocal."""
    total = c_float(norm + _EPSILON).value
    reciprocal = c_float(1.0 / total).value
    return c_float(reciprocal * c_float(max_norm).value).value


def scale(tensors: Sequence[Tensor], factor: float | Tensor) -> None:
    """Multiply all the tensors by one factor in place, in as few kernels as there can be."""
    if tensors:
        cast("Any", torch)._foreach_mul_(tensors, factor)
