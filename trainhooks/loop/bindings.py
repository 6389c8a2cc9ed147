"""A table bound to one run: which hooks this process calls, each set with its own state and clock."""

import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, final

from attrs import define, evolve, field, frozen

from trainhooks.core import (
    EVENTS,
    Bound,
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
    needs_begin,
    triggers_of,
)

from .table import DispatchTable

_log = logging.getLogger("trainhooks")


@final
@define(eq=False)
class Member:
    """A hook set in a run."""

    owner: HookSet
    scope: Scope
    here: bool = True
    """Whether this process calls it."""
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
        """Its hooks on an event; where another process calls them, they do nothing here."""
        for one in bind(self.owner, event, self.scope):
            if not self.here:
                yield evolve(one, call=_passes_on if EVENTS[event].kind == "transform" else _does_nothing)
            elif self.owner.init is not None and event == "on_train_end":
                yield evolve(one, call=self.with_a_state(one.call))
            else:
                yield one

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
    """The sets that some process of the run calls, in the order given."""
    hooks: Mapping[str, tuple[Bound, ...]] = field(repr=False)
    """The plain hooks of each event, in dispatch order."""

    def make_states(self, begin: TrainBegin) -> None:
        """Make the states that wait for the `TrainBegin`."""
        for member in self.members:
            if member.here and needs_begin(member.owner):
                member.make_state(begin)

    def states(self) -> dict[str, Any]:
        """The state of each stateful set, by its name."""
        return {one.owner.name: one.scope.state for one in self.members if one.has_state}

    def times(self) -> HookTimes:
        """How long the timed sets took, by their names; sets of one name together."""
        times: dict[str, HookTime] = {}
        for scope in (one.scope for one in self.members if one.owner.timed and one.here):
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

    def warn_of_the_impossible(
        self, horizon: Horizon, where: str = "in this run", events: Collection[str] = EVENTS
    ) -> None:
        """Say which triggers cannot fire on these events, in a run of this length."""
        impossible = {
            f"when({trigger}, {member.owner.name!r}) can never fire {where}.": None
            for member in self.members
            for event, trigger in triggers_of(member.owner)
            if event in events
            and trigger.rule.never(horizon)
            and not (trigger.rule.at_begin and member.owner.keeps is not None)
        }
        for sentence in impossible:
            warnings.warn(sentence, RuntimeWarning, stacklevel=3)


def bind_table(
    table: DispatchTable, rank: Rank, clock: Callable[[], float], shared_clock: Callable[[], float] | None = None
) -> Bindings:
    """Bind a table to one run.

    Every process of a run has the same hooks on the same events, and so runs the same loop: those that are called
    elsewhere do nothing here. A run of one process leaves them out.

    Args:
        table: The sets.
        rank: This process.
        clock: Seconds since some fixed moment.
        shared_clock: The same on all ranks; None for `clock`.
    """
    scopes = [Scope(one.name, clock, shared_clock=shared_clock or clock) for one in table]
    all_members = [Member(one, scope, _is_called_on(one, rank)) for one, scope in zip(table, scopes, strict=True)]
    for member in all_members:
        if member.here and member.owner.init is not None and not needs_begin(member.owner):
            member.make_state(None)
    kept = [one.here or rank.world > 1 for one in all_members]
    hooks: dict[str, tuple[Bound, ...]] = {}
    for event in EVENTS:
        called = [all_members[place] for place in table.arrangement.order(event) if kept[place]]
        if called:
            hooks[event] = tuple(bound for member in called for bound in member.hooks(event))
    return Bindings(tuple(one for one, keep in zip(all_members, kept, strict=True) if keep), hooks)


def _is_called_on(one: HookSet, rank: Rank) -> bool:
    return (one.ranks is None or rank.index in one.ranks) and (one.devices is None or rank.local_index in one.devices)


def _does_nothing(ctx: object) -> None:
    pass


def _passes_on(ctx: object, value: object) -> object:
    return value
