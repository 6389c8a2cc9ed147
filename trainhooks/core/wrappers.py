"""Wrappers: a factory says what a hook does; these say when, where, and as what."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast, final

from attrs import frozen
from typing_extensions import TypeVar

from trainhooks.errors import HookDefinitionError

from .binding import Entry, Hook, PerRun, Scope, bind
from .events import EVENTS, Kind
from .hookset import Hooks, HookSet, changed, flatten
from .measuring import Measured
from .triggers import Trigger

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)

_log = logging.getLogger("trainhooks")


def when(trigger: Trigger, *hooks: Hooks[B, O]) -> tuple[HookSet[B, O], ...]:
    """Call the hooks only where `trigger` fires; elsewhere a value passes unchanged and nothing is wrapped.

    Example:
        >>> from trainhooks import every
        >>> when(every(2, "epochs"), {"name": "loud", "on_epoch_end": print})
        (HookSet('loud': on_epoch_end),)
    """
    if not isinstance(trigger, Trigger):
        raise HookDefinitionError(f"when wants a trigger first, such as every(100, 'updates'), got {trigger!r}.")
    return tuple(
        changed(
            hook_set,
            slots=tuple(
                (event, tuple(PerRun(Guarded(trigger, event, entry)) for entry in entries))
                for event, entries in hook_set.slots
            ),
        )
        for hook_set in _sets(hooks)
    )


def for_rank(i: int, *hooks: Hooks[B, O]) -> tuple[HookSet[B, O], ...]:
    """Call the hooks only in the process of this global rank, from 0."""
    _index("for_rank", i)
    return tuple(changed(one, ranks=_narrowed("for_rank", one, one.ranks, i)) for one in _sets(hooks))


def for_device(i: int, *hooks: Hooks[B, O]) -> tuple[HookSet[B, O], ...]:
    """Call the hooks only in the process with this index within its node, from 0, on every node."""
    _index("for_device", i)
    return tuple(changed(one, devices=_narrowed("for_device", one, one.devices, i)) for one in _sets(hooks))


def named(name: str, hook: Hooks[B, O]) -> HookSet[B, O]:
    """The same hook set under another name; a stateful set's state is saved under it."""
    _check_name(name)
    return changed(_single("named", hook), name=name)


def ordered(order: int, hook: Hooks[B, O]) -> HookSet[B, O]:
    """The same hook set at another place: lower orders come first, in every event."""
    if not isinstance(order, int):
        raise HookDefinitionError(f"ordered wants a whole number first, got {order!r}.")
    return changed(_single("ordered", hook), order=order)


def quarantine(*hooks: Hooks[B, O]) -> tuple[HookSet[B, O], ...]:
    """Let the run go on when one of these sets raises: it is logged, switched off, and counted in a warning at the end.

    A set that was switched off still hears `on_train_end`, so that it can close what it holds. For sinks: what
    decides about training should fail loudly.
    """
    return tuple(changed(one, quarantined=True) for one in _sets(hooks))


def timed(*hooks: Hooks[B, O]) -> tuple[HookSet[B, O], ...]:
    """Measure the hooks: `result.hook_times` has how often those of each set were called, and how long they took.

    The clock is the host's: work that a hook queues on a device counts where somebody waits for it. Nothing else is
    measured, and what is not under `timed` costs nothing.

    Example:
        >>> timed({"name": "loud", "on_epoch_end": print})
        (HookSet('loud': on_epoch_end),)
    """
    return tuple(
        changed(
            one,
            slots=tuple((event, tuple(_measured(event, entry) for entry in entries)) for event, entries in one.slots),
        )
        for one in _sets(hooks)
    )


def _measured(event: str, entry: Entry) -> Entry:
    """The entry, measured within its triggers, and once however often it is asked for."""
    match entry:
        case PerRun(part=Measured()):
            return entry
        case PerRun(part=Guarded(trigger=trigger, entry=inner)):
            return PerRun(Guarded(trigger, event, _measured(event, inner)))
        case _:
            return PerRun(Measured(event, entry))


