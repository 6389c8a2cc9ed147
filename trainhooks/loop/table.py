"""`DispatchTable`: hook sets in a checked order, and `compose`, which makes it."""

from collections.abc import Iterator, Sequence
from typing import Any, final, overload

from attrs import field, frozen
from typing_extensions import TypeVar

from trainhooks.core import Arrangement, Hooks, HookSet, arrange, flatten, spec_of

from .specialiser import source_for

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)


@final
@frozen
class DispatchTable(Sequence[HookSet]):
    """Hook sets in the order given, with the order of each event; made by `compose`, and composable again.

    Tables compare and hash by value.
    """

    sets: tuple[HookSet, ...]
    """The sets, in the order given."""
    arrangement: Arrangement = field(eq=False, repr=False)
    """Their constraints, known to be free of contradictions."""

    def order(self, event: str) -> tuple[str, ...]:
        """Names of the sets that hear `event`, in the order in which they are called.

        Raises:
            HookDefinitionError: if there is no such event, with the nearest.
        """
        return tuple(self.sets[place].name for place in self.arrangement.order(spec_of(event).name))

    @property
    def events(self) -> frozenset[str]:
        """The events that somebody hears."""
        return frozenset(event for one in self.sets for event, _ in one.slots)

    @property
    def source(self) -> str:
        """The source of the loop that runs for this table: the reference loop without what nobody hears."""
        return source_for(self.events)

    @overload
    def __getitem__(self, index: int) -> HookSet: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[HookSet, ...]: ...
    def __getitem__(self, index: int | slice) -> HookSet | tuple[HookSet, ...]:
        return self.sets[index]

    def __len__(self) -> int:
        return len(self.sets)

    def __iter__(self) -> Iterator[HookSet]:
        return iter(self.sets)


def compose(*hooks: Hooks[B, O]) -> DispatchTable:
    """Put hooks in order: ascending `order`, then as given, moved only as far as constraints ask.

    Pure and associative, `compose()` is the identity; no hook is called.

    Raises:
        HookDefinitionError: if something is no hook.
        OrderCycleError: if orders and constraints contradict one another.
        DuplicateHookNameError: if two stateful sets have one name.
        RunDefinitionError: if two sets provide one value.

    Example:
        >>> compose({"name": "b", "on_batch_end": print}, {"name": "a", "order": -1, "on_batch_end": print}).order(
        ...     "on_batch_end"
        ... )
        ('a', 'b')
    """
    sets = tuple(flatten(hooks))
    return DispatchTable(sets, arrange(sets))
