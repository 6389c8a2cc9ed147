"""What carries out `Save` in a run: it adds hook states and configuration to what the loop captured."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, final

from attrs import asdict, define

from trainhooks.core import Keep, Progress
from trainhooks.errors import StorageError
from trainhooks.loop import Order, Position, Saved, State
from trainhooks.store import Store

from .manifest import Manifest
from .reading import manifests_of
from .states import saved_state
from .writer import Writer

POSITION = "position"
"""The key of a manifest that says what the data must be able to do to go on from it."""


@final
@define(eq=False)
class CheckpointSaver:
    """A `Saver` over a folder of a run."""

    folder: Store
    writer: Writer
    policies: Mapping[str, Keep]
    """What the hook sets that have a say in it want kept, by their names."""
    states: Callable[[], Mapping[str, object]]
    """The states of the hook sets now, by their names."""
    config: Mapping[str, Any]
    newest: Progress | None = None
    """How far the run was at the newest checkpoint."""
    over: bool = False
    """Whether the end was waited for."""

    def save(self, order: Order, state: State, metrics: dict[str, float], position: Position, /) -> None:
        """Copy the state, and have it written. What no policy covers is kept whatever the others say."""
        asked = [self.policies[name] for name in order.by if name in self.policies]
        hooks = {name: saved_state(one) for name, one in self.states().items()}
        at = order.at
        self.writer.save(
            {**state, "hooks": hooks, "config": dict(self.config)},
            step=at.updates,
            epoch=at.epoch,
            epochs=at.epochs,
            metrics=metrics,
            tags=order.tags,
            pinned=len(asked) < len(order.by),
            resumable=position != "lost",
            monitors=list(dict.fromkeys(one.best for one in self.policies.values() if one.best is not None)),
            world_size=self.config["world_size"],
            extra={POSITION: position, "at": asdict(at), "since": asdict(order.since)},
            background=all(one.background for one in asked),
        )
        self.newest = at

    def saved(self) -> Sequence[Saved]:
        """The checkpoints that became durable since this was last asked."""
        return [
            Saved(one.step, one.tags, _progress(one.extra["at"]), _progress(one.extra["since"]))
            for one in self.writer.finished()
        ]

    def wants_end(self, at: Progress, /) -> bool:
        """Whether a set asks for checkpoints at all, and the newest is not of this very moment."""
        return bool(self.policies) and self.newest != at

    def finish(self) -> None:
        """Wait for what is still being written.

        Raises:
            CheckpointError: if the last checkpoint is not there.
        """
        if self.over:
            return
        self.over = True
        self.writer.wait()
        if (error := self.writer.unpublished) is not None:
            raise error

    def close(self) -> None:
        """End the thread that writes."""
        self.writer.close(timeout=0.0)

    def kept(self) -> tuple[Manifest, ...]:
        """The checkpoints of the run that are there, oldest first; none if the store does not answer."""
        try:
            return tuple(reversed(manifests_of(self.folder)))
        except StorageError:
            return ()


def _progress(counts: object) -> Progress:
    return Progress(**cast("dict[str, int]", counts))
