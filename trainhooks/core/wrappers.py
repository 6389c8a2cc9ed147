"""Wrappers: a factory says what a hook does; these say when, where, and as what.

Each sets one field of the set, so wrappers commute, and one that is given twice counts once. When a run starts, `bind`
makes of a hook what the loop calls, in one order whatever the order in which they were written, from the outermost:

    quarantine    what it raises is logged, and the set is switched off
    when          elsewhere it is not called
    timed         the calls that are made are measured
    state         the set's state is handed in, and what comes back is kept
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast, final

from attrs import frozen
from typing_extensions import TypeVar

from trainhooks.errors import HookDefinitionError, shown

from .binding import Hook, Scope
from .definitions import definition_of
from .events import EVENTS, EventSpec, Kind
from .hookset import Entry, Hooks, HookSet, changed, flatten, gated, is_gated, part_of
from .rules import Condition, Rule, keeps_time
from .settings import whole_number
from .triggers import Trigger, both

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)

_log = logging.getLogger("trainhooks")


def when(trigger: Trigger, *hooks: Hooks[B, O]) -> tuple[HookSet[B, O], ...]:
    """Call the hooks only where `trigger` fires; elsewhere a value passes unchanged and nothing is wrapped.

    Each event is judged by one interval: one of a batch by the batch and the update that it closes, one of an
    evaluation by the window before it, one of an epoch by the epoch; in `"epochs"` all are judged by the epoch that
    they lie in. So the events of one batch, one evaluation, one epoch are heard together or not at all. Under
    `"updates"` only the batch that closes a window is heard; count in `"batches"` to hear the others. The begin of an
    epoch is gated in `"epochs"` alone; registration and the begin and end of a run are not gated.

    Raises:
        HookDefinitionError: if a set has nothing that a trigger could gate, or says itself when it acts.

    Example:
        >>> from trainhooks import every
        >>> when(every(2, "epochs"), {"name": "loud", "on_epoch_end": print})
        (HookSet('loud': on_epoch_end),)
    """
    if not isinstance(trigger, Trigger):
        raise HookDefinitionError(f"when wants a trigger first, such as every(100, 'updates'), got {shown(trigger)}.")
    return tuple(gated(changed(one, when=both(trigger, one.when))) for one in _sets(hooks))


def for_rank(rank: int, *hooks: Hooks[B, O]) -> tuple[HookSet[B, O], ...]:
    """Call the hooks only in the process of this global rank, from 0."""
    rank = _rank("for_rank", rank)
    return tuple(changed(one, ranks=_narrowed("for_rank", one, one.ranks, rank)) for one in _sets(hooks))


def for_device(index: int, *hooks: Hooks[B, O]) -> tuple[HookSet[B, O], ...]:
    """Call the hooks only in the process with this index within its node, from 0, on every node."""
    index = _rank("for_device", index)
    return tuple(changed(one, devices=_narrowed("for_device", one, one.devices, index)) for one in _sets(hooks))


def named(name: str, hook: Hooks[B, O]) -> HookSet[B, O]:
    """The same hook set under another name; a stateful set's state is saved under it."""
    _check_name(name)
    return changed(_single("named", hook), name=name)


def ordered(order: int, hook: Hooks[B, O]) -> HookSet[B, O]:
    """The same hook set at another place: lower orders come first, in every event."""
    number = whole_number(order)
    if number is None:
        raise HookDefinitionError(f"ordered wants a whole number first, got {shown(order)}.")
    return changed(_single("ordered", hook), order=number)


