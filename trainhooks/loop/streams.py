"""The global random streams, saved and put back, so that looking at a model changes nothing about its training."""

import random
import sys
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from operator import attrgetter
from typing import Any, final

import torch
from attrs import define, field, frozen
from torch import Tensor, nn


@final
@frozen(eq=False)
class Streams:
    """The state of every global random stream that a model on `device` could draw from."""

    python: tuple[Any, ...]
    torch_cpu: Tensor
    torch_device: Tensor | None
    numpy: tuple[Any, ...] | dict[str, Any] | None
    device: torch.device

    @staticmethod
    def now(device: torch.device) -> "Streams":
        """The streams as they are; numpy's only if it is loaded."""
        numpy: Any = sys.modules.get("numpy")
        on_cuda = device.type == "cuda"
        return Streams(
            random.getstate(),
            torch.get_rng_state(),
            torch.cuda.get_rng_state(device) if on_cuda else None,
            numpy.random.get_state() if numpy is not None else None,
            device,
        )

    def restore(self) -> None:
        """Put them back."""
        random.setstate(self.python)
        torch.set_rng_state(self.torch_cpu)
        if self.torch_device is not None:
            torch.cuda.set_rng_state(self.torch_device, self.device)
        if self.numpy is not None:
            import_module("numpy").random.set_state(self.numpy)

    def state(self) -> dict[str, Any]:
        """The streams as plain data and tensors."""
        return {name: getattr(self, name) for name in ("python", "torch_cpu", "torch_device", "numpy")}

    @staticmethod
    def of(state: Mapping[str, Any], device: torch.device) -> "Streams":
        """Streams that were saved; those of a CUDA device are left out where there is none."""
        there = state["torch_device"] if device.type == "cuda" else None
        return Streams(state["python"], state["torch_cpu"], there, state["numpy"], device)


_PLACES = ("", "sampler.", "batch_sampler.", "batch_sampler.sampler.")


def generators_of(name: str, data: object) -> dict[str, torch.Generator]:
    """The generators from which a `DataLoader` and its samplers draw, each once, by where they are."""
    found: dict[int, tuple[str, torch.Generator]] = {}
    for place in _PLACES:
        try:
            generator: object = attrgetter(f"{place}generator")(data)
        except AttributeError:
            continue
        if isinstance(generator, torch.Generator):
            found.setdefault(id(generator), (f"{name}.{place}generator", generator))
    return dict(found.values())


@contextmanager
def same_modes(model: nn.Module) -> Generator[None]:
    """Give every module its mode back, train or eval, on leaving."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def looking_only(model: nn.Module, device: torch.device) -> Generator[None]:
    """Eval mode without gradients; on leaving, modes and random streams are what they were, also on exceptions."""
    streams = Streams.now(device)
    try:
        with same_modes(model), torch.no_grad():
            model.eval()
            yield
    finally:
        streams.restore()


@final
@define(eq=False)
class PrivateStreams:
    """A context manager that looks only, entered again and again: its random streams go on where they were left."""

    model: nn.Module
    device: torch.device
    _inside: Streams | None = None
    _stack: ExitStack = field(factory=ExitStack)

    def __enter__(self) -> None:
        self._stack.enter_context(looking_only(self.model, self.device))
        if self._inside is not None:
            self._inside.restore()

    def __exit__(self, *raised: object) -> None:
        self._inside = Streams.now(self.device)
        self._stack.close()
