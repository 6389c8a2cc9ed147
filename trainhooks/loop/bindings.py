"""A table bound to one run: which hooks this process calls, each set with its own state and clock."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, final

from attrs import define, field, frozen

from trainhooks.core import (
    EVENTS,
    Hook,
    HookSet,
    HookTime,
    HookTimes,
    Horizon,
    Keep,
    Rank,
    Scope,
    TrainBegin,
    bind,
    fenced,
    guards_of,
    needs_begin,
)

from .around import Bound
from .table import DispatchTable

_log = logging.getLogger("trainhooks")


@final
@define(eq=False)
class Member:
    """A hook set in a run."""

    owner: HookSet
    scope: Scope
    has_state: bool = False
    """Whether its state was made."""

    def make_state(self, begin: TrainBegin | None) -> None:
        """Make its first state."""
        init: Callable[..., object] | None = self.owner.init
        assert init is not None
        self.take_state("init", lambda: init(begin))

    def take_state(self, source: str, make: Callable[[], object]) -> None:
        """Take over the state that `make` gives, unless the set is quarantined and that raises."""
        try:
            self.scope.state = make()
            self.has_state = True
        except Exception as error:
            if not self.owner.quarantined:
                error.add_note(f"Raised in the {source} of the hook set {self.owner.name!r}.")
                raise
            self.scope.failures += 1
            _log.exception(
                "The %s of hook set %r raised; it is switched off, the run goes on.", source, self.owner.name
            )

    def hooks(self, event: str) -> Iterator[Bound]:
        """Its hooks on an event."""
        for entry in self.owner.hooks(event):
            hook = bind(entry, self.scope)
            if self.owner.quarantined:
                hook = fenced(hook, event, self.scope)
            if self.owner.init is not None and event == "on_train_end":
                hook = self.with_a_state(hook)
            yield Bound(self.owner, hook)

    def with_a_state(self, hook: Hook) -> Hook:
        """`hook`, called only if the run came as far as making the set's state."""

        def hear(ctx: object) -> object:
            return hook(ctx) if self.has_state else None

        return hear


@final
@frozen(eq=False)
class Bindings:
    """A table bound to one run."""

    members: tuple[Member, ...]
    """The sets that this process calls, in the order given."""
    hooks: Mapping[str, tuple[Bound, ...]] = field(repr=False)
    """The plain hooks of each event, in dispatch order."""

    def make_states(self, begin: TrainBegin) -> None:
        """Make the states that wait for the `TrainBegin`."""
        for member in self.members:
            if needs_begin(member.owner):
                member.make_state(begin)

    def states(self) -> dict[str, Any]:
        """The state of each stateful set, by its name."""
        return {one.owner.name: one.scope.state for one in self.members if one.has_state}

    def times(self) -> HookTimes:
        """How long the timed sets took, by their names; sets of one name together."""
        times: dict[str, HookTime] = {}
        for scope in (one.scope for one in self.members if one.scope.timed):
            so_far = times.get(scope.name, HookTime())
            times[scope.name] = HookTime(calls=so_far.calls + scope.calls, total=so_far.total + scope.seconds)
        return HookTimes(times)

    def restore_states(self, saved: Mapping[str, Any], restored: Callable[[Any, Any], Any]) -> None:
        """Let the sets go on from saved states; `restored(fresh, saved)` makes a state of what was saved of it."""
        for member in self.members:
            if member.has_state and member.owner.name in saved:
                one = saved[member.owner.name]
                member.take_state("saved state", partial(restored, member.scope.state, one))

    def keepers(self) -> dict[str, Keep]:
        """What the sets that have a say in it want of checkpoints, by their names."""
        return {one.owner.name: one.owner.keeps for one in self.members if one.owner.keeps is not None}

    def monitored(self) -> Iterator[tuple[str, str]]:
        """Each set and each value that it reads, by their names."""
        return ((one.owner.name, value) for one in self.members for value in sorted(one.owner.reads - {"*"}))

    def warn_of_the_quarantined(self) -> None:
        """Say which sets were switched off, once, at the end."""
        for member in self.members:
            scope = member.scope
            if scope.failures:
                warnings.warn(
                    f"The hook set {scope.name!r} raised and was switched off: {scope.failures} calls failed, "
                    f"{scope.missed} were not made. The log has the traceback.",
                    RuntimeWarning,
                    stacklevel=3,
                )

    def warn_of_the_impossible(self, horizon: Horizon) -> None:
        """Say which triggers cannot fire in a run of this length."""
        impossible = {
            f"when({guard.trigger}, {member.owner.name!r}) can never fire on {guard.event} in this run.": None
            for member in self.members
            for guard in guards_of(member.owner)
            if guard.trigger.rule.never(horizon)
        }
        for sentence in impossible:
            warnings.warn(sentence, RuntimeWarning, stacklevel=3)


def bind_table(table: DispatchTable, rank: Rank, clock: Callable[[], float]) -> Bindings:
    """Bind the sets of a table that this process calls."""
    all_members = [Member(one, Scope(name=one.name, clock=clock)) for one in table]
    here = [_is_called_on(one, rank) for one in table]
    members = tuple(one for one, called in zip(all_members, here, strict=True) if called)
    for member in members:
        if member.owner.init is not None and not needs_begin(member.owner):
            member.make_state(None)
    hooks: dict[str, tuple[Bound, ...]] = {}
    for event in EVENTS:
        called = [all_members[place] for place in table.arrangement.order(event) if here[place]]
        if called:
            hooks[event] = tuple(bound for member in called for bound in member.hooks(event))
    return Bindings(members, hooks)


def _is_called_on(one: HookSet, rank: Rank) -> bool:
    return (one.ranks is None or rank.index in one.ranks) and (one.devices is None or rank.local_index in one.devices)