def quarantine(*hooks: Hooks[B, O]) -> tuple[HookSet[B, O], ...]:
    """Let the run go on when one of these sets raises: it is logged, switched off, and counted in a warning at the end.

    A set that was switched off still hears `on_train_end`, so that it can close what it holds, and a context manager
    that it has entered is left. For sinks: what decides about training should fail loudly.
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
    return tuple(changed(one, timed=True) for one in _sets(hooks))


def _sets(hooks: tuple[Hooks[B, O], ...]) -> Iterator[HookSet[B, O]]:
    return cast("Iterator[HookSet[B, O]]", flatten(hooks))


def _single(word: str, hook: Hooks[B, O]) -> HookSet[B, O]:
    hook_sets = tuple(_sets((hook,)))
    if len(hook_sets) != 1:
        raise HookDefinitionError(f"{word} takes one hook set, got {len(hook_sets)}: {shown(hook_sets)}.")
    return hook_sets[0]


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise HookDefinitionError(f"named wants a name first, got {shown(name)}.")


def _rank(word: str, rank: object) -> int:
    number = whole_number(rank, 0)
    if number is None:
        raise HookDefinitionError(f"{word} takes a rank, a whole number from 0 on, got {shown(rank)}.")
    return number


def _narrowed(word: str, one: HookSet, ranks: frozenset[int] | None, rank: int) -> frozenset[int]:
    if ranks is not None and rank not in ranks:
        raise HookDefinitionError(
            f"{word}({rank}, {one.name!r}) would never be called: it is already restricted to {sorted(ranks)}."
        )
    return frozenset({rank})


def triggers_of(hook_set: HookSet) -> Iterator[tuple[str, Trigger]]:
    """Each event of a set on which a trigger decides, and that trigger."""
    for event, entries in hook_set.slots:
        own = hook_set.when if is_gated(hook_set, EVENTS[event]) else None
        for trigger in dict.fromkeys(both(own, part_of(entry).when) for entry in entries):
            if trigger is not None:
                yield event, trigger


@final
@frozen(eq=False)
class Bound:
    """A hook bound to a run: what the loop calls."""

    owner: HookSet
    """The set that it belongs to."""
    function: Hook
    """The hook as its user wrote it."""
    call: Hook
    """What is called with the context, and the value of a transform. On an `around_*` event it enters the context
    manager and gives it as `Entered`, or None if nothing was entered."""
    leave: Callable[..., bool | None] | None = None
    """On an `around_*` event, what leaves it again: `leave(ctx, entered, *what __exit__ takes)`."""


@final
@frozen(eq=False)
class Entered:
    """A context manager that an `around_*` hook gave and that was entered."""

    manager: Any
    value: object
    """What its `__enter__` returned."""


def bind(owner: HookSet, event: str, scope: Scope) -> Iterator[Bound]:
    """The hooks of a set on an event, bound to a run, in order."""
    return (_bound(owner, EVENTS[event], entry, scope) for entry in owner.hooks(event))


def _bound(owner: HookSet, spec: EventSpec, entry: Entry, scope: Scope) -> Bound:
    part = part_of(entry)
    call = _with_state(part.call, spec, scope) if part.keeps_state else part.call
    leave: Callable[..., Any] | None = None
    if spec.kind == "around":
        call, leave = _entering(call, spec, owner), _leave
    if owner.timed:
        call, leave = _measured(call, scope, counts=1), leave and _measured(leave, scope, counts=0)
    triggers = [part.when, owner.when if is_gated(owner, spec) else None]
    if asked := [one for one in triggers if one is not None]:
        call = _only_when(call, spec, asked, scope)
    if owner.quarantined:
        call, leave = _fenced(call, spec, scope), leave and _left_within_a_fence(leave, spec, scope)
    return Bound(owner, part.call, call, leave)


def _with_state(hook: Hook, spec: EventSpec, scope: Scope) -> Hook:
    def pair(returned: object, second: str) -> tuple[object, object]:
        if not isinstance(returned, tuple) or len(two := cast("tuple[object, ...]", returned)) != 2:
            raise HookDefinitionError(
                f"A stateful hook on {spec.name} returns (state, {second}), but {definition_of(hook)} returned "
                f"{returned!r}."
            )
        return two[0], two[1]

    def hear(ctx: object) -> object:
        scope.state, answer = pair(hook(ctx, scope.state), "answer")
        return answer

    def replace(ctx: object, value: object) -> object:
        scope.state, value = pair(hook(ctx, value, scope.state), "value")
        return value

    def wrap(ctx: object) -> object:
        return hook(ctx, scope.state)

    kinds: Mapping[Kind, Hook] = {"on": hear, "transform": replace, "around": wrap}
    return kinds[spec.kind]


def _entering(hook: Hook, spec: EventSpec, owner: HookSet) -> Hook:
    def enter(ctx: object) -> Entered:
        manager: Any = hook(ctx)
        if not (hasattr(manager, "__enter__") and hasattr(manager, "__exit__")):
            raise HookDefinitionError(
                f"{spec.name} returns a context manager, but {owner.name!r} returned {shown(manager)}; "
                "decorate the function with @contextlib.contextmanager."
            )
        return Entered(manager, manager.__enter__())

    return enter


def _leave(ctx: object, entered: Entered, *raised: object) -> bool | None:
    swallows: bool | None = entered.manager.__exit__(*raised)
    return swallows


def _measured(call: Callable[..., Any], scope: Scope, *, counts: int) -> Callable[..., Any]:
    def measured(*given: object) -> Any:
        began = scope.clock()
        try:
            return call(*given)
        finally:
            scope.seconds += scope.clock() - began
            scope.calls += counts

    return measured


def _only_when(hook: Hook, spec: EventSpec, triggers: list[Trigger], scope: Scope) -> Hook:
    interval = spec.interval
    in_order = sorted((one.rule for one in triggers), key=keeps_time)  # what keeps time counts only what fires
    first, *more = [_condition(rule, scope) for rule in in_order]

    def due(ctx: object) -> bool:
        return first(interval, ctx) and all(holds(interval, ctx) for holds in more)

    def hear(ctx: object) -> object:
        return hook(ctx) if due(ctx) else None

    def replace(ctx: object, value: object) -> object:
        return hook(ctx, value) if due(ctx) else value

    return replace if spec.kind == "transform" else hear


def _condition(rule: Rule, scope: Scope) -> Condition:
    """A rule bound to the run: once for all hooks of a set, so that they agree."""
    if rule not in scope.conditions:
        scope.conditions[rule] = rule.bind(scope.shared_clock)
    return scope.conditions[rule]


def _fenced(hook: Hook, spec: EventSpec, scope: Scope) -> Hook:
    def call(ctx: object, *value: object) -> object:
        instead = value[0] if value else None
        if scope.failures and spec.name != "on_train_end":
            scope.missed += 1
            return instead
        try:
            return hook(ctx, *value)
        except Exception:
            _switch_off(scope, spec)
            return instead

    return call


def _left_within_a_fence(leave: Callable[..., Any], spec: EventSpec, scope: Scope) -> Callable[..., Any]:
    def leave_all_the_same(ctx: object, entered: Entered, *raised: Any) -> bool | None:
        try:
            swallows: bool | None = leave(ctx, entered, *raised)
        except Exception as error:
            if error is not raised[1]:
                _switch_off(scope, spec)
            return None
        return swallows

    return leave_all_the_same


def _switch_off(scope: Scope, spec: EventSpec) -> None:
    scope.failures += 1
    _log.exception("Hook set %r raised on %s; it is switched off, the run goes on.", scope.name, spec.name)
