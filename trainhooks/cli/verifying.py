"""`trainhooks runs verify`: every object of every checkpoint, read and compared with its digest."""

from collections.abc import Iterator
from typing import final

from attrs import asdict, frozen

from trainhooks.checkpoint import Manifest, verify
from trainhooks.errors import CheckpointError, ObjectMissingError, StorageError
from trainhooks.sinks import printable
from trainhooks.store import Store

from .exits import BAD, GOOD
from .finding import find_runs
from .folder import RunFolder, read_folder
from .numbers import print_json, several, size


@final
@frozen(kw_only=True)
class Verdict:
    """What was found of a checkpoint, or of another record of a run."""

    url: str
    """The run's folder."""
    key: str
    """The manifest, or the other record."""
    step: int | None = None
    """Of the checkpoint; None of what is none, or cannot be read."""
    files: int = 0
    """How many were to be read."""
    size: int = 0
    """Their bytes."""
    damage: str | None = None
    """What is wrong, naming the object; None if nothing is."""

    def __str__(self) -> str:
        where = f"{self.key} in {self.url}"
        if self.damage is not None:
            return f"damaged  {where}: {self.damage}"
        return f"good     {where}: {several(self.files, 'file')}, {size(self.size)}"


def verify_runs(url: str, as_json: bool) -> int:
    """Print what is damaged of the runs at a place or below it, and what is not."""
    verdicts: list[Verdict] = []
    for found in find_runs(url):
        for verdict in verdicts_of(read_folder(found)):
            verdicts.append(verdict)
            if not as_json:
                print(printable(str(verdict)), flush=True)
    damaged = [one for one in verdicts if one.damage is not None]
    if as_json:
        print_json({"damaged": len(damaged), "verdicts": [asdict(one) for one in verdicts]})
    else:
        checked = several(sum(one.step is not None for one in verdicts), "checkpoint")
        print(f"{checked} read, {several(len(damaged), 'record') + ' damaged' if damaged else 'all good'}.")
    return BAD if damaged else GOOD


def verdicts_of(run: RunFolder) -> Iterator[Verdict]:
    """Read every checkpoint of a run, the oldest first, superseded ones too.

    Raises:
        StorageError: if the store cannot be read; that says nothing about the checkpoints.
    """
    store = run.found.store
    for key, why in sorted(run.unreadable.items()):
        yield Verdict(url=store.url, key=key, damage=why)
    for manifest in reversed(run.manifests):
        damage = _damage(store, manifest)
        if damage is None or is_there(store, manifest.key):  # else nobody wanted it kept while it was read
            yield Verdict(
                url=store.url,
                key=manifest.key,
                step=manifest.step,
                files=len(manifest.files),
                size=sum(file.size for file in manifest.files),
                damage=damage,
            )


def is_there(store: Store, key: str) -> bool:
    """Whether an object is there."""
    try:
        store.head(key)
    except ObjectMissingError:
        return False
    return True


def _damage(store: Store, manifest: Manifest) -> str | None:
    try:
        verify(store, manifest)
    except StorageError:
        raise
    except CheckpointError as error:
        return str(error)
    return None
