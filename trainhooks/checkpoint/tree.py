"""The state of a run as JSON data and named tensors; `decoding` makes the tree of them again, its types as they were.

    encode({"model": {"w": tensor}, "epoch": 3, "betas": (0.9, nan)})
    -> ({"model": {"w": {"$tensor": "model:w"}}, "epoch": 3, "betas": {"$tuple": [0.9, {"$float": "nan"}]}},
        {"model:w": tensor})

A tensor's name is `<group>:<path>`; each group is a file of its own. The group `model` uses the model's own keys, so
that its file, read alone, is a state dict; so does each entry of `averages`, whose group is `average-<entry>`. What
comes after these and is one of their tensors, such as the state of the hook set that keeps an average, refers to it.
"""

import base64
import json
import math
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final

import torch
from attrs import field, frozen
from torch import Tensor, nn

from trainhooks.errors import CheckpointError
from trainhooks.store import slug

from .shards import is_sharded

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Tree: TypeAlias = object
"""Dicts, lists, tuples, sets, plain data, tensors and numpy arrays, nested in any way."""
Json: TypeAlias = object
"""What `json` writes and reads."""

AVERAGES = "averages"
"""The entry of a state that holds the weights of hook sets, by what `entry_of` makes of the sets' names."""
_OTHERS = "state"
_AS_BYTES = (torch.float8_e8m0fnu, torch.float4_e2m1fn_x2)
"""Dtypes of one byte that the file format has no name for."""
_AS_PAIRS = (torch.complex128, torch.complex32)
"""Complex dtypes that the file format has no name for."""


def entry_of(name: str) -> str:
    """The name of a hook set as a part of the name of a file; different for different names, and without a dot.

    Example:
        >>> entry_of("ema"), entry_of("ema 0.9")
        ('ema', 'ema-0-9-5d86854e')
    """
    return slug(name.replace(".", "\0"))


def encode(tree: Tree) -> tuple[Json, dict[str, Tensor]]:
    """Split a tree into JSON data and its tensors, which are not copied.

    Dicts with other keys than words, tuples, sets, bytes, numbers that JSON does not know, dtypes and the like become
    an object with one key that begins with `$`. Every dict is kept in its order; an `OrderedDict` and a `Counter` stay
    what they are, a `defaultdict` becomes a dict. A tensor under two names is given twice. One of which this process
    holds a part is given as it is, and stands in the JSON data as `{"$sharded": name}`.

    Raises:
        CheckpointError: if the tree holds something else, naming where.
    """
    encoder = _Encoder()
    return encoder.encode(tree, ()), encoder.tensors


@final
@frozen
class _Encoder:
    tensors: dict[str, Tensor] = field(factory=dict[str, Tensor])
    averages: dict[int, str] = field(factory=dict[int, str])
    """Names of the tensors in averages, by their identity."""

    def encode(self, value: object, path: tuple[str, ...]) -> Json:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if isinstance(value, Tensor):
            return self.tensor(value, path)
        if (write := _WRITERS.get(kind)) is not None:
            return write(self, value, path)
        if (numpy := sys.modules.get("numpy")) is not None:
            if kind is numpy.ndarray:
                return {"$array": self.tensor(_array(value, path), path)}
            if isinstance(value, numpy.generic):
                return _scalar(self, value, path)
        raise _unknown(f"a {kind.__module__}.{kind.__qualname__}", path)

    def tensor(self, value: Tensor, path: tuple[str, ...]) -> Json:
        if is_sharded(value):
            return self.sharded(value, path)
        if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided or value.is_quantized:
            raise _unknown(f"a tensor of the kind {type(value).__qualname__} with layout {value.layout}", path)
        if value.is_meta:
            raise _unknown("a tensor on the meta device, which has no data", path)
        tensor, mark = value.detach(), dict[str, Json]()
        if tensor.dtype in _AS_BYTES:
            tensor, mark["dtype"] = tensor.contiguous().view(torch.uint8), _name(tensor.dtype)
        elif tensor.dtype in _AS_PAIRS:
            mark["dtype"] = _name(tensor.dtype)
            tensor = torch.view_as_real(tensor.resolve_conj().resolve_neg())
        if not tensor.is_cpu:
            mark["device"] = tensor.device.type
        return {"$tensor": self.named(value, tensor, path), **mark}

    def sharded(self, value: "DTensor", path: tuple[str, ...]) -> Json:
        if value.dtype in _AS_BYTES or value.dtype in _AS_PAIRS:
            raise _unknown(f"a sharded tensor of {value.dtype}", path)
        name = self.named(value, value.detach(), path)
        return {"$sharded": name, **({} if value.device.type == "cpu" else {"device": value.device.type})}

    def named(self, value: Tensor, tensor: Tensor, path: tuple[str, ...]) -> str:
        """The name under which `tensor`, which is what is stored of `value`, is in a file."""
        of_average = path[:1] == (AVERAGES,)
        if not of_average and (there := self.averages.get(id(value))) is not None:
            return there
        name = self.free_name(path)
        self.tensors[name] = tensor
        if of_average:
            self.averages.setdefault(id(value), name)
        return name

    def free_name(self, path: tuple[str, ...]) -> str:
        match path:
            case ("averages", one, *further):  # AVERAGES
                group = f"average-{one}"
            case (("model" | "optimizers") as group, *further):
                pass
            case _:
                group, further = _OTHERS, list(path)
        name = f"{group}:{'.'.join(further)}"
        if name.endswith(":__metadata__"):  # the file format's own word
            name += "#"
        while name in self.tensors:
            name += "#"
        return name

    def all(self, values: Iterable[object], path: tuple[str, ...]) -> list[Json]:
        return [self.encode(value, (*path, str(position))) for position, value in enumerate(values)]

    def pairs(self, value: Mapping[object, object], path: tuple[str, ...]) -> list[Json]:
        return [[self.encode(key, path), self.encode(one, (*path, str(key)))] for key, one in value.items()]


