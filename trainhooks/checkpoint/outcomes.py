"""How the saves of a writer went: told by the thread that writes, asked for by the one that trains."""

import threading
import warnings
from typing import TypeAlias, final

from attrs import frozen

from trainhooks.errors import CheckpointError

from .manifest import Manifest, StoredFile


@final
@frozen
class Written:
    """A rank's part of a checkpoint is durable."""

    nonce: str
    """That of the checkpoint."""
    files: tuple[StoredFile, ...]


@final
@frozen
class NotWritten:
    """A rank's part of a checkpoint could not be written."""

    nonce: str
    """That of the checkpoint."""
    why: str


PartNews: TypeAlias = Written | NotWritten


@final
class Outcomes:
    """What became durable and what failed since somebody last asked, and how much is still open.

    Args:
        lenient: Whether a failed save is a warning, not an error.
    """

    def __init__(self, *, lenient: bool) -> None:
        self._lenient = lenient
        self._changed = threading.Condition()  # guards what follows
        self._open = 0
        self._durable: list[Manifest] = []
        self._parts: list[PartNews] = []
        self._failures: list[CheckpointError] = []
        self._complaints: list[str] = []
        self._unpublished: CheckpointError | None = None

    def begin(self) -> None:
        """One more save is open."""
        with self._changed:
            self._open += 1

    def end(self) -> None:
        """One is not open any more."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def succeed(self, saved: Manifest) -> None:
        """A checkpoint is durable."""
        with self._changed:
            self._durable.append(saved)
            self._unpublished = None

    def fail(self, error: CheckpointError) -> None:
        """A save failed."""
        with self._changed:
            self._failures.append(error)
            self._unpublished = error

    def part(self, news: PartNews) -> None:
        """A part of a checkpoint is durable, or could not be written."""
        with self._changed:
            self._parts.append(news)

    def take_parts(self) -> list[PartNews]:
        """What became of parts since this was last asked."""
        with self._changed:
            parts, self._parts = self._parts, []
        return parts

    def complain(self, sentence: str) -> None:
        """Something else did not work."""
        with self._changed:
            self._complaints.append(sentence)

    @property
    def unpublished(self) -> CheckpointError | None:
        """Why the last save failed, if it did."""
        with self._changed:
            return self._unpublished

    def wait(self, timeout: float | None) -> bool:
        """Wait until no save is open, and say whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout)

    def take(self) -> list[Manifest]:
        """What became durable since this was last asked; see `Writer.finished`."""
        with self._changed:
            complaints, self._complaints = self._complaints, []
            failures, self._failures = self._failures, []
        if self._lenient:
            complaints += [str(one) for one in failures]
        for one in complaints:
            warnings.warn(one, RuntimeWarning, stacklevel=3)
        if failures and not self._lenient:
            for other in failures[1:]:
                failures[0].add_note(str(other))
            raise failures[0]
        with self._changed:
            durable, self._durable = self._durable, []
        return durable
