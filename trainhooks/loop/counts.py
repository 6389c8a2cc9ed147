"""The counters of a run, which its loop moves and hooks see as `Progress`."""

from typing import final

from attrs import define

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

    def take(self, other: "Counts") -> None:
        """Become equal to `other`."""
        self.updates, self.batches, self.epochs = other.updates, other.batches, other.epochs
        self.epoch, self.batch = other.epoch, other.batch
