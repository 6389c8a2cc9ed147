"""The thread on which checkpoints are written, one piece of work after the other."""

import queue
import threading
from collections.abc import Callable
from typing import final

from attrs import define, field

from trainhooks.errors import CheckpointError

from .outcomes import Outcomes
from .publishing import SupersededError
from .snapshots import Snapshot


@final
@define(eq=False)
class Job:
    """Something to do for one checkpoint."""

    step: int
    """The update count that the checkpoint holds."""
    act: Callable[[], None]
    snapshot: Snapshot | None = None
    """What is written; released when that is done."""
    done: threading.Event = field(factory=threading.Event)
    crash: BaseException | None = None
    """What came up through the thread, if it was no `CheckpointError`."""


@final
class Jobs:
    """What is still to be done, and the thread that does it: it begins with the first.

    Args:
        outcomes: Is told how each went.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.superseded = False
        """Whether a later attempt has gone on with the run; then nothing is done any more."""

    def begin(self, job: Job) -> Job:
        """Have it done after what waits already."""
        self._outcomes.begin()
        if self._thread is None:
            # A daemon: a store that hangs must not keep the interpreter from ending.
            self._thread = threading.Thread(target=self._work, name="trainhooks-checkpoints", daemon=True)
            self._thread.start()
        self._waiting.put(job)
        return job

    def end(self) -> None:
        """Let the thread end once nothing waits."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread = None

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            try:
                if not self.superseded:
                    job.act()
            except CheckpointError as error:
                self.superseded = isinstance(error, SupersededError)
                self._outcomes.fail(error)
            except BaseException as crash:  # whoever waits for it, or asks next, is told
                job.crash = crash
                failure = CheckpointError(f"The checkpoint of step {job.step} was not saved: {crash!r}")
                failure.__cause__ = crash
                self._outcomes.fail(failure)
            finally:
                if job.snapshot is not None:
                    job.snapshot.release()
                self._outcomes.end()
                job.done.set()
