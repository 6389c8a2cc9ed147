"""`HookSet`, the one form that every hook takes, and the way from everything `hooks=` accepts to it."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, cast, final

from attrs import field, frozen
from typing_extensions import TypeVar, Unpack

from trainhooks.errors import HookDefinitionError

from .binding import Entry, Itself, PerRun, keeps_its_own_state
from .definitions import check_hook, hooks_of_object, name_of
from .events import EVENTS, EventSpec, nearest
from .foreign import advice_on, advice_on_function
from .keeping import Keep
from .objects import HookObject
from .slots import HookDict, Keys, Slots

B_in = TypeVar("B_in", contravariant=True, default=Any)
O_in = TypeVar("O_in", contravariant=True, default=Any)
B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)

WRITABLE = ("parameters", "buffers", "gradients", "optimizer", "requires_grad", "modes", "batch", "final")
"""What a set can declare in `writes`; `"final"`: it leaves other weights in the model at the end of a run."""
_NONE: frozenset[str] = frozenset()

KEYS = frozenset(Keys.__annotations__)
"""What a set may say of itself besides its hooks."""


@final
@frozen(init=False)
class HookSet(Generic[B_in, O_in]):
    """Hooks that belong together, under one name and with one place in the order.

    A set is a value: equal where its hooks and keys are equal, and usable in any number of runs.

    Example:
        >>> HookSet(name="loud", on_epoch_end=lambda ctx: print(ctx.at)).name
        'loud'
    """

    name: str
    """Given, else the first hook's `__qualname__`, or `lambda@file:line`."""
    order: int
    """Lower comes first, in every event; the seed's `execution_order`."""
    before: frozenset[str]
    """Names of sets that this one precedes; a name that is not there is ignored."""
    after: frozenset[str]
    """Names of sets that this one follows; a name that is not there is ignored."""
    reads: frozenset[str]
    """Names of values that it looks at in `ctx.metrics`; `"*"` for all. Their providers come first."""
    provides: frozenset[str]
    """Names of values that it records, or makes in `transform_metrics`."""
    writes: frozenset[str]
    """What it changes in place, of `WRITABLE`."""
    ranks: frozenset[int] | None
    """Global ranks on which it is called; None for all."""
    devices: frozenset[int] | None
    """Ranks within their node on which it is called; None for all."""
    may_skip: bool
    """Whether over ranks its `SkipBatch` and `SkipUpdate` are taken."""
    collective: bool
    """Whether it runs collectives itself and must be called on every rank."""
    quarantined: bool
    """Whether it is switched off, and the run goes on, when it raises."""
    keeps: Keep | None
    """Which checkpoints it wants kept; None if it has no say in that."""
    slots: tuple[tuple[str, tuple[Entry, ...]], ...] = field(hash=False)
    """Its hooks by event, in the order of `EVENTS`."""
    init: Callable[..., object] | None = field(hash=False)
    """What makes its state when a run starts; None if it keeps none."""

    def __init__(
        self,
        *,
        name: str = "",
        order: int = 0,
        before: frozenset[str] = _NONE,
        after: frozenset[str] = _NONE,
        reads: frozenset[str] = _NONE,
        provides: frozenset[str] = _NONE,
        writes: frozenset[str] = _NONE,
        ranks: frozenset[int] | None = None,
        may_skip: bool = False,
        collective: bool = False,
        **slots: Unpack[Slots[B_in, O_in]],
    ) -> None:
        hooks = {event: _several(given, spec_of(event, KEYS)) for event, given in slots.items()}
        if not any(hooks.values()):
            raise HookDefinitionError(f"A hook set needs a hook on some event. The events: {', '.join(EVENTS)}.")
        self.__attrs_init__(  # type: ignore[attr-defined, unused-ignore]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            name=_name(name) or name_of(next(one[0] for one in hooks.values() if one)),
            order=_integer(order),
            before=_names("before", before),
            after=_names("after", after),
            reads=_names("reads", reads),
            provides=_names("provides", provides),
            writes=_writes(writes),
            ranks=_ranks(ranks),
            devices=None,
            may_skip=may_skip,
            collective=collective,
            quarantined=False,
            keeps=None,
            slots=tuple((event, hooks[event]) for event in EVENTS if hooks.get(event)),
            init=None,
        )

    def hooks(self, event: str) -> tuple[Entry, ...]:
        """Its hooks on `event`, in the order given; empty if it hears nothing of it."""
        return next((hooks for slot, hooks in self.slots if slot == event), ())

    def __repr__(self) -> str:
        return f"HookSet({self.name!r}: {', '.join(event for event, _ in self.slots)})"


