"""Settings: the factory and the arguments that something was made with, by which it compares, prints and pickles."""

import copy
import dataclasses
import functools
import hashlib
import inspect
import numbers
import operator
import pickle
import re
import sys
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType
from typing import Any, cast, final

import attrs
import torch
from attrs import field, frozen

from trainhooks.errors import HookDefinitionError

_BY_VALUE = (
    type(None), str, bytes, Enum, PurePath, range, re.Pattern, torch.dtype, torch.device, torch.layout,
    torch.memory_format,
)  # fmt: skip
_NAMED = (type, FunctionType, BuiltinFunctionType, MethodType)
_SECRET = re.compile(r"(^|_)(password|passwd|secret|token|api_?key|credentials?)$")
_IN_AN_ADDRESS = re.compile(r"://[^/@\s]+@")
_LONGEST = 1_000


class ComparedByEquality(ABC):  # noqa: B024
    """Classes whose objects are compared by their own `==` and hash where they are arguments of a factory."""


def key_of(value: object) -> object:
    """What `value` is compared and hashed by, as one of the arguments of a factory.

    Numbers compare as numbers, so 1 and 1.0 are equal and so are 0.0 and -0.0, but a bool is none of them, and NaN
    equals NaN. Strings, paths, members of an enum, dtypes and devices compare by value, sequences, mappings and sets
    by what is in them, frozen records by their fields, hook sets and schedules by their settings, bound methods by
    object and function. Anything else, functions, modules and tensors too, is equal to itself alone.
    """
    kind: type = type(value)
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, numbers.Number):
        return numbers.Number, (value if value == value else "nan")
    if isinstance(value, _BY_VALUE):
        return kind, cast("object", value)
    if isinstance(value, Mapping):
        return Mapping, frozenset((key_of(key), key_of(one)) for key, one in _items(cast("object", value)))
    if isinstance(value, list | tuple):
        return list, tuple(key_of(one) for one in cast("list[object]", value))
    if isinstance(value, set | frozenset):
        return set, frozenset(key_of(one) for one in cast("set[object]", value))
    if isinstance(value, MethodType):
        return MethodType, _Itself(value.__self__), value.__func__
    if isinstance(value, ComparedByEquality):
        return kind, value
    if (fields := _fields_of_record(kind)) is not None:
        return kind, *(key_of(getattr(value, name)) for name in fields)
    return _Itself(value)


@final
@frozen
class _Itself:
    """Something that is equal to itself alone."""

    value: object = field(eq=id)


def told(value: object) -> str:
    """What `value` is, as a text that is the same in every process: without an address, or the numbers of a tensor.

    Plain data, and what is compared by value, is told as Python writes it, functions and classes by their qualified
    names, anything else by its type. A text of more than 1,000 characters is cut, and ends with its digest.
    """
    text = _text(value)
    if len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{text[:_LONGEST]}... ({len(text)} characters, sha256 {digest})"


def _text(value: object) -> str:
    kind: type = type(value)
    if isinstance(value, Enum):
        return f"{kind.__qualname__}.{value.name or value.value}"  # several flags at once may have no name
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, numbers.Integral | numbers.Real):  # NumPy's too, without their type
        return repr(int(value) if isinstance(value, numbers.Integral) else float(value))
    if isinstance(value, PurePath):
        return repr(str(value))
    if isinstance(value, str):
        return repr(_IN_AN_ADDRESS.sub("://***@", value))
    if isinstance(value, (*_BY_VALUE, numbers.Number)):
        return repr(cast("object", value))
    if isinstance(value, Mapping):
        pairs = (f"{told(key)}: {_hidden(key, one) or told(one)}" for key, one in _items(cast("object", value)))
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        parts = [told(one) for one in cast("list[object]", value)]
        return f"[{', '.join(parts)}]" if isinstance(value, list) else f"({', '.join(parts)}{',' * (len(parts) == 1)})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(told(one) for one in cast('set[object]', value)))}}}"
    if isinstance(value, _NAMED):
        return _qualified(value)
    if isinstance(value, functools.partial):
        part = cast("functools.partial[object]", value)
        words = (f"{name}={told(one)}" for name, one in part.keywords.items())
        return f"partial({', '.join([told(part.func), *map(told, part.args), *words])})"
    if (fields := _fields_of_record(kind)) is None:
        return _qualified(kind)
    if kind.__module__.startswith("trainhooks."):
        return repr(value)  # ours are short
    named = [(name, getattr(value, name)) for name in fields]
    return f"{kind.__qualname__}({', '.join(f'{name}={_hidden(name, one) or told(one)}' for name, one in named)})"


