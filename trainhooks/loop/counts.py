"""The counters of a run, which its loop moves and hooks see as `Progress`."""

from collections.abc import Mapping
from typing import final

from attrs import define, field

from trainhooks.core import Progress


@final
@define(eq=False)
class Counts:
    """The fields of `Progress`, in motion."""

    updates: int = 0
    batches: int = 0
    epochs: int = 0
    epoch: int = 0
    batch: int = 0

    def progress(self, updates: int | None = None) -> Progress:
        """As hooks see it."""
        return Progress(
            updates=self.updates if updates is None else updates,
            batches=self.batches,
            epochs=self.epochs,
            epoch=self.epoch,
            batch=self.batch,
        )

    def set(self, counts: Mapping[str, int]) -> None:
        """Take over counts by name."""
        for name, count in counts.items():
            setattr(self, name, count)

    def take(self, other: "Counts") -> None:
        """Become equal to `other`."""
        self.updates, self.batches, self.epochs = other.updates, other.batches, other.epochs
        self.epoch, self.batch = other.epoch, other.batch


@final
@define(eq=False)
class Boundaries:
    """The counters at the newest boundaries."""

    newest: Counts = field(factory=Counts)
    """At the last one."""
    before: Counts = field(factory=Counts)
    """At the one before that, or when the epoch began."""
    _since: Progress | None = field(default=None, init=False)

    @property
    def since(self) -> Progress:
        """The newest, as hooks see it."""
        if self._since is None:  # one for all the hooks of a window
            self._since = self.newest.progress()
        return self._since

    def set(self, newest: Mapping[str, int], before: Mapping[str, int]) -> None:
        """Take over counts by name."""
        self.newest.set(newest)
        self.before.set(before)
        self._since = None

    def has_moved(self, now: Counts) -> bool:
        """Whether anything was finished since the last one."""
        then = self.newest
        return now.updates != then.updates or now.batches != then.batches or now.epochs != then.epochs

    def begin_epoch(self) -> None:
        """Let the stretch of the epoch's first window begin where the epoch does."""
        self.before.take(self.newest)

    def end_epoch(self, now: Counts) -> None:
        """Let the stretch of the epoch's end cover its last window, if nobody knew that it was the last."""
        if self.newest.batches == now.batches:
            self.newest.take(self.before)
            self._since = None

    def move_to(self, now: Counts) -> None:
        """Open the next stretch here."""
        if self.has_moved(now):
            self.newest, self.before = self.before, self.newest
        self.newest.take(now)
        self._since = None