_Writer: TypeAlias = Callable[[_Encoder, object, tuple[str, ...]], Json]


def _float(encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    return value if math.isfinite(number := cast("float", value)) else {"$float": repr(number)}


def _list(encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    return encoder.all(cast("list[object]", value), path)


def _sequence(tag: str, encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    return {tag: encoder.all(cast("tuple[object, ...]", value), path)}


def _unordered(tag: str, encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    return {tag: sorted(encoder.all(cast("set[object]", value), path), key=json.dumps)}


def _dict(encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    items = cast("dict[object, object]", value)
    if all(type(key) is str and not key.startswith("$") for key in items):
        return {key: encoder.encode(one, (*path, key)) for key, one in cast("dict[str, object]", value).items()}
    return {"$dict": encoder.pairs(items, path)}


def _mapping(tag: str, encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    return {tag: encoder.pairs(cast("dict[object, object]", value), path)}


def _bytes(encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    return {"$bytes": base64.b64encode(cast("bytes", value)).decode()}


def _complex(encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    number = cast("complex", value)
    return {"$complex": [_float(encoder, number.real, path), _float(encoder, number.imag, path)]}


def _word(tag: str, encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    return {tag: _name(value)}


_WRITERS: dict[type, _Writer] = {
    float: _float,
    list: _list,
    tuple: partial(_sequence, "$tuple"),
    torch.Size: partial(_sequence, "$size"),
    set: partial(_unordered, "$set"),
    frozenset: partial(_unordered, "$frozenset"),
    dict: _dict,
    defaultdict: _dict,
    OrderedDict: partial(_mapping, "$ordered"),
    Counter: partial(_mapping, "$counter"),
    bytes: _bytes,
    complex: _complex,
    torch.dtype: partial(_word, "$dtype"),
    torch.device: partial(_word, "$device"),
}


def _name(value: object) -> str:
    return str(value).removeprefix("torch.")


def _array(value: object, path: tuple[str, ...]) -> Tensor:
    try:
        return torch.from_numpy(copy(value))
    except (TypeError, ValueError):
        raise _unknown(f"a numpy array of {getattr(value, 'dtype', '?')}", path) from None


def _scalar(encoder: _Encoder, value: object, path: tuple[str, ...]) -> Json:
    name, plain = str(getattr(value, "dtype", "?")), cast("Any", value).item()
    if not isinstance(getattr(torch, name, None), torch.dtype):
        raise _unknown(f"a numpy scalar of {name}", path)
    return {"$scalar": encoder.encode(plain, path), "dtype": name}


def _unknown(what: str, path: tuple[str, ...]) -> CheckpointError:
    return CheckpointError(
        f"The state of the run holds {what} at {'.'.join(path) or 'its top'}, which a checkpoint cannot hold. It holds "
        "plain data, dicts, lists, tuples, sets, dense tensors and numpy arrays of numbers; save an object by what its "
        "state_dict() gives."
    )
