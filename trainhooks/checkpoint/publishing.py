"""Making a checkpoint of a snapshot: its files first, then the manifest that makes them visible."""

import hashlib
import json
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from attrs import evolve

from trainhooks.errors import CheckpointError, ObjectExistsError, StorageError
from trainhooks.store import Store

from .attempts import Attempt, newest_attempt
from .manifest import Manifest, StoredFile
from .snapshots import Pending, Snapshot
from .tree import Json


class SupersededError(CheckpointError):
    """A later attempt has gone on with the run, so this one may not save."""


def write_files(store: Store, draft: Manifest, snapshot: Snapshot) -> Manifest:
    """Write the files of a checkpoint, or of one rank's part of it, under keys that no other save has.

    Args:
        store: The run's folder.
        draft: The manifest, without files.
        snapshot: The state; it is released as soon as its files are written, or cannot be.

    Returns:
        The manifest with these files; it is not written yet.

    Raises:
        CheckpointError: if a file cannot be written, naming store, step and object.
    """
    try:
        documents = (Pending(name=name, data=_document(one)) for name, one in snapshot.documents.items())
        files = [*snapshot.files(), *documents]
        with _hashed_beside(files) as digests:
            for one in files:
                _put(store, draft, one)
    finally:
        snapshot.release()
    stored = (
        StoredFile(name=one.name, key=draft.prefix + one.name, size=len(one.data), sha256=digest)
        for one, digest in zip(files, digests, strict=True)
    )
    return evolve(draft, files=tuple(stored))


def commit(store: Store, attempt: Attempt, manifest: Manifest) -> None:
    """Write the manifest, unless a later attempt has gone on with the run: the checkpoint is visible and durable.

    Raises:
        SupersededError: if one has.
        CheckpointError: if another process wrote this manifest first, or it cannot be written.
    """
    try:
        newest = newest_attempt(store)
        if newest > attempt.number:
            raise SupersededError(
                f"The checkpoint of step {manifest.step} was not saved: attempt {newest} has gone on with the run in "
                f"{store.url}, and this process is its attempt {attempt.number}. It saves no more."
            )
        store.put(manifest.key, manifest.to_json(), create=True)
    except ObjectExistsError as error:
        raise CheckpointError(
            f"The checkpoint of step {manifest.step} was not saved: another process writes to the same run, and its "
            f"{manifest.key} in {store.url} was there first."
        ) from error
    except StorageError as error:
        raise _failure(store, manifest, manifest.key, error) from error


@contextmanager
def _hashed_beside(files: Sequence[Pending]) -> Generator[list[str]]:
    """The sha256 of each file, there when the block is left: writing waits for the disk or the network meanwhile."""
    digests: list[str] = []
    thread = threading.Thread(target=lambda: digests.extend(hashlib.sha256(one.data).hexdigest() for one in files))
    thread.daemon = True
    thread.start()
    try:
        yield digests
    finally:
        thread.join()  # before the memory is used again


def _put(store: Store, draft: Manifest, file: Pending) -> None:
    key = draft.prefix + file.name
    try:
        store.put(key, file.data)  # one buffer from here to the store: no copy is made
    except StorageError as error:
        raise _failure(store, draft, key, error) from error


def _document(data: Json) -> memoryview:
    return memoryview(json.dumps(data, separators=(",", ":"), allow_nan=False).encode())


def _failure(store: Store, draft: Manifest, key: str, error: StorageError) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint of step {draft.step} was not saved: {key} could not be written to {store.url}. {error}"
    )
