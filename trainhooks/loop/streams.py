"""Random streams and train and eval modes, put back, so that looking at a model changes nothing about its training."""

import pickle
import random
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from itertools import chain
from operator import attrgetter
from typing import Any, TypeAlias, cast, final

import torch
from attrs import define, field, frozen
from torch import Tensor, nn


def devices_of(model: nn.Module, device: torch.device) -> tuple[torch.device, ...]:
    """The devices that a run uses: the one that batches go to, then those that the model's tensors are on."""
    return tuple(dict.fromkeys([device, *(one.device for one in chain(model.parameters(), model.buffers()))]))


@final
@frozen(eq=False)
class Streams:
    """The state of every global random stream that a model on `devices` could draw from."""

    python: tuple[Any, ...]
    torch_cpu: Tensor
    torch_devices: list[Tensor]
    """Those of `devices`, in their order."""
    numpy: tuple[Any, ...] | dict[str, Any] | None
    devices: tuple[torch.device, ...]
    """Those that have a stream of their own."""

    @staticmethod
    def now(devices: Iterable[torch.device]) -> "Streams":
        """The streams as they are; numpy's only if it is loaded."""
        numpy: Any = sys.modules.get("numpy")
        apart = tuple(one for one in devices if _has_stream(one))
        return Streams(
            random.getstate(),
            torch.get_rng_state(),
            [_stream_of(one) for one in apart],
            numpy.random.get_state() if numpy is not None else None,
            apart,
        )

    def restore(self, now: "Streams | None" = None) -> None:
        """Put back those that have changed: they are the process', and other threads may draw from the others.

        Args:
            now: As they are, if that is known.
        """
        now = now or Streams.now(self.devices)
        if now.python != self.python:
            random.setstate(self.python)
        if not torch.equal(now.torch_cpu, self.torch_cpu):
            torch.set_rng_state(self.torch_cpu)
        for device, is_now, was in zip(self.devices, now.torch_devices, self.torch_devices, strict=False):
            if not torch.equal(is_now, was):
                torch.get_device_module(device).set_rng_state(was, *_place(device))
        if self.numpy is not None and pickle.dumps(now.numpy) != pickle.dumps(self.numpy):
            import_module("numpy").random.set_state(self.numpy)

    def state(self) -> dict[str, Any]:
        """The streams as plain data and tensors."""
        return {name: getattr(self, name) for name in ("python", "torch_cpu", "torch_devices", "numpy")}

    @staticmethod
    def of(state: Mapping[str, Any], devices: Iterable[torch.device]) -> "Streams":
        """Streams that were saved, those of devices by their order; what is there alone, or here alone, is left out."""
        apart = tuple(one for one in devices if _has_stream(one))
        return Streams(state["python"], state["torch_cpu"], state["torch_devices"], state["numpy"], apart)


def _has_stream(device: torch.device) -> bool:
    """Whether a device has a global random stream of its own."""
    return hasattr(getattr(torch, device.type, None), "get_rng_state")


def _stream_of(device: torch.device) -> Tensor:
    state: Tensor = torch.get_device_module(device).get_rng_state(*_place(device))
    return state


def _place(device: torch.device) -> tuple[torch.device, ...]:
    """Which device, for functions that ask; there is one of mps."""
    return () if device.type == "mps" else (device,)


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


Modes: TypeAlias = list[tuple[nn.Module, bool]]
"""Modules, each before those in it, and whether each is in train mode."""


def modes_of(model: nn.Module) -> Modes:
    """The mode of every module of a model."""
    return [(module, module.training) for module in model.modules()]


@contextmanager
def same_modes(model: nn.Module) -> Generator[None]:
    """Give every module its mode back, train or eval, on leaving."""
    modes = modes_of(model)
    try:
        yield
    finally:
        put_back(modes)


def put_back(modes: Modes) -> None:
    """Give every module its mode back by its own `train`, as a hand-written loop does, so that an override acts.

    Where an override decides otherwise, or raises, the mode is set all the same.
    """
    try:
        for module, training in modes:
            if module.training is not training:
                module.train(training)
    finally:
        for module, training in modes:
            if module.training is not training:
                module.training = training


def begin_training(model: nn.Module) -> list[str]:
    """Put a model in train mode, but for what its user has put in eval mode.

    Where the root is in train mode and some module in it too, modules in eval mode stay so, unless an override of
    `train` decides otherwise; else all of it trains.

    Returns:
        The names of the modules that stay in eval mode though `model.train()` would switch them, without those within
        them.
    """
    root = bare_model(model)
    before = modes_of(root)
    model.train()
    if not before[0][1] or not any(training for _, training in before[1:]):
        return []
    stays = {id(module) for module, training in before if module.training and not training}
    put_back([(module, module.training and id(module) not in stays) for module, _ in before])
    names = list[str]()
    for name, module in named_modules(root):
        if id(module) in stays and not any(name.startswith(f"{one}.") for one in names):
            names.append(name)
    return names


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model, each once, under their names."""
    return cast("Iterator[tuple[str, nn.Module]]", cast("Any", model).named_modules())


def warn_of_eval_mode(epoch: int) -> None:
    """Say that the model is in eval mode as an epoch begins."""
    warnings.warn(
        f"The model is in eval mode as epoch {epoch} begins: without dropout, and batch norm does not measure. Whoever "
        "called model.eval() calls model.train() afterwards; train(..., guard=True) names a hook that does not.",
        RuntimeWarning,
        stacklevel=4,
    )


def bare_model(model: nn.Module) -> nn.Module:
    """The module in a model that `torch.compile` wrapped; any other model itself."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


@contextmanager
def looking_only(model: nn.Module, device: torch.device) -> Generator[None]:
    """Eval mode without gradients; on leaving, modes and random streams are what they were, also on exceptions."""
    streams = Streams.now(devices_of(model, device))
    try:
        with _in_eval_mode(model):
            yield
    finally:
        streams.restore()


@contextmanager
def _in_eval_mode(model: nn.Module) -> Generator[None]:
    with same_modes(model), torch.no_grad():
        model.eval()
        yield


@final
@define(eq=False)
class PrivateStreams:
    """A context manager that looks only, entered again and again: its random streams go on where they were left."""

    model: nn.Module
    devices: tuple[torch.device, ...]
    _inside: Streams | None = None
    _stack: ExitStack = field(factory=ExitStack)

    def __enter__(self) -> None:
        outside = Streams.now(self.devices)
        with ExitStack() as entered:
            entered.callback(self._leave, outside)
            if self._inside is not None:
                self._inside.restore(outside)
            entered.enter_context(_in_eval_mode(self.model))
            self._stack = entered.pop_all()

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def _leave(self, outside: Streams) -> None:
        self._inside = Streams.now(self.devices)
        outside.restore(self._inside)
