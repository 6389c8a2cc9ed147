"""The counters of a run, which its loop moves and hooks see as `Progress`."""

from collections.abc import Mapping
from typing import TypeAlias, final

from attrs import define, field

from trainhooks.core import Progress

Place: TypeAlias = tuple[int, int, int, int, int]
"""The fields of `Progress` in their order: what a moment is kept as until somebody wants to see it."""


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
        updates = self.updates if updates is None else updates
        return Progress(updates, self.batches, self.epochs, self.epoch, self.batch)  # by position, which is quicker

    def set(self, counts: Mapping[str, int]) -> None:
        """Take over counts by name."""
        for name, count in counts.items():
            setattr(self, name, count)


def place_of(counts: Mapping[str, int]) -> Place:
    """A moment given by name."""
    return counts["updates"], counts["batches"], counts["epochs"], counts["epoch"], counts["batch"]


def progress_at(place: Place) -> Progress:
    """A moment as hooks see it."""
    return Progress(*place)


@final
@define(eq=False)
class Boundaries:
    """The newest boundaries."""

    newest: Place = (0, 0, 0, 0, 0)
    """The last one."""
    before: Place = (0, 0, 0, 0, 0)
    """The one before that, or when the epoch began."""
    _since: Progress | None = field(default=None, init=False)

    @property
    def since(self) -> Progress:
        """The newest, as hooks see it."""
        if self._since is None:  # one for all the hooks of a window
            self._since = progress_at(self.newest)
        return self._since

    def set(self, newest: Place, before: Place) -> None:
        """Put both where an earlier process was."""
        self.newest, self.before, self._since = newest, before, None

    def has_moved(self, now: Counts) -> bool:
        """Whether anything was finished since the last one."""
        return (now.updates, now.batches, now.epochs) != self.newest[:3]

    def begin_epoch(self) -> None:
        """Let the stretch of the epoch's first window begin where the epoch does."""
        self.before = self.newest

    def end_epoch(self, batches: int) -> None:
        """Let the stretch of the epoch's end cover its last window, if nobody knew that it was the last."""
        if self.newest[1] == batches:
            self.newest, self._since = self.before, None

    def move_to(self, now: Counts, at: Progress | None = None) -> None:
        """Open the next stretch here, which is `at` as hooks see it, if one has seen it already."""
        newest = self.newest
        if now.updates != newest[0] or now.batches != newest[1] or now.epochs != newest[2]:
            self.before = newest
        self.newest = now.updates, now.batches, now.epochs, now.epoch, now.batch
        self._since = at
