"""Checkpoints, as the loop sees them: it says when, a `Saver` says how."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, final

from attrs import frozen

from trainhooks.core import Progress

State: TypeAlias = dict[str, Any]
"""The state of a run as one value: dicts, lists, tuples, plain data and tensors."""


Position: TypeAlias = Literal["between epochs", "cursor", "own", "lost"]
"""Where a run is in its data: between two epochs, or within one, where a cursor, or the data's own state, goes on, or
nothing does."""


@final
@frozen(kw_only=True)
class Order:
    """One checkpoint, as asked for at a boundary."""

    tags: tuple[str, ...]
    """The words that it carries."""
    by: tuple[str, ...]
    """Names of the hook sets that asked for it; none for the one that ends a run."""
    at: Progress
    since: Progress
    """When the window before the boundary began."""


@final
@frozen
class Saved:
    """A checkpoint that became durable."""

    step: int
    """The update count that it holds."""
    tags: tuple[str, ...]
    """The words that it carries."""
    at: Progress
    """When it was captured."""
    since: Progress
    """When the window before its boundary began."""


class Saver(Protocol):
    """What carries out `Save`."""

    def save(self, order: Order, state: State, metrics: dict[str, float], position: Position, /) -> None:
        """Save the state, at once or while training goes on; its tensors may change as soon as this returns.

        Args:
            order: What was asked for.
            state: The run.
            metrics: The values recorded at this very moment.
            position: What the data must be able to do for the run to go on from here exactly.
        """
        ...

    def saved(self) -> Sequence[Saved]:
        """The checkpoints that became durable since this was last asked.

        Raises:
            CheckpointError: if one could not be written, unless the run is to go on without.
        """
        ...

    def wants_end(self, at: Progress, /) -> bool:
        """Whether a run that ends before it is complete is saved once more."""
        ...

    def finish(self) -> None:
        """Wait for what is still being written."""
        ...
