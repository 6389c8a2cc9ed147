"""What saves the checkpoints of one attempt: on a thread of its own, one after the other."""

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Literal, final

from attrs import evolve

from trainhooks.core import Keep
from trainhooks.errors import CheckpointError, StorageError
from trainhooks.store import Store

from .attempts import Attempt
from .jobs import Job, Jobs
from .listing import Lister
from .manifest import Manifest, Mode, StoredFile
from .outcomes import NotWritten, Outcomes, PartNews, Written
from .parts import Part
from .publishing import commit, write_files
from .retiring import retire
from .snapshots import Snapshot, SnapshotPool
from .tree import Tree


@final
class Writer:
    """Saves the checkpoints of one attempt, and removes those that no policy keeps.

    `save` copies the state and returns; a thread writes the copies in the order in which they were taken. A save that
    fails leaves every earlier checkpoint as it was, and the next one is tried as if nothing had happened. Of a state
    that several ranks hold together, each has a writer for its part, and rank 0's commits once it is told of all parts.

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
        self._jobs = Jobs(self._outcomes)
        self._serials: dict[int, int] = {}
        self._drafts: dict[str, Manifest] = {}  # of checkpoints whose parts are on their way
        self._remains: str | None = None  # where the files of a failed save lie

    def save(
        self,
        tree: Tree | Part,
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
            tree: The state, see `encode`, or this rank's part of it. A part is not committed: `parts` tells of it.
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
        if self._jobs.superseded:
            return False
        snapshot = self._pool.take(tree, wait=self._on_full == "wait" or pinned or not background)
        if snapshot is None:
            return False
        serial = self._serials[step] = self._serials.get(step, -1) + 1
        shared = isinstance(tree, Part) and tree.shared
        draft = Manifest(
            step=step, epoch=epoch, epochs=epochs, attempt=self._attempt.number, serial=serial,
            nonce=self._attempt.nonce(step, serial) if shared else secrets.token_hex(4), created=self._now(),
            metrics=dict(metrics or {}), tags=tuple(tags), pinned=pinned, resumable=resumable,
            monitors=tuple(monitors), world_size=world_size, files=(), versions=self._versions,
            extra=dict(extra or {}),
        )  # fmt: skip
        if isinstance(tree, Part) and tree.leads:
            self._drafts[draft.nonce] = draft
        act = partial(self._write_part if shared else self._write, draft, snapshot)
        job = self._jobs.begin(Job(step, act, snapshot))
        if not background:
            job.done.wait()
            if job.crash is not None and not isinstance(job.crash, Exception):
                raise job.crash
        return True

    def parts(self) -> list[PartNews]:
        """What became of this rank's parts since this was last asked."""
        return self._outcomes.take_parts()

    def commit(self, nonce: str, files: Sequence[StoredFile]) -> None:
        """Have the manifest of a checkpoint written, all of whose parts are durable."""
        saved = evolve(self._drafts.pop(nonce), files=tuple(files))
        self._jobs.begin(Job(saved.step, partial(self._commit, saved)))

    def give_up(self, nonce: str, why: str) -> None:
        """Say that a part of a checkpoint is not there: it failed."""
        draft = self._drafts.pop(nonce)

        def act() -> None:
            self._remains = draft.prefix
            self._clear_away()  # no rank writes there any more
            raise CheckpointError(why)

        self._jobs.begin(Job(draft.step, act))

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
        self._jobs.end()
        self._pool.empty()
        return done

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")

    def _write(self, draft: Manifest, snapshot: Snapshot) -> None:
        self._commit(self._written(draft, snapshot))

    def _write_part(self, draft: Manifest, snapshot: Snapshot) -> None:
        try:
            self._outcomes.part(Written(draft.nonce, self._written(draft, snapshot).files))
        except Exception as error:
            self._remains = None  # other ranks may still write there; rank 0 clears it away once they do not
            why = str(error) if isinstance(error, CheckpointError) else repr(error)
            self._outcomes.part(NotWritten(draft.nonce, why))

    def _written(self, draft: Manifest, snapshot: Snapshot) -> Manifest:
        self._clear_away()
        self._remains = draft.prefix
        saved = write_files(self._store, draft, snapshot)
        self._remains = None  # from here on a manifest may refer to them, whatever we are told
        return saved

    def _commit(self, saved: Manifest) -> None:
        commit(self._store, self._attempt, saved)
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