@final
@frozen(repr=False)
class Settings:
    """The factory that made something, such as a hook set, and the arguments that it was called with.

    Equal where the factory is the same and each argument is: numbers as numbers (1 and 1.0 are equal, a bool is none),
    NaN to NaN, sequences, mappings and sets by what is in them, frozen records by their fields, hook sets by their
    settings. Functions, tensors, modules and all other objects are equal to themselves alone.

    Example:
        >>> from trainhooks.hooks import cosine
        >>> settings = cosine(10).settings
        >>> settings, dict(settings.arguments)
        (cosine(updates=10), {'updates': 10, 'end': 0.0})
    """

    factory: Callable[..., object]
    """What was called."""
    _given: Mapping[str, object] = field(eq=key_of)

    @staticmethod
    def of(factory: Callable[..., object], called: inspect.BoundArguments) -> "Settings":
        """The settings of a call that `called_with` took apart; of each list, dict and set a copy is kept."""
        called.apply_defaults()
        return Settings(factory, {name: _copied(one) for name, one in called.arguments.items()})

    @property
    def arguments(self) -> Mapping[str, object]:
        """The arguments by parameter, defaults filled in, with tuples, frozen sets and read-only mappings."""
        return MappingProxyType({name: _frozen(one) for name, one in self._given.items()})

    def made_again(self, memo: dict[int, Any] | None = None) -> Any:
        """What the factory makes of the same arguments; with a `memo` as deepcopy's, of deep copies of them."""
        arguments: object = _copied(self._given) if memo is None else copy.deepcopy(self._given, memo)
        called = inspect.BoundArguments(inspect.signature(self.factory), cast("dict[str, Any]", arguments))
        return self.factory(*called.args, **called.kwargs)

    def check_pickles(self) -> None:
        """Refuse what cannot go to another process.

        Raises:
            HookDefinitionError: naming the argument, or the factory.
        """
        for what, value in [
            ("factory", self.factory),
            *((f"argument {name}", one) for name, one in self._given.items()),
        ]:
            if (why := why_it_does_not_pickle(value)) is not None:
                raise HookDefinitionError(
                    f"{self!r} does not pickle, because its {what} does not ({why}); give plain data, or a function "
                    "or class from the top level of a module."
                )

    def told(self) -> dict[str, str]:
        """Each argument as `told` tells it, but of a password or the like only that there is one."""
        return {name: _hidden(name, one) or told(one) for name, one in self._given.items()}

    def __repr__(self) -> str:
        return f"{self.factory.__qualname__.rpartition('.')[2]}({', '.join(self._differing())})"

    def _differing(self) -> Iterator[str]:
        """The arguments that differ from the defaults, cut short."""
        parameters = inspect.signature(self.factory).parameters.values()
        by_place = any(one.kind == one.VAR_POSITIONAL and self._given[one.name] for one in parameters)
        for parameter in parameters:
            name, value, kind = parameter.name, self._given[parameter.name], parameter.kind
            if kind == parameter.VAR_POSITIONAL:
                yield from (_cut(told(one)) for one in cast("tuple[object, ...]", value))
            elif kind == parameter.VAR_KEYWORD:
                yield from (f"{key}={_text_of(key, one)}" for key, one in _items(value))
            elif kind == parameter.POSITIONAL_ONLY or (by_place and kind == parameter.POSITIONAL_OR_KEYWORD):
                yield _text_of(name, value)
            elif parameter.default is parameter.empty or key_of(value) != key_of(parameter.default):
                yield f"{name}={_text_of(name, value)}"


