"""The processes that a run has had: each leaves a token, by which an earlier one that still runs is told to stop."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import cast, final

from attrs import field, frozen

from trainhooks.errors import CheckpointError, ObjectExistsError
from trainhooks.store import Store

from .manifest import Manifest, canonical, check_version, object_of

FORMAT = "trainhooks.attempt"
VERSION = 1
FOLDER = "attempts/"


@final
@frozen(kw_only=True)
class Attempt:
    """One process of a run."""

    number: int
    """Which, from 1."""
    resumed_from: int | None
    """The step at which it began; None if it began from nothing."""
    token: str
    """Sets it apart from every other."""
    facts: Mapping[str, str] = field(factory=dict[str, str])
    """What else is worth knowing, such as the host."""

    @property
    def key(self) -> str:
        """Where its token is, from the run's folder."""
        return f"{FOLDER}{self.number:06d}.json"

    def nonce(self, step: int, serial: int) -> str:
        """What sets the files of one of its saves apart from all others, the same for each rank of the attempt."""
        return hashlib.sha256(f"{self.token}/{step}/{serial}".encode()).hexdigest()[:8]

    def to_json(self) -> bytes:
        """As it is stored."""
        data = {"number": self.number, "resumed_from": self.resumed_from, "token": self.token, "facts": self.facts}
        return canonical({"format": FORMAT, "version": VERSION, **data})

    @classmethod
    def from_json(cls, text: bytes) -> "Attempt":
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: if it is something else.
        """
        data = object_of(text, FORMAT)
        check_version(data, VERSION)
        number, origin, token, facts = (data.get(one) for one in ("number", "resumed_from", "token", "facts"))
        if not isinstance(number, int) or not isinstance(origin, int | None) or not isinstance(token, str):
            raise CheckpointError("it is not the token of an attempt")
        return cls(number=number, resumed_from=origin, token=token, facts=cast("Mapping[str, str]", facts or {}))


def begin_attempt(store: Store, *, resumed_from: int | None, facts: Mapping[str, str] | None = None) -> Attempt:
    """Leave a token in a run's folder: from now on, no earlier attempt saves.

    Args:
        store: The run's folder.
        resumed_from: The step at which this process begins, None if from nothing. Checkpoints of earlier attempts
            past it are superseded.
        facts: What else is worth knowing.
    """
    number = newest_attempt(store)
    while True:
        number += 1
        attempt = Attempt(number=number, resumed_from=resumed_from, token=secrets.token_hex(8), facts=dict(facts or {}))
        try:
            store.put(attempt.key, attempt.to_json(), create=True)
        except ObjectExistsError:
            continue  # another process began at the same moment
        return attempt


def newest_attempt(store: Store) -> int:
    """The number of the newest attempt; 0 if there is none."""
    return max((_number(one.key) for one in store.list(FOLDER)), default=0)


def superseded(manifests: Iterable[Manifest], attempts: Iterable[Attempt]) -> frozenset[str]:
    """The keys of manifests that an earlier attempt wrote past the step at which a later one began.

    An attempt that began from nothing supersedes everything before it.
    """
    begun = [(one.number, -1 if one.resumed_from is None else one.resumed_from) for one in attempts]
    return frozenset(
        one.key for one in manifests if any(one.attempt < number and one.step > origin for number, origin in begun)
    )


def _number(key: str) -> int:
    stem = key.removeprefix(FOLDER).removesuffix(".json")
    return int(stem) if stem.isdecimal() else 0
