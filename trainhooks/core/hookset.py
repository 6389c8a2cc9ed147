"""`HookSet`, the one form that every hook takes, and the way from everything `hooks=` accepts to it."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Generic, ParamSpec, TypeAlias, cast, final

from attrs import evolve, fields, frozen
from typing_extensions import TypeVar, Unpack

from trainhooks.errors import HookDefinitionError, shown

from .binding import Hook, Itself, keeps_its_own_state
from .definitions import check_hook, definition_of, hooks_of_object, name_of
from .events import EVENTS, EventSpec, nearest
from .foreign import advice_on, advice_on_function
from .keeping import Keep
from .objects import HookObject
from .settings import ComparedByEquality, Settings, called_with, whole_number, why_it_does_not_pickle
from .slots import HookDict, Keys, Names, Slots
from .triggers import Trigger, both

B_in = TypeVar("B_in", contravariant=True, default=Any)
O_in = TypeVar("O_in", contravariant=True, default=Any)
B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)

WRITABLE = (
    "parameters",
    "buffers",
    "gradients",
    "optimizer",
    "requires_grad",
    "modes",
    "batch",
    "final",
    "rates",
    "base_rates",
)
"""What a set can declare in `writes`.

`"final"`: it leaves other weights in the model at the end of a run. `"rates"`: on `transform_rates` it sets learning
rates whatever they were, so it must be the first there. `"base_rates"`: while its `on_*` hooks are called, the groups
of optimizers hold the base of their learning rates, and what is left there is the new base.
"""

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

    A set is a value, usable in any number of runs: equal, and pickled, by its fields, of which `settings` stands for
    hooks and state if a factory made it.

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
    instead: str
    """What to write instead of `when`, for a set that governs nothing because it says itself when it acts."""
    keeps: Keep | None
    """Which checkpoints it wants kept; None if it has no say in that."""
    settings: Settings | None
    """The factory that made it, and with which arguments; None for a set that no `factory` made."""
    slots: tuple[tuple[str, tuple[Entry, ...]], ...]
    """Its hooks by event, in the order of `EVENTS`."""
    init: Callable[..., object] | None
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
        settings: Settings | None = None,
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
            governs=_governed(governs, hooks), when=_trigger(when), quarantined=quarantined, timed=timed, instead="",
            keeps=None, settings=_settings(settings), init=None,
            slots=tuple((event, hooks[event]) for event in EVENTS if hooks.get(event)),
        )  # fmt: skip
        if when is not None:
            gated(self)

    def hooks(self, event: str) -> tuple[Entry, ...]:
        """Its hooks on `event`, in the order given; empty if it hears nothing of it."""
        return next((hooks for slot, hooks in self.slots if slot == event), ())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HookSet):
            return NotImplemented
        compared = _FIELDS if self.settings is None else _OF_VALUES
        return all(getattr(self, one) == getattr(cast("object", other), one) for one in compared)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, one) for one in _OF_VALUES))

    def __repr__(self) -> str:
        if self.settings is None:
            return f"HookSet({self.name!r}: {', '.join(event for event, _ in self.slots)})"
        made = repr(self.settings)
        if self.name != self.settings.factory.__name__:
            made = f"named({self.name!r}, {made})"
        if self.when is not None:
            made = f"when({self.when!r}, {made})"
        for word, is_wrapped in (("timed", self.timed), ("quarantine", self.quarantined)):
            made = f"{word}({made})" if is_wrapped else made
        return made

    def __copy__(self) -> "HookSet[B_in, O_in]":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "HookSet[B_in, O_in]":
        if self.settings is None:
            return _remade({one: deepcopy(getattr(self, one), memo) for one in _FIELDS})
        return changed(self.settings.made_again(memo), **self._wrapped())

    def __reduce__(self) -> tuple[Callable[..., "HookSet[B_in, O_in]"], tuple[object, ...]]:
        if self.settings is not None:
            self.settings.check_pickles()
            return _made_by_settings, (self.settings, self._wrapped())
        for event, hook in [*((event, one) for event, hooks in self.slots for one in hooks), ("init", self.init)]:
            if (why := why_it_does_not_pickle(hook)) is not None:
                function = definition_of(hook.call if isinstance(hook, Part) else hook)
                raise HookDefinitionError(
                    f"{self!r} does not pickle, because its {event}, {function}, does not ({why}); give a "
                    "module-level function, or make the set in a function under @factory."
                )
        return _remade, ({one: getattr(self, one) for one in _FIELDS},)

    def _wrapped(self) -> dict[str, object]:
        return {one: getattr(self, one) for one in _SET_BY_WRAPPERS}


Hooks: TypeAlias = HookSet[B, O] | HookDict[B, O] | HookObject[B, O] | Sequence["Hooks[B, O]"]
"""Everything that `hooks=` takes."""


def changed(hook_set: HookSet[B, O], **changes: object) -> HookSet[B, O]:
    """A copy of `hook_set` with some fields replaced."""
    return _remade({**{one: getattr(hook_set, one) for one in _FIELDS}, **changes})


def _remade(values: dict[str, Any]) -> HookSet[Any, Any]:
    """A set of these fields, which are known to be right."""
    made: HookSet[Any, Any] = object.__new__(HookSet)
    made.__attrs_init__(**values)  # type: ignore[attr-defined, unused-ignore]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return made


ComparedByEquality.register(HookSet)
_FIELDS = tuple(one.name for one in fields(HookSet))
_OF_VALUES = tuple(one for one in _FIELDS if one not in ("slots", "init"))
_SET_BY_WRAPPERS = ("name", "order", "ranks", "devices", "when", "quarantined", "timed")


def _made_by_settings(settings: Settings, wrapped: dict[str, object]) -> HookSet[Any, Any]:
    return changed(settings.made_again(), settings=settings, **wrapped)


P = ParamSpec("P")


def factory(f: Callable[P, HookSet[B, O]]) -> Callable[P, HookSet[B, O]]:
    """Let the sets that a function makes know the function and its arguments: their `settings`.

    Such sets are equal and hashed by these, are shown and pickled by them (the function is called again), and a run
    that goes on tells which argument changed. The function is one of a module's top level, gives one set, and gives
    an equal one whenever it is called with equal arguments. Where it calls another factory, its own settings count.

    Raises:
        HookDefinitionError: when it is called and gives anything but one `HookSet`.

    Example:
        >>> from trainhooks import Stop
        >>> @factory
        ... def stop_after(updates: int, *, reason: str = "enough") -> HookSet:
        ...     stop = lambda ctx: Stop(reason) if ctx.at.updates >= updates else None
        ...     return HookSet(name="stop_after", on_batch_end=stop)
        >>> stop_after(5), stop_after(5) == stop_after(updates=5), stop_after(5) == stop_after(6)
        (stop_after(updates=5), True, False)
        >>> dict(stop_after(5).settings.arguments)
        {'updates': 5, 'reason': 'enough'}
    """
    if not callable(f):
        raise HookDefinitionError(f"factory decorates a function that gives a HookSet, got {shown(f)}.")

    @functools.wraps(f)
    def make(*args: P.args, **kwargs: P.kwargs) -> HookSet[B, O]:
        called = called_with(make, args, kwargs)
        settings = Settings.of(make, called)
        made = cast("Callable[..., object]", f)(*called.args, **called.kwargs)
        if not isinstance(made, HookSet):
            raise HookDefinitionError(
                f"{name_of(f)} is under @factory, so it gives one HookSet, and it gave {shown(made)}; take the "
                "decorator off, or give the sets one by one."
            )
        return changed(cast("HookSet[B, O]", made), settings=settings)

    return make


def is_gated(hook_set: HookSet, spec: EventSpec) -> bool:
    """Whether the trigger of a set decides if it hears an event."""
    if hook_set.when is None or not spec.gated_by or not hook_set.when.rule.units <= spec.gated_by:
        return False
    return hook_set.governs is None or spec.name in hook_set.governs


def gated(hook_set: HookSet[B, O]) -> HookSet[B, O]:
    """A set with a trigger, if it hears an event that a trigger can gate.

    Raises:
        HookDefinitionError: if it does not, or says itself when it acts.
    """
    if hook_set.instead:
        raise HookDefinitionError(f"when({hook_set.when}, {hook_set.name!r}) decides nothing: {hook_set.instead}")
    governed = [event for event, _ in hook_set.slots if hook_set.governs is None or event in hook_set.governs]
    if not any(EVENTS[event].gated_by for event in governed):
        raise HookDefinitionError(
            f"when({hook_set.when}, {hook_set.name!r}) decides nothing: the set governs "
            f"{', '.join(governed) or 'no event'}, and a trigger gates the events of batches, updates, evaluations, "
            "epochs, records and checkpoints."
        )
    return hook_set


def says_itself(hook_set: HookSet[B, O], instead: str) -> HookSet[B, O]:
    """A set that no trigger gates, because it says itself when it acts; `instead` is what to write."""
    return changed(hook_set, governs=frozenset[str](), instead=instead)


def joined(*hook_sets: HookSet[B, O], **changes: object) -> HookSet[B, O]:
    """One set with the hooks of several, in order, each still called where the trigger of its own set fires.

    Everything else is the first one's, with some fields replaced.
    """
    slots = tuple(
        (event, tuple(_only_when(one.when, hook) for one in hook_sets for hook in one.hooks(event)))
        for event in EVENTS
        if any(one.hooks(event) for one in hook_sets)
    )
    return changed(hook_sets[0], **{"slots": slots, "when": None, "settings": None, **changes})


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
        raise HookDefinitionError(f"name is a string, got {shown(name)}.")
    return name


def _integer(order: object) -> int:
    number = whole_number(order)
    if number is None:
        raise HookDefinitionError(f"order is a whole number, got {shown(order)}.")
    return number


def _names(key: str, names: object) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise HookDefinitionError(f"{key} is a set of names, got {shown(names)}; write {key}={{{shown(names)}}}.")
    for name in cast("Collection[object]", names):
        if not isinstance(name, str):
            raise HookDefinitionError(f"{key} is a set of names, which are strings; got {shown(name)} among them.")
    return frozenset(cast("Collection[str]", names))


def _writes(names: object) -> frozenset[str]:
    writes = _names("writes", names)
    if unknown := sorted(writes - set(WRITABLE)):
        raise HookDefinitionError(f"writes got {shown(unknown[0])}; a set can declare {', '.join(WRITABLE)}.")
    return writes


def _ranks(key: str, ranks: object) -> frozenset[int] | None:
    if ranks is None:
        return None
    if isinstance(ranks, str) or not isinstance(ranks, Collection) or not ranks:
        raise HookDefinitionError(f"{key} is a set of ranks or None, got {ranks!r}; write {key}={{0}}.")
    numbers = [whole_number(rank, 0) for rank in cast("Collection[object]", ranks)]
    if None in numbers:
        raise HookDefinitionError(f"{key} is a set of ranks, whole numbers from 0 on, or None, got {ranks!r}.")
    return frozenset(cast("list[int]", numbers))


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


def _settings(settings: object) -> Settings | None:
    if not isinstance(settings, Settings | None):
        raise HookDefinitionError(f"settings are those of a set that a factory made, or None, got {shown(settings)}.")
    return settings


def _trigger(when: object) -> Trigger | None:
    if not isinstance(when, Trigger | None):
        raise HookDefinitionError(f"when is a trigger, such as every(100, 'updates'), or None, got {shown(when)}.")
    return when
