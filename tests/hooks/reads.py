"""Counting how often a program reads a value from a tensor."""

import inspect
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Reads(TorchDispatchMode):
    """Counts what `item`, `float`, `int` and `bool` read while it is entered; `tolist` and `numpy` are not seen."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@final
class DeviceReads(TorchDispatchMode):
    """Says which file of ours reads values from the meta device, which computes nothing; the values are made up."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name: str = func._schema.name
        if name == "aten::_local_scalar_dense" and _is_there(args[0]):
            self.found.append(_reader())
            return True if args[0].dtype == torch.bool else 1.0
        if name == "aten::_to_copy" and _is_there(args[0]) and _leaves(kwargs):
            self.found.append(_reader())
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return func(*args, **kwargs)


def _is_there(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "meta"


def _leaves(kwargs: dict[str, Any]) -> bool:
    return torch.device(kwargs.get("device") or "meta").type == "cpu"


def _reader() -> str:
    """The innermost file of the package on the stack, as `folder/name`."""
    frame = inspect.currentframe()
    while frame is not None:
        path = frame.f_code.co_filename
        if "/trainhooks/" in path and "/tests/" not in path:
            return "/".join(path.removesuffix(".py").split("/")[-2:])
        frame = frame.f_back
    return "elsewhere"
