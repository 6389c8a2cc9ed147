"""The learning rates of a run: the base of each parameter group, and what the hooks on `transform_rates` make of it."""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, final
from weakref import WeakKeyDictionary

from attrs import define, evolve, field
from torch import Tensor
from torch.optim import Optimizer

from trainhooks.core import EVENTS, Bound, Hook, HookSet, Rates
from trainhooks.errors import RunDefinitionError

from .saver import State

_log = logging.getLogger("trainhooks")
_SETS_RATES: Final = "rates"
_STEPS_ON_BASES: Final = "base_rates"


@final
@define(eq=False)
class _Group:
    """The learning rate of one parameter group."""

    base: float
    """What hooks are given: what the group had when the run first saw it, or what a set made of that since."""
    rate: float
    """What the optimizer steps with, as it was put there."""
    holder: object
    """What the group holds: that number itself, or a tensor, which is filled and never read."""

    def take(self, found: Any) -> None:
        """Take what somebody else put into the group as its rate now, and scale the base with it."""
        self.holder = found
        if not isinstance(found, Tensor) and found != self.rate:
            self.base = self.base * (found / self.rate) if self.rate and self.rate != self.base else float(found)
            self.rate = float(found)

    def put(self, group: dict[str, Any], rate: float) -> None:
        """Give the group this rate."""
        self.rate = rate
        if isinstance(self.holder, Tensor):
            self.holder.detach().fill_(rate)
        else:
            self.holder = rate
        group["lr"] = self.holder


