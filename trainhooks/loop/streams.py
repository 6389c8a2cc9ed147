"""Random streams and train and eval modes, put back, so that looking at a model changes nothing about its training."""

import pickle
import random
import sys
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from operator import attrgetter
from typing import Any, TypeAlias, cast, final

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

    def restore(self, now: "Streams | None" = None) -> None:
        """Put back those that have changed: they are the process', and other threads may draw from the others.

        Args:
            now: As they are, if that is known.
        """
        now = now or Streams.now(self.device)
        if now.python != self.python:
            random.setstate(self.python)
        if not torch.equal(now.torch_cpu, self.torch_cpu):
            torch.set_rng_state(self.torch_cpu)
        if self.torch_device is not None and now.torch_device is not None:
            if not torch.equal(now.torch_device, self.torch_device):
                torch.cuda.set_rng_state(self.torch_device, self.device)
        if self.numpy is not None and pickle.dumps(now.numpy) != pickle.dumps(self.numpy):
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
    streams = Streams.now(device)
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
    device: torch.device
    _inside: Streams | None = None
    _stack: ExitStack = field(factory=ExitStack)

    def __enter__(self) -> None:
        outside = Streams.now(self.device)
        with ExitStack() as entered:
            entered.callback(self._leave, outside)
            if self._inside is not None:
                self._inside.restore(outside)
            entered.enter_context(_in_eval_mode(self.model))
            self._stack = entered.pop_all()

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def _leave(self, outside: Streams) -> None:
        self._inside = Streams.now(self.device)
        outside.restore(self._inside)
