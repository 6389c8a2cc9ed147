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
    """What carries out `Save`. In a run of several processes each has one, and all are asked at the same boundaries."""

    def save(self, order: Order, state: State, metrics: dict[str, float], position: Position, /) -> None:
        """Save the state, at once or while training goes on; its tensors may change as soon as this returns.

        Over ranks every rank gives what it has, and this exchanges what one of them alone does not know.

        Args:
            order: What was asked for.
            state: The run.
            metrics: The values recorded at this very moment.
            position: What the data must be able to do for the run to go on from here exactly.
        """
        ...

    def saved(self) -> Sequence[Saved]:
        """The checkpoints that became durable since this was last asked; over ranks, those that all have heard of.

        Raises:
            CheckpointError: if one could not be written, unless the run is to go on without.
        """
        ...

    def wants_end(self, at: Progress, /) -> bool:
        """Whether a run that ends before it is complete is saved once more; all ranks say the same."""
        ...

    def news(self) -> list[object]:
        """What the savers of the other ranks must hear of, such as a checkpoint that became durable; often nothing.

        It can be pickled, and each piece is given once. Nothing is waited for.
        """
        ...

    def hear(self, news: Sequence[Sequence[object]], /) -> None:
        """Take in what `news` gave on each rank, in the order of ranks; called on all of them at one boundary."""
        ...

    def finish(self, together: bool) -> None:
        """Wait for what is still being written; `saved` tells of it afterwards.

        Args:
            together: Whether all ranks are here, and learn whether the last checkpoint is there. If not, because the
                run failed, nothing is exchanged.

        Raises:
            CheckpointError: if the last checkpoint is not there; on all ranks, if they are together.
        """
        ...