def called_with(
    factory: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> inspect.BoundArguments:
    """The arguments of a call of `factory`, which is not made, with NumPy's numbers as Python's.

    Raises:
        HookDefinitionError: if it does not take these.
    """
    signature = inspect.signature(factory)
    try:
        called = signature.bind(*args, **kwargs)
    except TypeError as error:
        takes = signature.replace(return_annotation=signature.empty)
        raise HookDefinitionError(f"{_said_by_python(factory, args, kwargs) or error}; it takes {takes}.") from None
    called.arguments.update({name: plain_number(one) for name, one in called.arguments.items()})
    return called


def _said_by_python(factory: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
    """What Python says of a call with wrong arguments, which names the function."""
    try:
        inspect.unwrap(factory)(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return ""


def plain_number(value: object) -> object:
    """NumPy's numbers, also within tuples, as Python's; anything else as it is."""
    if type(value) is tuple:
        return tuple(plain_number(one) for one in cast("tuple[object, ...]", value))
    numpy: Any = sys.modules.get("numpy")
    scalar: Any = value
    return scalar.item() if numpy is not None and isinstance(value, numpy.generic) else value


def whole_number(value: object, least: int | None = None) -> int | None:
    """`value` as an int if it is a whole number of any kind but a bool, and not below `least`; else None.

    Example:
        >>> whole_number(3), whole_number(True), whole_number(3.0), whole_number(3, least=4)
        (3, None, None, None)
    """
    if isinstance(value, bool) or (isinstance(value, torch.Tensor) and value.dtype == torch.bool):
        return None
    try:
        number = operator.index(cast("int", value))
    except TypeError:
        return None
    return number if least is None or number >= least else None


def why_it_does_not_pickle(value: object) -> str | None:
    """The words in which pickling fails; None if it does not."""
    try:
        pickle.dumps(value)
    except Exception as error:  # whatever an object's own methods raise
        return f"{type(error).__name__}: {error}"
    return None


def _fields_of_record(kind: type) -> tuple[str, ...] | None:
    """The fields by which a frozen record is compared; None for what is not one."""
    if cast("object", kind.__hash__) in (None, object.__hash__):  # changes, or is compared by identity
        return None
    if attrs.has(kind):
        return tuple(one.name for one in attrs.fields(kind) if one.eq)
    if dataclasses.is_dataclass(kind):
        return tuple(one.name for one in dataclasses.fields(kind) if one.compare)
    return None


def _qualified(value: object) -> str:
    """`module.name` of a function or class, as far as a user would write it."""
    function: Any = value
    name = str(getattr(function, "__qualname__", None) or type(value).__qualname__)
    module = str(getattr(function, "__module__", None) or "builtins")
    return (
        name if module == "__main__" or module == "builtins" or module.startswith("trainhooks.") else f"{module}.{name}"
    )


def _items(value: object) -> Iterable[tuple[object, object]]:
    return cast("Mapping[object, object]", value).items()


def _copied(value: object) -> Any:
    """`value` with its own lists, dicts and sets, so that nobody else changes them."""
    if type(value) is dict:
        return {key: _copied(one) for key, one in _items(cast("object", value))}
    if type(value) in (list, tuple):
        return cast("type[list[object]]", type(value))(_copied(one) for one in cast("list[object]", value))
    return copy.copy(cast("object", value)) if isinstance(value, list | dict | set) else value


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _frozen(one) for key, one in _items(cast("object", value))})
    if isinstance(value, list) or type(value) is tuple:
        return tuple(_frozen(one) for one in cast("list[object]", value))
    return frozenset(cast("set[object]", value)) if isinstance(value, set) else value


def _hidden(name: object, value: object) -> str | None:
    """What is told of a password or the like, known by its name; None for anything else."""
    is_secret = isinstance(name, str) and isinstance(value, str) and _SECRET.search(name.lower())
    return "'***'" if is_secret else None


def _text_of(name: object, value: object) -> str:
    return _cut(_hidden(name, value) or told(value))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