Hooks: TypeAlias = HookSet[B, O] | HookDict[B, O] | HookObject[B, O] | Sequence["Hooks[B, O]"]
"""Everything that `hooks=` takes."""


def changed(hook_set: HookSet[B, O], **changes: object) -> HookSet[B, O]:
    """A copy of `hook_set` with some fields replaced."""
    fields = {name: getattr(hook_set, name) for name in _FIELDS}
    copy: HookSet[B, O] = object.__new__(HookSet)
    copy.__attrs_init__(**{**fields, **changes})  # type: ignore[attr-defined, unused-ignore]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return copy


def joined(*hook_sets: HookSet[B, O], **changes: object) -> HookSet[B, O]:
    """One set with the hooks of several, in order; everything else is the first one's, with some fields replaced."""
    slots = tuple(
        (event, tuple(hook for one in hook_sets for hook in one.hooks(event)))
        for event in EVENTS
        if any(one.hooks(event) for one in hook_sets)
    )
    return changed(hook_sets[0], slots=slots, **changes)


def flatten(hooks: object) -> Iterator[HookSet]:
    """The hook sets in `hooks`, in the order given, whatever of `Hooks` it is.

    Raises:
        HookDefinitionError: for anything else, with what to write instead.
    """
    if isinstance(hooks, HookSet):
        yield hooks
    elif isinstance(hooks, Mapping):
        given = cast("Mapping[object, object]", hooks)
        yield HookSet(**cast("HookDict", {str(key): value for key, value in given.items()}))
    elif isinstance(hooks, Sequence) and not isinstance(hooks, str | bytes):
        for one in cast("Sequence[object]", hooks):
            yield from flatten(one)
    elif isinstance(hooks, type):
        name = hooks.__qualname__
        raise HookDefinitionError(f"hooks= got the class {name}; give an instance: {name}().")
    elif inspect.isroutine(hooks) or isinstance(hooks, functools.partial):
        function = cast("Callable[..., object]", hooks)
        name = name_of(function)
        raise HookDefinitionError(f"hooks= got the function {name}; {advice_on_function(function, name)}.")
    else:
        holder = HookSet(name=type(hooks).__qualname__, **cast("Slots", hooks_of_object(hooks)))
        yield changed(holder, init=Itself(hooks)) if keeps_its_own_state(hooks) else holder


def spec_of(event: str, keys: Iterable[str] = ()) -> EventSpec:
    """The event of this name.

    Raises:
        HookDefinitionError: if there is none, with the nearest of the events and `keys`.
    """
    if event not in EVENTS:
        known = advice_on(event)
        advice = f"{known}." if known else f"did you mean {nearest(event, keys)!r}?"
        raise HookDefinitionError(f"{event!r} is no event; {advice} The events: {', '.join(EVENTS)}.")
    return EVENTS[event]


def _several(given: object, spec: EventSpec) -> tuple[Entry, ...]:
    hooks: Sequence[object] = (given,)
    if not callable(given) and not isinstance(given, str) and isinstance(given, Sequence):
        hooks = cast("Sequence[object]", given)
    return tuple(one if isinstance(one, PerRun) else check_hook(one, spec) for one in hooks)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise HookDefinitionError(f"name is a string, got {name!r}.")
    return name


def _integer(order: object) -> int:
    if not isinstance(order, int):
        raise HookDefinitionError(f"order is a whole number, got {order!r}.")
    return order


def _names(key: str, names: object) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, frozenset | set | tuple | list):
        raise HookDefinitionError(f"{key} is a set of names, got {names!r}; write {key}=frozenset({{{names!r}}}).")
    return frozenset(cast("frozenset[str]", names))


def _writes(names: object) -> frozenset[str]:
    writes = _names("writes", names)
    if unknown := sorted(writes - set(WRITABLE)):
        raise HookDefinitionError(f"writes got {unknown[0]!r}; a set can declare {', '.join(WRITABLE)}.")
    return writes


def _ranks(ranks: object) -> frozenset[int] | None:
    if ranks is None:
        return None
    if not isinstance(ranks, frozenset | set | tuple | list) or not ranks:
        raise HookDefinitionError(f"ranks is a set of ranks or None, got {ranks!r}; write ranks=frozenset({{0}}).")
    return frozenset(cast("frozenset[int]", ranks))


_FIELDS = (
    "name", "order", "before", "after", "reads", "provides", "writes", "ranks", "devices", "may_skip", "collective",
    "quarantined", "keeps", "slots", "init",
)  # fmt: skip
