"""Containers of tensors: batches, outputs and results, whatever they are made of, opened and rebuilt in one way.

What can be rebuilt: what torch's pytree knows (tuple, list, dict, `OrderedDict`, `defaultdict`, `deque`, what torch
returns, and the classes that a user or a library has registered), named tuples, dataclasses, attrs records, and classes
derived from tuple, list, dict and deque. No constructor of theirs is called, so an own `__new__`, a `__post_init__`, a
frozen class or a field that was never set does not matter. Everything else (a distribution, a namespace, a `UserDict`,
a set, a NumPy array) is a leaf, and so is a container that refers to itself.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MemberDescriptorType, NoneType
from typing import Any, Final, TypeAlias, cast, final

from attrs import frozen
from torch import Tensor, nn
from torch.utils import _pytree as pytree  # pyright: ignore[reportPrivateUsage]

INSIDE: Final = object()
"""What a change gives for a value that it leaves to be opened."""

Change: TypeAlias = Callable[[Any], Any]
"""Gives what takes a value's place, or `INSIDE`."""

_ATOMS: Final = frozenset({NoneType, bool, int, float, complex, str, bytes})
_BASES: Final[tuple[type[Any], ...]] = (OrderedDict, dict, list, tuple, deque)
_OPEN: Final = object()
"""Stands for a container whose parts are being changed."""


def changed(value: Any, change: Change) -> Any:
    """A value with each of its parts changed, from the outside in; the same object where nothing changed.

    An object that is found twice is changed once. What cannot be rebuilt is given as it is: that very object.
    """
    try:
        return _changed(value, change, {})
    except RecursionError:  # nested deeper than Python follows
        return value


