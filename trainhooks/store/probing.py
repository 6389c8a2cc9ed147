"""Whether a store can be used, found out before a run needs it."""

import os
import warnings

from trainhooks.errors import ObjectExistsError, StorageError

from .objects import Store


def probe(store: Store) -> None:
    """Write, read, list and remove a small object, so that what is wrong with a store is known before training.

    In a local folder, it also removes what writers that were killed left unfinished.

    Raises:
        StorageError: if any of that fails; its message names the setting to change.

    Warns:
        RuntimeWarning: if the store overwrites an object that was to be created only if it is not there.
    """
    from .stores import ObjectStorage

    key, content = f"probe-{os.urandom(8).hex()}", os.urandom(16)
    store.put(key, content, create=True)
    try:
        there = bytes(store.get(key))
        if there != content or [found.size for found in store.list() if found.key == key] != [len(content)]:
            raise StorageError(f"{store.url} does not give back what was just written to it, {key}.")
        _create_again(store, key)
    finally:
        store.delete([key])
    if isinstance(store, ObjectStorage):
        store.sweep()


def _create_again(store: Store, key: str) -> None:
    try:
        store.put(key, os.urandom(16), create=True)
    except ObjectExistsError:
        return
    warnings.warn(
        f"{store.url} ignores the condition that an object must not be there yet (If-None-Match). Its checkpoints are "
        f"whole, but two runs that write to one folder would not notice one another.",
        RuntimeWarning,
        stacklevel=3,
    )
