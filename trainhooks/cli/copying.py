"""`trainhooks runs sync`: runs of one store in another. A checkpoint is whole there, or not visible.

Of each run, `run.json` and the tokens of its attempts come first, then what hooks left beside the checkpoints, then
each checkpoint, the oldest first: its data, and last its manifest. Nothing is overwritten. So a copy that was
interrupted is gone on with by starting it again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias, final

from attrs import asdict, frozen

from trainhooks.checkpoint import Manifest
from trainhooks.errors import CheckpointError, ObjectExistsError, ObjectMissingError
from trainhooks.sinks import printable
from trainhooks.store import Store, open_store, parse_manifest_key

from .exits import BAD, GOOD
from .finding import ATTEMPTS, BESIDE, FACTS, MANIFESTS, Found, find_runs
from .numbers import print_json, several
from .verifying import is_there

Outcome: TypeAlias = Literal["copied", "there", "conflict", "damaged"]

_OTHER = "the other place has another object under this key"


@final
@frozen(kw_only=True)
class Copied:
    """What became of a checkpoint, or of another record of a run."""

    url: str
    """The run's folder, in the store that is copied from."""
    key: str
    """The manifest, or the other record."""
    outcome: Outcome
    why: str = ""
    """What is in the way, if something is."""

    def __str__(self) -> str:
        return f"{self.outcome:<8}  {self.key} of {self.url}{f': {self.why}' if self.why else ''}"


def copy_runs(source: str, target: str, as_json: bool) -> int:
    """Copy the runs at a place or below it to the same places below another, and print what became of each record."""
    done: list[Copied] = []
    for found in find_runs(source):
        for one in copy_run(found, open_store(target).at(found.below)):
            done.append(one)
            if not as_json:
                print(printable(str(one)), flush=True)
    counts = {word: sum(one.outcome == word for one in done) for word in ("copied", "there", "conflict", "damaged")}
    if as_json:
        print_json({**counts, "records": [asdict(one) for one in done]})
    else:
        print(f"{several(len(done), 'record')}: {', '.join(f'{count} {word}' for word, count in counts.items())}.")
    return BAD if counts["conflict"] or counts["damaged"] else GOOD


def copy_run(found: Found, target: Store) -> Iterator[Copied]:
    """Copy a run. If it has gone on by itself in both places, nothing is copied.

    Raises:
        StorageError: if a store cannot be read or written.
    """
    source, there = found.store, {one.key: one.size for one in target.list()}
    records = {key: bytes(source.get(key)) for key in _records(found.objects)}
    clashes = [key for key, data in records.items() if key in there and bytes(target.get(key)) != data]
    for key, data in records.items():
        if key in clashes:
            yield Copied(url=source.url, key=key, outcome="conflict", why=_OTHER)
        elif not clashes:
            yield Copied(url=source.url, key=key, outcome=_create(target, key, data, there))
    if clashes:
        return
    for key in _data_first(found.objects):
        copy = _copy_checkpoint if key.startswith(MANIFESTS) else _copy_object
        try:
            yield Copied(url=source.url, key=key, outcome=copy(source, target, key, there))
        except _ObstacleError as error:
            yield Copied(url=source.url, key=key, outcome=error.outcome, why=error.why)
        except ObjectMissingError as error:
            if is_there(source, key):  # else nobody wanted it kept while it was copied
                yield Copied(url=source.url, key=key, outcome="damaged", why=str(error))


class _ObstacleError(Exception):
    """Why something is not copied."""

    def __init__(self, outcome: Outcome, why: str) -> None:
        super().__init__(why)
        self.outcome: Outcome = outcome
        self.why = why


def _records(keys: Iterable[str]) -> list[str]:
    """What tells of the run itself, `run.json` first."""
    told = (key for key in keys if key == FACTS or key.startswith(ATTEMPTS))
    return sorted(told, key=lambda key: (key != FACTS, key))


def _data_first(keys: Iterable[str]) -> list[str]:
    """What lies beside the checkpoints, the indices of artifacts after their files; then the manifests by step."""
    beside = sorted(key for key in keys if key.startswith(BESIDE))
    return beside + sorted(key for key in keys if parse_manifest_key(key) is not None)


def _copy_object(source: Store, target: Store, key: str, there: Mapping[str, int]) -> Outcome:
    if key not in there:
        target.put(key, _ahead(source.stream(key)))
        return "copied"
    if _digest(target.stream(key)) != _digest(source.stream(key)):
        raise _ObstacleError("conflict", _OTHER)
    return "there"


def _copy_checkpoint(source: Store, target: Store, key: str, there: Mapping[str, int]) -> Outcome:
    data = bytes(source.get(key))
    if key in there and bytes(target.get(key)) != data:
        raise _ObstacleError("conflict", _OTHER)
    try:
        manifest = Manifest.from_json(data)
    except CheckpointError as error:
        raise _ObstacleError("damaged", str(error)) from None
    copied = False
    for file in manifest.files:
        if key in there and there.get(file.key) == file.size:
            continue  # its manifest came after it
        if file.key not in there:
            target.put(file.key, _verified(source, file.key, file.sha256))
            copied = True
        elif _digest(target.stream(file.key)) != file.sha256:
            raise _ObstacleError("conflict", f"{file.key}: {_OTHER}")
    outcome = _create(target, key, data, there)
    if outcome == "conflict":
        raise _ObstacleError("conflict", _OTHER)
    return "copied" if copied else outcome


def _create(target: Store, key: str, data: bytes, there: Mapping[str, int]) -> Outcome:
    """Write a record that is not there, where nobody else writes it meanwhile; one that is there is equal."""
    if key in there:
        return "there"
    try:
        target.put(key, data, create=True)
    except ObjectExistsError:
        return "conflict"
    return "copied"


def _verified(source: Store, key: str, sha256: str) -> Iterator[bytes]:
    """The bytes of an object; an error after the last one, if they are not as they were written."""
    digest = hashlib.sha256()
    for chunk in _ahead(source.stream(key)):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise _ObstacleError("damaged", f"{key} was altered: its sha256 is not that of the manifest")


def _ahead(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, read by a thread of their own, one ahead: the thread that writes an object cannot read another."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


def _digest(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
