"""A device that exists nowhere: it computes nothing, and whoever reads a value from it is noticed."""

import inspect
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@final
class DeviceReads(TorchDispatchMode):
    """Counts the values that are read from the meta device, by the file of ours that reads them."""

    def __init__(self) -> None:
        cast("Any", super()).__init__()  # torch left it without annotations
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
