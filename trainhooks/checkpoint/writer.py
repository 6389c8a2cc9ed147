"""What saves the checkpoints of one attempt: on a thread of its own, one after the other."""

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, final

from attrs import define, field

from trainhooks.core import Keep
from trainhooks.errors import CheckpointError, StorageError
from trainhooks.store import Store

from .attempts import Attempt
from .listing import Lister
from .manifest import Manifest, Mode
from .outcomes import Outcomes
from .publishing import SupersededError, commit, write_files
from .retiring import retire
from .snapshots import Snapshot, SnapshotPool
from .tree import Tree


@final
@define(eq=False)
class _Job:
    """One save that was asked for."""

    draft: Manifest
    snapshot: Snapshot
    done: threading.Event = field(factory=threading.Event)
    crash: BaseException | None = None
    """What came up through the thread, if it was no `CheckpointError`."""


@final
class Writer:
    """Saves the checkpoints of one attempt, and removes those that no policy keeps.

    `save` copies the state and returns; a thread writes the copies in the order in which they were taken. A save that
    fails leaves every earlier checkpoint as it was, and the next one is tried as if nothing had happened.

    Args:
        store: The run's folder.
        attempt: This process, as `begin_attempt` gave it.
        policies: What the hook sets of the run want kept; without any, everything is. A failed save is an error
            unless all of them say `on_failure="warn"`.
        pool: The buffers for copies that are still to be written; two by default.
        on_full: Whether a save waits until a buffer is free, or is left out. One that is pinned, or not in the
            background, always waits.
        clock: Seconds since 1970, for `Manifest.created`.
        versions: For `Manifest.versions`.
    """

    def __init__(
        self,
        store: Store,
        attempt: Attempt,
        policies: Sequence[Keep] = (),
        *,
        pool: SnapshotPool | None = None,
        on_full: Literal["wait", "skip"] = "wait",
        clock: Callable[[], float] = time.time,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self._store, self._attempt, self._policies = store, attempt, tuple(policies)
        self._pool = SnapshotPool() if pool is None else pool
        self._on_full, self._clock, self._versions = on_full, clock, dict(versions or {})
        self._outcomes = Outcomes(lenient=bool(policies) and all(one.on_failure == "warn" for one in policies))
        self._lister = Lister(store)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._serials: dict[int, int] = {}
        self._remains: str | None = None  # where the files of a failed save lie
        self._superseded = False

    def save(
        self,
        tree: Tree,
        *,
        step: int,
        epoch: int,
        epochs: int,
        metrics: Mapping[str, float] | None = None,
        tags: Sequence[str] = (),
        pinned: bool = False,
        resumable: bool = True,
        monitors: Sequence[tuple[str, Mode]] = (),
        world_size: int = 1,
        extra: Mapping[str, object] | None = None,
        background: bool = True,
    ) -> bool:
        """Copy a state and have it written. Its tensors may change as soon as this returns.

        Args:
            tree: The state, see `encode`.
            step: Updates finished.
            epoch: The epoch the run is in, from 0.
            epochs: Epochs finished.
            metrics: The values recorded at this very step.
            tags: The words it was asked for with.
            pinned: Whether it is kept whatever the policies say.
            resumable: Whether a run with this data can go on from here exactly.
            monitors: The values by which a best one is kept.
            world_size: How many processes the run has.
            extra: Further keys of the manifest.
            background: Whether this returns before it is written. How it went is told by `finished` either way.

        Returns:
            Whether it is being saved: not if all buffers are in use and `on_full` is `"skip"`, and not once a later
            attempt has gone on with the run.

        Raises:
            CheckpointError: if the state holds what cannot be saved.
        """
        if self._superseded:
            return False
        snapshot = self._pool.take(tree, wait=self._on_full == "wait" or pinned or not background)
        if snapshot is None:
            return False
        serial = self._serials[step] = self._serials.get(step, -1) + 1
        created = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        draft = Manifest(
            step=step, epoch=epoch, epochs=epochs, attempt=self._attempt.number, serial=serial,
            nonce=secrets.token_hex(4), created=created, metrics=dict(metrics or {}), tags=tuple(tags), pinned=pinned,
            resumable=resumable, monitors=tuple(monitors), world_size=world_size, files=(), versions=self._versions,
            extra=dict(extra or {}),
        )  # fmt: skip
        job = _Job(draft, snapshot)
        self._begin(job)
        if not background:
            job.done.wait()
            if job.crash is not None and not isinstance(job.crash, Exception):
                raise job.crash
        return True

    def finished(self) -> list[Manifest]:
        """The checkpoints that became durable since this was last asked, oldest first.

        Warns of what could not be removed, and of failed saves if every policy says so.

        Raises:
            CheckpointError: if a save failed since, and not every policy says to warn; what became durable is then
                told the next time.
        """
        return self._outcomes.take()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every save that was asked for is durable, or has failed.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.

        Returns:
            Whether none is open any more.
        """
        return self._outcomes.wait(timeout)

    @property
    def unpublished(self) -> CheckpointError | None:
        """Why the checkpoint that was asked for last is not there; None if it is, or is still being written."""
        return self._outcomes.unpublished

    def close(self, timeout: float | None = None) -> bool:
        """Wait as `wait` does, then end the thread and give the memory of the copies back."""
        done = self.wait(timeout)
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None
        self._pool.empty()
        return done

    def _begin(self, job: _Job) -> None:
        self._outcomes.begin()
        if self._thread is None:
            # A daemon: a store that hangs must not keep the interpreter from ending.
            self._thread = threading.Thread(target=self._work, name="trainhooks-checkpoints", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._carry_out(job)
            except BaseException as crash:  # whoever waits for it, or asks next, is told
                job.crash = crash
                failure = CheckpointError(f"The checkpoint of step {job.draft.step} was not saved: {crash!r}")
                failure.__cause__ = crash
                self._outcomes.fail(failure)
            finally:
                job.snapshot.release()
                self._outcomes.end()
                job.done.set()

    def _carry_out(self, job: _Job) -> None:
        if self._superseded:
            return
        try:
            self._clear_away()
            self._remains = job.draft.prefix
            saved = write_files(self._store, job.draft, job.snapshot)
            self._remains = None  # from here on a manifest may refer to them, whatever we are told
            commit(self._store, self._attempt, saved)
        except CheckpointError as error:
            self._superseded = isinstance(error, SupersededError)
            self._outcomes.fail(error)
            return
        self._outcomes.succeed(saved)
        try:
            self._lister.know(saved)
            retire(self._lister, self._attempt, saved, self._policies)
        except CheckpointError as error:
            self._outcomes.complain(
                f"The checkpoint of step {saved.step} is saved, but older ones could not be removed from "
                f"{self._store.url}: {error}"
            )

    def _clear_away(self) -> None:
        """Remove what a failed save left, which may be what fills the disk."""
        if self._remains is not None:
            with contextlib.suppress(StorageError):
                self._store.delete([one.key for one in self._store.list(self._remains)])
            self._remains = None
