"""What carries out `Save` in a run: it adds hook states and configuration to what the loop captured."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast, final

import torch
from attrs import asdict, define, field, frozen

from trainhooks.core import Keep, Progress
from trainhooks.distributed import Ranks
from trainhooks.errors import CheckpointError, StorageError
from trainhooks.loop import Order, Position, Saved, State
from trainhooks.store import Store

from .attempts import Attempt
from .gathering import Gathering
from .manifest import Manifest
from .outcomes import PartNews
from .parts import Part, share
from .pooling import pooled
from .reading import manifests_of
from .states import saved_state
from .tree import AVERAGES, entry_of
from .writer import Writer

POSITION = "position"
"""The key of a manifest that says what the data must be able to do to go on from it."""
FED = "fed"
"""The key of a manifest that says how many batches of the epoch each rank had read."""
JUDGED = "judged"
"""The key of a manifest that says of evaluations made there which set's weights they looked at, who else had written
to the model, and the values that they recorded."""
BATCH_SIZE = "batch_size"
"""The key of a manifest that says how many samples each of them had; null where the data does not say."""
_SHARDED = ("model", "optimizers", AVERAGES, "hooks")
"""The entries of a state that hold sharded tensors."""
_TURN = 1.0
"""Seconds that a rank waits for a store before it tells the others that it still does, far below their patience."""


@final
@frozen
class NotSaved:
    """A save that failed, as the other ranks hear of it."""

    why: str


News: TypeAlias = Manifest | NotSaved | PartNews


@final
@define(eq=False)
class CheckpointSaver:
    """A `Saver` over a folder of a run."""

    folder: Store
    attempt: Attempt
    writer: Writer | None
    """None on a rank that writes nothing."""
    policies: Mapping[str, Keep]
    """What the hook sets that have a say in it want kept, by their names; the same on every rank."""
    states: Callable[[], Mapping[str, object]]
    """The states of the hook sets now, by their names."""
    config: Mapping[str, Any]
    device: torch.device
    """Where the run trains."""
    ranks: Ranks | None = None
    """The processes of the run; None if this is the only one."""
    sharded: bool = False
    """Whether each rank holds a part of the state, and writes it."""
    newest: Progress | None = None
    """How far the run was at the newest checkpoint."""
    over: bool = False
    """Whether the end was waited for."""
    _untold: list[News] = field(factory=list[News])  # given to the others, who may not have heard it yet
    _heard: list[Manifest | NotSaved] = field(factory=list[Manifest | NotSaved])  # all know it, nobody asked for it yet
    _failure: CheckpointError | None = None  # what came to be a `NotSaved`, with its causes
    _alone: bool = False  # whether the others are not to be waited for any more
    _there: tuple[Manifest, ...] | None = None  # the checkpoints that were there at the end
    _parts: Gathering | None = None  # on rank 0

    def __attrs_post_init__(self) -> None:
        if self.ranks is not None and self.ranks.rank.index == 0 and self.writer is not None:
            self._parts = Gathering(self.writer, self.ranks.rank.world)

    def save(self, order: Order, state: State, metrics: dict[str, float], position: Position, /) -> None:
        """Copy the state, and have it written. What no policy covers is kept whatever the others say."""
        hooks = {name: saved_state(one) for name, one in self.states().items()}
        averages = {entry_of(name): weights for name, weights in state[AVERAGES].items()}
        here = {**state, AVERAGES: averages, "hooks": hooks, "config": dict(self.config)}
        ranks, whole = self.ranks, here
        if ranks is not None:
            whole = pooled(ranks, here, self.device) or {}
        if ranks is not None and self.sharded:
            part = share(whole or {name: here[name] for name in _SHARDED}, ranks.rank.index)
            # A checkpoint that training waits for is committed here: all ranks are.
            if not self._write(order, part, metrics, position, state["loop"]):
                self._wait_together(ranks)
        elif whole:
            self._write(order, whole, metrics, position, state["loop"])
        self.newest = order.at

    def _write(
        self, order: Order, whole: State | Part, metrics: dict[str, float], position: Position, loop: State
    ) -> bool:
        """Have it written, and say whether training goes on meanwhile."""
        assert self.writer is not None
        asked = [self.policies[name] for name in order.by if name in self.policies]
        at = order.at
        background = all(one.background for one in asked)
        self.writer.save(
            whole,
            step=at.updates,
            epoch=at.epoch,
            epochs=at.epochs,
            metrics=metrics,
            tags=order.tags,
            pinned=len(asked) < len(order.by),
            resumable=position != "lost",
            monitors=list(dict.fromkeys(one.best for one in self.policies.values() if one.best is not None)),
            world_size=self.config["world_size"],
            extra={
                POSITION: position,
                FED: loop[FED],
                JUDGED: loop[JUDGED],
                BATCH_SIZE: loop[BATCH_SIZE],
                "at": asdict(at),
                "since": asdict(order.since),
            },
            background=background,
        )
        return background

    def saved(self) -> Sequence[Saved]:
        """The checkpoints that became durable since this was last asked; over ranks, those that all have heard of.

        Raises:
            CheckpointError: if one could not be written, unless every policy says to warn; on every rank.
        """
        if self.ranks is None or self._alone:
            self.news()
            self._heard += [one for one in self._untold if isinstance(one, Manifest | NotSaved)]
            self._untold.clear()
        failures = [one for one in self._heard if isinstance(one, NotSaved)]
        if failures:
            self._heard = [one for one in self._heard if not isinstance(one, NotSaved)]
            own, self._failure = self._failure, None
            raise own or CheckpointError(failures[0].why)
        heard, self._heard = self._heard, []
        return [
            Saved(one.step, one.tags, _progress(one.extra["at"]), _progress(one.extra["since"]))
            for one in heard
            if isinstance(one, Manifest)
        ]

    def wants_end(self, at: Progress, /) -> bool:
        """Whether a set asks for checkpoints at all, and the newest is not of this very moment."""
        return bool(self.policies) and self.newest != at

    def news(self) -> list[object]:
        """What became durable, or failed, since this was last asked."""
        fresh: list[News] = []
        if self.writer is not None:
            try:
                fresh += self.writer.finished()
            except CheckpointError as error:  # what became durable is told the next time
                self._failure = error
                fresh.append(NotSaved(str(error)))
            fresh += self.writer.parts()
        self._untold += fresh
        return list(fresh)

    def hear(self, news: Sequence[Sequence[object]], /) -> None:
        """Take in what `news` gave on each rank."""
        if self.ranks is not None:
            del self._untold[: len(news[self.ranks.rank.index])]
        self._heard += [one for said in news for one in said if isinstance(one, Manifest | NotSaved)]
        if self._parts is not None:
            self._parts.hear(news)

    def finish(self, together: bool) -> None:
        """Wait for what is still being written, and see what is there.

        Raises:
            CheckpointError: if the last checkpoint is not there; on all ranks, if they are together.
        """
        self._alone = self._alone or not together
        if self.over:
            return
        self.over = True
        if self.ranks is not None and together:
            self._wait_together(self.ranks)
            missing, self._there = self.ranks.from_first(lambda: (self._missing(), self.kept()))
            if self.ranks.rank.index == 0:
                missing = self._missing()  # with its causes
        else:
            if self.writer is not None:
                self.writer.wait()
            missing = self._missing()
        if missing is not None:
            raise missing

    def _wait_together(self, ranks: Ranks) -> None:
        """Wait until no rank writes, and all have heard what came of it; no exchange waits for a store for long."""
        while True:
            done = self.writer is None or self.writer.wait(_TURN)
            self.news()
            said = ranks.gather((done, tuple(self._untold)))
            self.hear([news for _, news in said])
            if all(done and not news for done, news in said):
                return

    def _missing(self) -> CheckpointError | None:
        """Why the last checkpoint is not there."""
        return None if self.writer is None else self.writer.unpublished

    def close(self) -> None:
        """End the thread that writes."""
        if self.writer is not None:
            self.writer.close(timeout=0.0)

    def kept(self) -> tuple[Manifest, ...]:
        """The checkpoints of the run that are there, oldest first; none if the store does not answer.

        Over ranks, those that were there when they ended together, the same on each.
        """
        if self._there is not None:
            return self._there
        try:
            return tuple(reversed(manifests_of(self.folder)))
        except StorageError:
            return ()


def _progress(counts: object) -> Progress:
    return Progress(**cast("dict[str, int]", counts))
