"""What manifests and attempts a run's folder holds now."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import TypeVar, final

from attrs import define, field, frozen

from trainhooks.errors import CheckpointError, ObjectMissingError, StorageError
from trainhooks.store import Store

from .attempts import FOLDER, Attempt, superseded
from .manifest import Manifest, UnknownVersionError

MANIFESTS = "manifests/"

T = TypeVar("T")


@final
@frozen(kw_only=True)
class Listing:
    """What was there when it was listed."""

    manifests: tuple[Manifest, ...]
    """Every one that can be read."""
    attempts: tuple[Attempt, ...]
    """Every one that can be read."""
    unreadable: Mapping[str, CheckpointError]
    """Why, by the key of each object that cannot be read."""

    @property
    def visible(self) -> list[Manifest]:
        """The manifests that no later attempt superseded, newest first."""
        gone = superseded(self.manifests, self.attempts)
        return sorted((one for one in self.manifests if one.key not in gone), key=lambda one: one.place, reverse=True)


@final
@define(eq=False)
class Lister:
    """Lists one run's folder again and again; what never changes is read once."""

    store: Store
    _manifests: dict[str, Manifest] = field(factory=dict[str, Manifest])
    _attempts: dict[str, Attempt] = field(factory=dict[str, Attempt])

    def list(self) -> Listing:
        """What is there now.

        Raises:
            StorageError: if the store cannot be read.
            UnknownVersionError: if a later version of trainhooks wrote there.
        """
        unreadable: dict[str, CheckpointError] = {}
        # Manifests first: the attempt of each has left its token before.
        self._manifests = self._read(MANIFESTS, self._manifests, Manifest.from_json, unreadable)
        self._attempts = self._read(FOLDER, self._attempts, Attempt.from_json, unreadable)
        return Listing(
            manifests=tuple(self._manifests.values()), attempts=tuple(self._attempts.values()), unreadable=unreadable
        )

    def know(self, manifest: Manifest) -> None:
        """Take over a manifest that was just written."""
        self._manifests[manifest.key] = manifest

    def _read(
        self, folder: str, known: Mapping[str, T], parse: Callable[[bytes], T], unreadable: dict[str, CheckpointError]
    ) -> dict[str, T]:
        found, gone = dict(known), set[str]()
        while True:
            there = [one.key for one in self.store.list(folder)]
            vanished = self._read_new(there, found, gone, parse, unreadable)
            if not vanished:
                return {key: found[key] for key in there if key in found}
            gone |= vanished  # a checkpoint goes when there is a newer one, which is in a new list

    def _read_new(
        self,
        there: Sequence[str],
        found: dict[str, T],
        gone: Set[str],
        parse: Callable[[bytes], T],
        unreadable: dict[str, CheckpointError],
    ) -> set[str]:
        """Read what is not known yet, and give what was removed between the listing and the reading."""
        vanished: set[str] = set()
        for key in there:
            if key in found:
                continue
            try:
                read = parse(bytes(self.store.get(key)))
                if getattr(read, "key", None) != key:
                    raise CheckpointError("it was written under another name")
            except ObjectMissingError as error:
                if key in gone:
                    unreadable[key] = error
                else:
                    vanished.add(key)
            except StorageError:
                raise
            except UnknownVersionError as error:
                raise UnknownVersionError(f"{key} in {self.store.url} cannot be read: {error}.") from None
            except CheckpointError as error:
                unreadable[key] = error
            else:
                found[key] = read
        return vanished
