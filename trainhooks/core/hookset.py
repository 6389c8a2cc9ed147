"""`HookSet`, the one form that every hook takes, and the way from everything `hooks=` accepts to it."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, cast, final

from attrs import evolve, field, fields, frozen
from typing_extensions import TypeVar, Unpack

from trainhooks.errors import HookDefinitionError

from .binding import Hook, Itself, keeps_its_own_state
from .definitions import check_hook, hooks_of_object, name_of
from .events import EVENTS, EventSpec, nearest
from .foreign import advice_on, advice_on_function
from .keeping import Keep
from .objects import HookObject
from .slots import HookDict, Keys, Names, Slots
from .triggers import Trigger, both

B_in = TypeVar("B_in", contravariant=True, default=Any)
O_in = TypeVar("O_in", contravariant=True, default=Any)
B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)

WRITABLE = ("parameters", "buffers", "gradients", "optimizer", "requires_grad", "modes", "batch", "final")
"""What a set can declare in `writes`; `"final"`: it leaves other weights in the model at the end of a run."""

KEYS = frozenset(Keys.__annotations__)
"""What a set may say of itself besides its hooks."""


@final
@frozen
class Part:
    """A hook of a set that is more than a function of what its event hands out."""

    call: Hook
    """The function."""
    keeps_state: bool = False
    """Whether it takes and gives the set's state."""
    when: Trigger | None = None
    """When it is called, by an argument of the set's own; None for always."""


Entry: TypeAlias = Hook | Part
"""What a hook set holds."""


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
    governs: frozenset[str] | None
    """The events that a trigger of `when` gates; None for all those that it can."""
    when: Trigger | None
    """Where it is called; None for everywhere."""
    quarantined: bool
    """Whether it is switched off, and the run goes on, when it raises."""
    timed: bool
    """Whether its calls are counted and measured."""
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
        before: Names = (),
        after: Names = (),
        reads: Names = (),
        provides: Names = (),
        writes: Names = (),
        ranks: Collection[int] | None = None,
        devices: Collection[int] | None = None,
        may_skip: bool = False,
        collective: bool = False,
        governs: Names | None = None,
        when: Trigger | None = None,
        quarantined: bool = False,
        timed: bool = False,
        **slots: Unpack[Slots[B_in, O_in]],
    ) -> None:
        hooks = {event: _several(given, spec_of(event, KEYS)) for event, given in slots.items()}
        if not any(hooks.values()):
            raise HookDefinitionError(f"A hook set needs a hook on some event. The events: {', '.join(EVENTS)}.")
        self.__attrs_init__(  # type: ignore[attr-defined, unused-ignore]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            name=_name(name) or name_of(next(one[0] for one in hooks.values() if one)), order=_integer(order),
            before=_names("before", before), after=_names("after", after), reads=_names("reads", reads),
            provides=_names("provides", provides), writes=_writes(writes), ranks=_ranks("ranks", ranks),
            devices=_ranks("devices", devices), may_skip=may_skip, collective=collective,
            governs=_governed(governs, hooks), when=_trigger(when), quarantined=quarantined, timed=timed, keeps=None,
            slots=tuple((event, hooks[event]) for event in EVENTS if hooks.get(event)), init=None,
        )  # fmt: skip

    def hooks(self, event: str) -> tuple[Entry, ...]:
        """Its hooks on `event`, in the order given; empty if it hears nothing of it."""
        return next((hooks for slot, hooks in self.slots if slot == event), ())

    def __repr__(self) -> str:
        return f"HookSet({self.name!r}: {', '.join(event for event, _ in self.slots)})"


Hooks: TypeAlias = HookSet[B, O] | HookDict[B, O] | HookObject[B, O] | Sequence["Hooks[B, O]"]
"""Everything that `hooks=` takes."""


def changed(hook_set: HookSet[B, O], **changes: object) -> HookSet[B, O]:
    """A copy of `hook_set` with some fields replaced."""
    copy: HookSet[B, O] = object.__new__(HookSet)
    copy.__attrs_init__(**{**{one: getattr(hook_set, one) for one in _FIELDS}, **changes})  # type: ignore[attr-defined, unused-ignore]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return copy


_FIELDS = tuple(one.name for one in fields(HookSet))


def joined(*hook_sets: HookSet[B, O], **changes: object) -> HookSet[B, O]:
    """One set with the hooks of several, in order, each still called where the trigger of its own set fires.

    Everything else is the first one's, with some fields replaced.
    """
    slots = tuple(
        (event, tuple(_only_when(one.when, hook) for one in hook_sets for hook in one.hooks(event)))
        for event in EVENTS
        if any(one.hooks(event) for one in hook_sets)
    )
    return changed(hook_sets[0], **{"slots": slots, "when": None, **changes})


def _only_when(trigger: Trigger | None, entry: Entry) -> Entry:
    if trigger is None:
        return entry
    part = part_of(entry)
    return evolve(part, when=both(trigger, part.when))


def part_of(entry: Entry) -> Part:
    """A hook of a set in its full form."""
    return entry if isinstance(entry, Part) else Part(entry)


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
    return tuple(one if isinstance(one, Part) else check_hook(one, spec) for one in hooks)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise HookDefinitionError(f"name is a string, got {name!r}.")
    return name


def _integer(order: object) -> int:
    if not isinstance(order, int):
        raise HookDefinitionError(f"order is a whole number, got {order!r}.")
    return order


def _names(key: str, names: object) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise HookDefinitionError(f"{key} is a set of names, got {names!r}; write {key}={{{names!r}}}.")
    for name in cast("Collection[object]", names):
        if not isinstance(name, str):
            raise HookDefinitionError(f"{key} is a set of names, which are strings; got {name!r} among them.")
    return frozenset(cast("Collection[str]", names))


def _writes(names: object) -> frozenset[str]:
    writes = _names("writes", names)
    if unknown := sorted(writes - set(WRITABLE)):
        raise HookDefinitionError(f"writes got {unknown[0]!r}; a set can declare {', '.join(WRITABLE)}.")
    return writes


def _ranks(key: str, ranks: object) -> frozenset[int] | None:
    if ranks is None:
        return None
    if isinstance(ranks, str) or not isinstance(ranks, Collection) or not ranks:
        raise HookDefinitionError(f"{key} is a set of ranks or None, got {ranks!r}; write {key}={{0}}.")
    return frozenset(cast("Collection[int]", ranks))


def _governed(events: object, hooks: Mapping[str, object]) -> frozenset[str] | None:
    if events is None:
        return None
    governed = _names("governs", events)
    if strange := sorted(governed - set(hooks)):
        raise HookDefinitionError(
            f"governs names the events that a trigger gates, of those on which the set has hooks; got {strange[0]!r}, "
            f"and the set has hooks on {', '.join(event for event in EVENTS if hooks.get(event))}."
        )
    return governed


def _trigger(when: object) -> Trigger | None:
    if not isinstance(when, Trigger | None):
        raise HookDefinitionError(f"when is a trigger, such as every(100, 'updates'), or None, got {when!r}.")
    return when
