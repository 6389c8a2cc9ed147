"""What lives as long as a run: hook sets stay values, and are bound to a run when it starts."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeGuard, final

from attrs import Factory, define, field, frozen

from .rules import Condition, Rule

Hook: TypeAlias = Callable[..., Any]
"""Any hook, its types erased: what it takes and returns was checked where it was given."""


@final
@define(eq=False)
class Scope:
    """What one hook set has of one run; made fresh for every run."""

    name: str
    """The set's name."""
    clock: Callable[[], float]
    """Seconds since some fixed moment."""
    shared_clock: Callable[[], float] = field(default=Factory(lambda scope: scope.clock, takes_self=True), kw_only=True)
    """Seconds since some fixed moment, the same in all processes of the run."""
    state: object = None
    """The set's state, if it keeps one."""
    failures: int = 0
    """How often a quarantined hook raised."""
    missed: int = 0
    """How many calls a quarantined set did not get."""
    conditions: dict[Rule, Condition] = field(factory=dict[Rule, Condition])
    """The rules of its triggers, bound to the run."""
    calls: int = 0
    """How often a timed hook was called."""
    seconds: float = 0.0
    """How long timed hooks took."""


@final
@frozen
class Itself:
    """The init of a hook object that keeps its own state: the object is the state."""

    holder: object = field(eq=id)
    """The object."""

    def __call__(self, begin: object) -> object:
        return self.holder


class KeepsState(Protocol):
    """An object that gives its state as plain data and takes it back: a scheduler, a loader, a hook object."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        ...

    def load_state_dict(self, state: Any, /) -> object:
        """Go on from a state that `state_dict` gave."""
        ...


def keeps_its_own_state(value: object) -> TypeGuard[KeepsState]:
    """Whether `value` can give its state as plain data and take it back."""
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))
