"""Removing the checkpoints that nobody keeps, and the files of those that never came to be."""

from collections.abc import Iterable, Sequence

from trainhooks.core import Keep
from trainhooks.store import Store, parse_manifest_key

from .attempts import Attempt
from .listing import Lister
from .manifest import Manifest
from .retention import kept

DATA = "ckpt/"


def retire(lister: Lister, attempt: Attempt, saved: Manifest, policies: Sequence[Keep]) -> list[Manifest]:
    """Remove what no policy keeps, now that a newer checkpoint is durable: each manifest before its files.

    Nothing is removed if what was saved, or the newest checkpoint with all its files, is not there, or if a later
    attempt is. Superseded checkpoints go, unless they are pinned.

    Args:
        lister: Lists the run's folder.
        attempt: The one that saved.
        saved: The checkpoint that is durable.
        policies: All policies of the run; without any, everything stays.

    Returns:
        What was removed.
    """
    if not policies:
        return []
    store, listing = lister.store, lister.list()
    visible = listing.visible
    if saved.key not in {one.key for one in visible} or not _is_there(store, visible[0]):
        return []
    if any(one.number > attempt.number for one in listing.attempts):
        return []
    keys = kept(visible, policies)
    gone = [one for one in listing.manifests if one.key not in keys and not one.pinned]
    if gone:
        store.delete([one.key for one in gone])
        store.delete([file.key for one in gone for file in one.files])
    return gone


def sweep(store: Store, attempt: Attempt) -> list[str]:
    """Remove files that no manifest refers to and that an earlier attempt left; those of this one are left alone.

    Files that belong to a manifest that cannot be read stay too.

    Args:
        store: The run's folder.
        attempt: The one that goes on now.

    Returns:
        The keys that were removed.
    """
    there = [one.key for one in store.list(DATA)]  # before the manifests: what is written meanwhile is not seen
    listing = Lister(store).list()
    needed = {file.key for one in listing.manifests for file in one.files}
    spared = {place[:2] for key in listing.unreadable if (place := parse_manifest_key(key)) is not None}
    orphans = [key for key in there if key not in needed and _is_of_an_earlier(key, attempt, spared)]
    if orphans:
        store.delete(orphans)
    return orphans


def _is_there(store: Store, manifest: Manifest) -> bool:
    """Whether every file of a checkpoint is there, in its size."""
    sizes = {one.key: one.size for one in store.list(manifest.prefix)}
    return all(sizes.get(file.key) == file.size for file in manifest.files)


def _is_of_an_earlier(key: str, attempt: Attempt, spared: Iterable[tuple[int, int]]) -> bool:
    """Whether it was written by an attempt before this one, as `ckpt/<step>-<attempt>-<nonce>/<name>`."""
    match key.removeprefix(DATA).split("/", 1)[0].split("-"):
        case [step, number, _] if step.isdecimal() and number.isdecimal():
            return int(number) < attempt.number and (int(step), int(number)) not in spared
        case _:
            return False