@final
@define(eq=False)
class LearningRates:
    """The learning rates of one optimizer.

    Where a window opens, the hooks on `transform_rates` are given the base of each group, and the group what they
    return. A number that somebody else puts into a group scales its base.
    """

    optimizer: Optimizer
    optimizer_idx: int
    """The optimizer's position, from 0."""
    transformed: bool
    """Whether there is a hook on `transform_rates`."""
    stepped: bool = False
    """Whether there is a set that steps on the bases."""
    given: list[float] = field(factory=list[float], init=False)
    """What the program gave the groups, before the first state of a hook was made."""
    _groups: list[_Group] = field(factory=list[_Group], init=False)

    def __attrs_post_init__(self) -> None:
        for group, left in zip(self.optimizer.param_groups, _LEFT.get(self.optimizer, ()), strict=False):
            if group["lr"] is not left.holder:
                break
            self._groups.append(_Group(left.base, left.rate, left.holder))
        self._see_groups()
        self.given = [own.base for own in self._groups]
        _LEFT[self.optimizer] = self._groups

    def bases(self) -> Rates:
        """The base of each group."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self._groups):
            self._see_groups()
        for group, own in zip(groups, self._groups, strict=True):
            if group["lr"] is not own.holder:
                own.take(group["lr"])
        return tuple([own.base for own in self._groups])

    def put(self, rates: Rates) -> None:
        """Give each group its rate."""
        for group, own, rate in zip(self.optimizer.param_groups, self._groups, rates, strict=True):
            if type(own.holder) is float:  # as in nearly all runs, without the price of a call
                group["lr"] = own.holder = own.rate = rate
            else:
                own.put(group, rate)

    def show_bases(self) -> None:
        """Let each group hold its base, as a number."""
        for group, base in zip(self.optimizer.param_groups, self.bases(), strict=True):
            group["lr"] = base

    def take_bases(self) -> None:
        """Take what each group holds as its base, and let it hold its rate again: the base, if no hook made another."""
        for group, own in zip(self.optimizer.param_groups, self._groups, strict=False):  # a group may be new
            base = float(group["lr"])
            rate = base if own.rate == own.base else own.rate
            own.base = base
            own.put(group, rate)

    def state(self) -> State:
        """Bases and rates, as plain data."""
        return {"given": list(self.given), "bases": list(self.bases()), "rates": [own.rate for own in self._groups]}

    def restore(self, saved: State) -> None:
        """Go on from a state, once the optimizer has its own; without a hook on `transform_rates`, at the bases."""
        holders = [group["lr"] for group in self.optimizer.param_groups]
        self._groups[:] = [_Group(*one) for one in zip(saved["bases"], saved["rates"], holders, strict=True)]
        if not self.transformed:
            self.put(self.bases())
        for place, (was, now) in enumerate(zip(saved["given"], self.given, strict=False)):
            if was != now:
                self._begin_anew(place, was, now)

    def _begin_anew(self, place: int, was: float, now: float) -> None:
        """Take the rate that the program gives now as the base, unless a scheduler holds on to the old one."""
        effect = "sets that step on the rates go on from what they reached" if self.stepped else "it is the new base"
        _log.info(
            "The lr of group %d of the %s was %s and is %s; %s.", place, type(self.optimizer).__name__, was, now, effect
        )
        if not self.stepped:
            self._groups[place].base = now
            self._groups[place].put(self.optimizer.param_groups[place], now)

    def _see_groups(self) -> None:
        """See which groups there are now."""
        groups = self.optimizer.param_groups
        del self._groups[len(groups) :]
        for group in groups[len(self._groups) :]:
            found = group["lr"]
            rate = float(found.detach() if isinstance(found, Tensor) else found)  # a tensor is read here, once
            self._groups.append(_Group(rate, rate, found))


_LEFT: Final = WeakKeyDictionary[Optimizer, list[_Group]]()
"""What the last run of each optimizer left: where nobody has changed a rate since, a further run begins at its base."""


def rates_of(optimizers: Sequence[Optimizer], hooks: Mapping[str, Sequence[Bound]]) -> list[LearningRates]:
    """The learning rates of the optimizers that have any, for a run with these hooks.

    Raises:
        RunDefinitionError: if a group's rate is None and a hook would change it.
    """
    users = list(dict.fromkeys(_users(hooks)))
    found: list[LearningRates] = []
    for index, optimizer in enumerate(optimizers):
        rates = [group.get("lr") for group in optimizer.param_groups]
        if None not in rates:
            stepped = any(steps_on_bases(one.owner) for bound in hooks.values() for one in bound)
            found.append(LearningRates(optimizer, index, "transform_rates" in hooks, stepped))
        elif users and "lr" in optimizer.param_groups[rates.index(None)]:
            raise RunDefinitionError(
                f"The parameter group {rates.index(None)} of the {type(optimizer).__name__} has lr=None, so there is "
                f"no learning rate for {', '.join(map(repr, users))} to change; give the group a number, or leave that "
                "out."
            )
    return found


def _users(hooks: Mapping[str, Sequence[Bound]]) -> Iterator[str]:
    """The names of the sets that change learning rates."""
    for event, bound in hooks.items():
        for one in bound:
            if event == "transform_rates" or steps_on_bases(one.owner):
                yield one.owner.name


def check_first(bound: Sequence[Bound]) -> None:
    """Refuse a set that sets learning rates whatever they were, unless it is the first on `transform_rates`.

    Raises:
        RunDefinitionError: if what comes before it would have no effect.
    """
    for one in bound[1:]:
        if _SETS_RATES in one.owner.writes:
            first, name = bound[0].owner.name, one.owner.name
            raise RunDefinitionError(
                f"{name!r} sets the learning rates whatever they were, so what {first!r} makes of them before has no "
                f"effect. Give {name!r} before {first!r}; of two that set them so, leave one out."
            )


def steps_on_bases(hook_set: HookSet) -> bool:
    """Whether the hooks of a set change the base of learning rates."""
    return _STEPS_ON_BASES in hook_set.writes


@contextmanager
def on_bases(rates: Sequence[LearningRates]) -> Generator[None]:
    """While this is entered, groups hold their bases; what is left there are the new ones."""
    for one in rates:
        one.show_bases()
    try:
        yield
    finally:
        for one in rates:
            one.take_bases()


def stepping_on_bases(
    hooks: Mapping[str, tuple[Bound, ...]], rates: Callable[[], Sequence[LearningRates]]
) -> Mapping[str, tuple[Bound, ...]]:
    """The hooks, those of sets that step on the base called while groups hold it."""

    def on_base(hook: Hook) -> Hook:
        def call(ctx: object) -> object:
            with on_bases(rates()):
                return hook(ctx)

        return call

    def of_event(event: str, bound: tuple[Bound, ...]) -> tuple[Bound, ...]:
        if EVENTS[event].kind != "on":
            return bound
        return tuple(evolve(one, call=on_base(one.call)) if steps_on_bases(one.owner) else one for one in bound)

    return {event: of_event(event, bound) for event, bound in hooks.items()}