def _sets(hooks: tuple[Hooks[B, O], ...]) -> Iterator[HookSet[B, O]]:
    return cast("Iterator[HookSet[B, O]]", flatten(hooks))


def _single(word: str, hook: Hooks[B, O]) -> HookSet[B, O]:
    hook_sets = tuple(_sets((hook,)))
    if len(hook_sets) != 1:
        raise HookDefinitionError(f"{word} takes one hook set, got {len(hook_sets)}: {hook_sets!r}.")
    return hook_sets[0]


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise HookDefinitionError(f"named wants a name first, got {name!r}.")


def _index(word: str, i: object) -> None:
    if not isinstance(i, int) or i < 0:
        raise HookDefinitionError(f"{word} takes a rank, a whole number from 0 on, got {i!r}.")


def _narrowed(word: str, one: HookSet, ranks: frozenset[int] | None, i: int) -> frozenset[int]:
    if ranks is not None and i not in ranks:
        raise HookDefinitionError(
            f"{word}({i}, {one.name!r}) would never be called: it is already restricted to {sorted(ranks)}."
        )
    return frozenset({i})


@final
@frozen
class Guarded:
    """A hook on one event that is called only where a trigger fires."""

    trigger: Trigger
    event: str
    entry: Entry

    def bind(self, scope: Scope, /) -> Hook:
        """The guarded hook, for one run."""
        hook = bind(self.entry, scope)
        due = self.trigger.rule.bind(EVENTS[self.event].span, scope.shared_clock)

        def hear(ctx: object) -> object:
            return hook(ctx) if due(ctx) else None

        def replace(ctx: object, value: object) -> object:
            return hook(ctx, value) if due(ctx) else value

        def wrap(ctx: object) -> object:
            return hook(ctx) if due(ctx) else nullcontext()

        return _of_kind(EVENTS[self.event].kind, hear, replace, wrap)


def guards_of(hook_set: HookSet) -> Iterator[Guarded]:
    """Every trigger in a set, with the event that it guards."""
    for _, entries in hook_set.slots:
        for entry in entries:
            inner: Entry = entry
            while isinstance(inner, PerRun) and isinstance(inner.part, Guarded):
                yield inner.part
                inner = inner.part.entry


def fenced(hook: Hook, event: str, scope: Scope) -> Hook:
    """`hook` as a quarantined set calls it: failures stay inside."""
    fence = _Fence(event, scope)

    def hear(ctx: object) -> object:
        return fence.call(lambda: hook(ctx), None)

    def replace(ctx: object, value: object) -> object:
        return fence.call(lambda: hook(ctx, value), value)

    def wrap(ctx: object) -> object:
        return _FencedManager(fence, fence.call(lambda: hook(ctx), None))

    return _of_kind(EVENTS[event].kind, hear, replace, wrap)


def _of_kind(kind: Kind, hear: Hook, replace: Hook, wrap: Hook) -> Hook:
    return {"on": hear, "transform": replace, "around": wrap}[kind]


@final
@frozen
class _Fence:
    event: str
    scope: Scope

    def call(self, hook: Callable[[], Any], instead: object) -> Any:
        scope = self.scope
        if scope.failures and self.event != "on_train_end":
            scope.missed += 1
            return instead
        try:
            return hook()
        except Exception:
            self.failed()
            return instead

    def failed(self) -> None:
        self.scope.failures += 1
        _log.exception("Hook set %r raised on %s; it is switched off, the run goes on.", self.scope.name, self.event)


@final
@frozen
class _FencedManager:
    fence: _Fence
    inner: AbstractContextManager[object] | None

    def __enter__(self) -> None:
        if self.inner is not None:
            self.fence.call(self.inner.__enter__, None)

    def __exit__(self, *raised: Any) -> None:
        if self.inner is None or self.fence.scope.failures:
            return
        try:
            self.inner.__exit__(*raised)
        except Exception as error:
            if error is not raised[1]:
                self.fence.failed()
