"""What a run leaves beside its checkpoints, under `artifacts/` in its folder: whole, or not to be seen.

Files are written first, under keys that no other write ever uses; then a small create-only index, which names each of
them with size and sha256. A file that no index names is debris of a process that died.
"""

import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias, cast, final

from attrs import define, frozen

from trainhooks.core import Run
from trainhooks.errors import HookDefinitionError, NoExperimentError
from trainhooks.store import Experiment, ObjectInfo, Store, open_store, slug

Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A path, or several."""

CHUNK = 8 << 20
"""Bytes of a file that are held at once."""


@final
@frozen
class Piece:
    """A file of an artifact, still to be written."""

    name: str
    """What the index calls it."""
    place: str
    """Where it is, from the artifact's folder; a valid key."""
    data: bytes | memoryview | Path
    """What is in it; a path stands for that file."""


def paths_of(factory: str, words: str, given: object) -> tuple[str, ...]:
    """A path or several, as strings.

    Raises:
        HookDefinitionError: if it is neither.
    """
    several: tuple[object, ...] = (given,)
    if isinstance(given, Iterable) and not isinstance(given, str | os.PathLike):
        several = tuple(cast("Iterable[object]", given))
    for one in several:
        if not isinstance(one, str | os.PathLike) or not os.fspath(cast("str", one)):
            raise HookDefinitionError(f"{factory} takes {words}, a str or a Path each, got {one!r}.")
    return tuple(str(os.fspath(cast("str", one))) for one in several)


def experiment_of(run: Run, factory: str) -> Experiment:
    """The experiment of a run.

    Raises:
        NoExperimentError: if it has none.
    """
    if isinstance(run.experiment, Experiment):
        return run.experiment
    raise NoExperimentError(
        f"{factory} writes into the folder of the run, but the run has no experiment; write train(..., "
        "experiment=Experiment(project=..., name=...))."
    )


def run_folder(run: Run, factory: str) -> Store:
    """The folder of a run, in its experiment's place."""
    return open_store(experiment_of(run, factory)).at(run.run_id)


def publish(folder: Store, name: str, pieces: Iterable[Piece], facts: Mapping[str, object]) -> None:
    """Write an artifact, and an index of it with further facts, `artifacts/<name>/<serial>.json`, from 000001 on."""
    place = f"artifacts/{slug(name)}"
    newest = newest_index(folder, name)
    serial = 1 if newest is None else 1 + _serial(newest)
    own = f"{place}/{serial:06d}-{secrets.token_hex(4)}"
    files = [_written(folder, f"{own}/{piece.place}", piece) for piece in pieces]
    index = {
        "format": "trainhooks.artifact",
        "version": 1,
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "folder": own,
        "files": files,
        **facts,
    }
    folder.put(f"{place}/{serial:06d}.json", as_json(index), create=True)


def newest_index(folder: Store, name: str) -> ObjectInfo | None:
    """The newest index of an artifact, if there is one."""
    place = f"artifacts/{slug(name)}/"
    return max((one for one in folder.list(place) if _is_index(one, place)), key=_serial, default=None)


def as_json(data: Mapping[str, object]) -> bytes:
    """JSON for people and programs; what is no plain data is told by its `repr`, NaN is null."""
    return json.dumps(_plain(data), indent=1, ensure_ascii=False, allow_nan=False).encode(errors="replace")


def chunks_of(path: Path, size: int | None = None) -> Iterator[bytes]:
    """A file in parts; only its first `size` bytes, if that is given."""
    left = math.inf if size is None else size
    with path.open("rb") as opened:
        while left and (chunk := opened.read(int(min(left, CHUNK)))):
            left -= len(chunk)
            yield chunk


@final
@define(eq=False)
class Passing:
    """Parts of a file on their way, measured as they pass."""

    parts: Iterable[bytes | memoryview]
    size: int = 0
    """Bytes that passed so far."""
    sha256: str = ""
    """Their digest, once all have passed."""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
            self.size += len(part)
            yield part
        self.sha256 = digest.hexdigest()


def tidy_name(name: str) -> str:
    """The name of a file as a part of keys, with its suffix where that can be."""
    stem, suffix = os.path.splitext(name)
    return name if slug(name) == name else slug(stem) + (suffix if suffix and slug(suffix) == suffix else "")


def _written(folder: Store, key: str, piece: Piece) -> dict[str, object]:
    data = piece.data
    passing = Passing(chunks_of(data) if isinstance(data, Path) else _slices(memoryview(data)))
    folder.put(key, passing)
    return {"name": piece.name, "key": key, "size": passing.size, "sha256": passing.sha256}


def _slices(data: memoryview) -> Iterator[memoryview]:
    return (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))


def _is_index(one: ObjectInfo, place: str) -> bool:
    stem, suffix = os.path.splitext(one.key.removeprefix(place))
    return suffix == ".json" and stem.isdecimal()


def _serial(index: ObjectInfo) -> int:
    return int(os.path.splitext(index.key.rpartition("/")[2])[0])


def _plain(value: object) -> object:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None if math.isnan(value) else str(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in cast("Iterable[object]", value)]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))  # so that it is the same in every process
