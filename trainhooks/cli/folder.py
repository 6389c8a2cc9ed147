"""What a run's folder says of the run, read without its data."""

import json
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar, cast, final

from attrs import frozen

from trainhooks.checkpoint import Attempt, Manifest, manifests_of
from trainhooks.errors import CheckpointError, ObjectMissingError, StorageError
from trainhooks.store import Store

from .finding import ATTEMPTS, FACTS, MANIFESTS, Found

T = TypeVar("T")


@final
@frozen(kw_only=True, eq=False)
class RunFolder:
    """A run, as its folder tells it."""

    found: Found
    facts: Mapping[str, object]
    """What `run.json` says; empty if it cannot be read."""
    attempts: tuple[Attempt, ...]
    """The oldest first."""
    visible: tuple[Manifest, ...]
    """The checkpoints that count, the newest first."""
    superseded: tuple[Manifest, ...]
    """Those past the step from which a later attempt went on, the newest first."""
    unreadable: Mapping[str, str]
    """Why, by the key of each object that cannot be read."""

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """All that can be read, the newest first."""
        return tuple(sorted((*self.visible, *self.superseded), key=lambda one: one.place, reverse=True))

    @property
    def newest_whole(self) -> Manifest | None:
        """The newest checkpoint that counts and of which every object is there, in its size."""
        return next((one for one in self.visible if self.is_whole(one)), None)

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether every object of a checkpoint is there, in its size."""
        return all(self.found.objects.get(file.key) == file.size for file in manifest.files)

    @property
    def started(self) -> datetime | None:
        """When the run began, after its id; None if that is of another form."""
        try:
            return datetime.strptime(self.found.run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return None

    def name_of(self, fact: str, place: int) -> str:
        """The project or the experiment: what `run.json` says, or else the folder that many levels up."""
        folders = self.found.store.url.split("/")
        return str(self.facts.get(fact, folders[-1 - place] if len(folders) > place else ""))


def read_folder(found: Found) -> RunFolder:
    """Read what a run's folder says of it.

    Raises:
        StorageError: if the store cannot be read.
    """
    unreadable: dict[str, str] = {}
    counting = _visible(found.store, unreadable)
    visible = {one.key: one for one in counting or ()}
    others = _read_each(found, MANIFESTS, visible, _manifest, unreadable)  # listed before, so none is newer
    further = sorted(others.values(), key=lambda one: one.place, reverse=True)
    attempts = _read_each(found, ATTEMPTS, {}, _attempt, unreadable)
    return RunFolder(
        found=found,
        facts=_read_each(found, FACTS, {}, _object, unreadable).get(FACTS, {}),
        attempts=tuple(sorted(attempts.values(), key=lambda one: one.number)),
        visible=tuple(further if counting is None else counting),
        superseded=() if counting is None else tuple(further),
        unreadable=unreadable,
    )


def _visible(store: Store, unreadable: dict[str, str]) -> list[Manifest] | None:
    """The checkpoints that count; None if some are of a later version, so that this is not known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what cannot be read is told by its key
        try:
            return manifests_of(store)
        except StorageError:
            raise
        except CheckpointError as error:
            unreadable[MANIFESTS] = str(error)
            return None


def _read_each(
    found: Found, prefix: str, known: Mapping[str, object], parse: Callable[[str, bytes], T], unreadable: dict[str, str]
) -> dict[str, T]:
    """Read the objects under a prefix that are not known yet; one that is gone meanwhile is left out."""
    read: dict[str, T] = {}
    for key in sorted(found.objects):
        if not key.startswith(prefix) or key in known:
            continue
        try:
            read[key] = parse(key, bytes(found.store.get(key)))
        except ObjectMissingError:
            continue
        except StorageError:
            raise
        except CheckpointError as error:
            unreadable[key] = str(error)
    return read


def _manifest(key: str, text: bytes) -> Manifest:
    manifest = Manifest.from_json(text)
    if manifest.key != key:
        raise CheckpointError("it was written under another name")
    return manifest


def _attempt(key: str, text: bytes) -> Attempt:
    return Attempt.from_json(text)


def _object(key: str, text: bytes) -> dict[str, object]:
    try:
        data: object = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"it is not JSON ({error})") from None
    if not isinstance(data, dict):
        raise CheckpointError("it is not a JSON object")
    return cast("dict[str, object]", data)