def tensors_in(value: object, where: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in a value, and where each is, such as `.logits[0]`; in mappings that cannot be rebuilt too."""
    waiting, seen = [(where, value)], dict[int, object]()
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, Tensor):
            yield place, one
        elif id(one) not in seen and (opened := _opened(one) or _mapping(one)) is not None:
            seen[id(one)] = one  # kept, so that no other object gets its id
            inner = [f"{place}{label}" for label in opened.labels()]
            waiting += reversed(list(zip(inner, opened.parts, strict=True)))


@final
class _CycleError(Exception):
    """A container was found within itself."""

    def __init__(self, of: object) -> None:
        self.of = of


@final
@frozen(eq=False)
class _Opened:
    """A container, opened."""

    parts: list[Any]
    build: Callable[[list[Any]], Any]
    """Makes a container like it of other parts."""
    labels: Callable[[], Sequence[str]]
    """Where each part is."""


def _changed(value: Any, change: Change, seen: dict[int, tuple[Any, Any]]) -> Any:
    if type(value) in _ATOMS:
        return value
    if (found := seen.get(id(value))) is not None:
        if found[1] is _OPEN:
            raise _CycleError(value)
        return found[1]
    new = change(value)
    if new is INSIDE:
        opened = _opened(value)
        new = value if opened is None else _rebuilt(value, opened, change, seen)
    seen[id(value)] = value, new  # the value is kept, so that no other object gets its id
    return new


def _rebuilt(value: Any, opened: _Opened, change: Change, seen: dict[int, tuple[Any, Any]]) -> Any:
    seen[id(value)] = value, _OPEN
    try:
        news = [_changed(part, change, seen) for part in opened.parts]
    except _CycleError as cycle:
        if cycle.of is value:
            return value
        seen[id(value)] = value, value  # it refers to what stays as it is
        raise
    if all(new is part for new, part in zip(news, opened.parts, strict=True)):
        return value
    try:
        return opened.build(news)
    except Exception:  # a class may refuse in any way
        return value


def _opened(value: Any) -> _Opened | None:
    """A container's parts; None of a leaf."""
    kind = _kind_of(value)
    if kind is tuple or kind is list:
        return _Opened(list(value), kind, lambda: _positions(value))
    if kind is dict:
        return _Opened(list(value.values()), lambda news: dict(zip(value, news, strict=True)), lambda: _keys(value))
    if kind in _ATOMS or isinstance(value, type | Tensor | nn.Module):
        return None
    try:
        if not _is_named_tuple(kind) and not pytree.tree_is_leaf(value):
            return _registered(value)
        if _is_container(kind) or hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__"):
            return _by_hand(value)
    except Exception:  # a class may refuse in any way
        return None
    return None


def _mapping(value: object) -> _Opened | None:
    if not isinstance(value, Mapping):
        return None
    given = cast("Mapping[object, object]", value)
    return _Opened(list(given.values()), lambda news: given, lambda: _keys(given))


def _registered(value: Any) -> _Opened:
    """A container that torch's pytree knows, one level of it."""
    parts, form = pytree.tree_flatten(value, is_leaf=lambda one: one is not value)

    def labels() -> Sequence[str]:
        named = isinstance(value, Mapping) and len(cast("Mapping[object, object]", value)) == len(parts)
        return _keys(cast("Mapping[object, object]", value)) if named else _positions(parts)

    return _Opened(parts, lambda news: pytree.tree_unflatten(news, form), labels)


def _by_hand(value: Any) -> _Opened:
    """A record, or an object of a class derived from a container: its items, its slots, its `__dict__`."""
    kind = _kind_of(value)
    base = _base_of(kind)
    keys: list[Any] = list(base.keys(value)) if _derives(kind, dict) else []
    items: list[Any] = list(base.values(value) if keys else base.__iter__(value)) if _is_container(kind) else []
    slots = [one for one in _slots_of(kind) if _is_set(one, value)]
    own: dict[str, Any] = getattr(value, "__dict__", {})
    attributes: dict[str, Any] = {} if own is value else own  # of a dict whose keys are its attributes

    def build(news: list[Any]) -> Any:
        left = iter(news)
        firsts: list[Any] = [next(left) for _ in items]
        twin: Any = base.__new__(kind, *([firsts] if _derives(kind, tuple) else []))
        for key, new in zip(keys, firsts, strict=False):  # no keys but of a dict
            base.__setitem__(twin, key, new)
        if _derives(kind, list):
            base.extend(twin, firsts)
        elif _derives(kind, deque):
            base.__init__(twin, firsts, value.maxlen)
        for slot in slots:
            slot.__set__(twin, next(left))
        if own is value:
            twin.__dict__ = twin
        elif attributes:
            twin.__dict__.update(zip(attributes, left, strict=True))
        return twin

    def labels() -> Sequence[str]:
        inside = [f".{name}" for name in kind._fields] if _is_named_tuple(kind) else _positions(items)
        outside = [*(one.__name__ for one in slots), *attributes]
        return [*([f"[{key!r}]" for key in keys] or inside), *(f".{name}" for name in outside)]

    return _Opened([*items, *(one.__get__(value) for one in slots), *attributes.values()], build, labels)


def _base_of(kind: type[object]) -> Any:
    """The container that a class is derived from, or `object`."""
    bases: tuple[Any, ...] = _BASES
    return next((one for one in bases if issubclass(kind, one)), object)


def _derives(kind: type[object], base: type[object]) -> bool:
    return issubclass(kind, base)


def _is_named_tuple(kind: type[object]) -> bool:
    return _derives(kind, tuple) and hasattr(kind, "_fields")


def _is_container(kind: type[object]) -> bool:
    return issubclass(kind, _BASES)


def _kind_of(value: object) -> Any:
    return type(value)


@lru_cache(maxsize=256)
def _slots_of(kind: type[object]) -> tuple[MemberDescriptorType, ...]:
    """The slots of a class and those that it is derived from."""
    return tuple(
        member for one in kind.__mro__ for member in vars(one).values() if isinstance(member, MemberDescriptorType)
    )


def _is_set(slot: MemberDescriptorType, value: object) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True


def _positions(parts: Sequence[object]) -> list[str]:
    return [f"[{place}]" for place in range(len(parts))]


def _keys(mapping: Mapping[object, object]) -> list[str]:
    return [f"[{key!r}]" for key in mapping]
