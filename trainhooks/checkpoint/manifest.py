"""The record that makes a checkpoint: written last, it names every file with its size and digest."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Literal, TypeAlias, cast, final

from attrs import asdict, evolve, field, fields_dict, frozen

from trainhooks.errors import CheckpointError
from trainhooks.store import data_prefix, manifest_key

FORMAT = "trainhooks.checkpoint"
VERSION = 1

Mode: TypeAlias = Literal["min", "max"]

_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}
_DIGITS = frozenset("0123456789abcdef")


@final
@frozen(kw_only=True)
class StoredFile:
    """A file of a checkpoint."""

    name: str
    """Such as `model.safetensors`."""
    key: str
    """Where it is, from the run's folder."""
    size: int
    """In bytes."""
    sha256: str
    """In hexadecimal digits."""


@final
@frozen(kw_only=True)
class Manifest:
    """What a checkpoint is, and what it is made of.

    Its JSON is canonical: keys sorted, no spaces, no NaN (a metric that is NaN is null, an infinite one is
    `"Infinity"` or `"-Infinity"`), with the sha256 of everything else as `digest`.
    """

    step: int
    """Updates finished."""
    epoch: int
    """The epoch the run was in, from 0."""
    epochs: int
    """Epochs finished."""
    attempt: int
    """Which of the run's processes wrote it, from 1."""
    serial: int = 0
    """Which of the attempt's checkpoints of this step it is, from 0."""
    nonce: str
    """Sets its files apart from those of every other save."""
    created: str
    """When it was written, as ISO 8601 in UTC."""
    metrics: Mapping[str, float] = field(factory=dict[str, float])
    """The values recorded at this very step."""
    tags: tuple[str, ...] = ()
    """The words it was asked for with."""
    pinned: bool = False
    """Whether it is kept whatever the policies say."""
    resumable: bool = True
    """Whether a run with this data can go on from here exactly."""
    monitors: tuple[tuple[str, Mode], ...] = ()
    """The values by which a best one is kept, with their directions."""
    world_size: int = 1
    """How many processes the run had."""
    files: tuple[StoredFile, ...]
    """What it is made of."""
    versions: Mapping[str, str] = field(factory=dict[str, str])
    """Versions of what wrote it."""
    extra: Mapping[str, object] = field(factory=dict[str, object])
    """Further keys of the JSON, such as those of a later version; they are kept."""

    @property
    def key(self) -> str:
        """Where it is, from the run's folder."""
        return manifest_key(self.step, self.attempt, self.serial)

    @property
    def prefix(self) -> str:
        """Where its files are, from the run's folder."""
        return data_prefix(self.step, self.attempt, self.nonce)

    @property
    def place(self) -> tuple[int, int, int]:
        """What checkpoints are ordered by, oldest first: step, attempt, serial."""
        return self.step, self.attempt, self.serial

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the checkpoint of step {self.step} ({self.key})"

    def file(self, name: str) -> StoredFile | None:
        """The file of that name, if there is one."""
        return next((one for one in self.files if one.name == name), None)

    def to_json(self) -> bytes:
        """As it is stored."""
        data = asdict(self, filter=lambda attribute, _: attribute.name != "extra")
        if clash := sorted(self.extra.keys() & {*data, "format", "version", "digest"}):
            raise CheckpointError(f"{clash[0]!r} is a key of every manifest, so it cannot be one of its extra keys.")
        data |= {"format": FORMAT, "version": VERSION, **self.extra}
        data["metrics"] = {name: _plain(value) for name, value in self.metrics.items()}
        return canonical(data | {"digest": _digest(data)})

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: if it was altered, or written in a format that this version does not know.
        """
        data = object_of(text, FORMAT)
        if data.pop("digest", None) != _digest(data):
            raise CheckpointError("it was altered: its digest is not that of its content")
        check_version(data, VERSION)
        known = {name: data.pop(name) for name in fields_dict(cls) if name in data}
        extra = {name: value for name, value in data.items() if name not in ("format", "version")}
        try:
            manifest = cls(**known, extra=extra)  # type: ignore[arg-type]  # checked below
            return _checked(manifest)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"it is not a manifest: {error}") from None


def canonical(data: Mapping[str, object]) -> bytes:
    """JSON with sorted keys, no spaces and no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def object_of(text: bytes, form: str) -> dict[str, object]:
    """The JSON object in a file of the given format.

    Raises:
        CheckpointError: if there is none.
    """
    try:
        data: object = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"it is not JSON ({error})") from None
    if not isinstance(data, dict) or (found := cast("dict[str, object]", data)).get("format") != form:
        raise CheckpointError(f"it does not say that it is a {form}")
    return found


class UnknownVersionError(CheckpointError):
    """A file is whole, and of a version that this trainhooks does not know: it is not passed over as if damaged."""


def check_version(data: Mapping[str, object], known: int) -> None:
    """Refuse a file of another version than the one known."""
    if data.get("version") != known:
        raise UnknownVersionError(
            f"it is of version {data.get('version')!r} of {data.get('format')}, and this version of trainhooks reads "
            f"version {known}; read it with the one that wrote it, or a later one"
        )


def _digest(data: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical(data)).hexdigest()


def _plain(value: float) -> float | str | None:
    if math.isfinite(value):
        return float(value)
    return None if math.isnan(value) else {number: word for word, number in _INFINITE.items()}[value]


def _number(value: object) -> float:
    return math.nan if value is None else _INFINITE[value] if isinstance(value, str) else float(cast("float", value))


def _checked(read: Manifest) -> Manifest:
    """A manifest out of JSON's lists and objects, with the types that its fields say."""
    files = tuple(_file(cast("Mapping[str, object]", one)) for one in read.files)
    for count in (read.step, read.epoch, read.epochs, read.attempt, read.serial, read.world_size):
        if type(count) is not int or count < 0:
            raise ValueError(f"{count!r} is no count")
    return evolve(
        read,
        files=files,
        metrics={name: _number(value) for name, value in read.metrics.items()},
        tags=tuple(read.tags),
        monitors=tuple((metric, mode) for metric, mode in read.monitors),
    )


def _file(data: Mapping[str, object]) -> StoredFile:
    name, key, size, sha256 = (data[one] for one in ("name", "key", "size", "sha256"))
    parts = key.split("/") if isinstance(key, str) else []
    if len(parts) < 2 or parts[0] != "ckpt" or {"", ".", ".."} & set(parts):
        raise ValueError(f"{key!r} is no place in the run's folder")
    if type(size) is not int or size < 0 or not isinstance(sha256, str) or not _DIGITS.issuperset(sha256):
        raise ValueError(f"size or digest of {key!r} is none")
    return StoredFile(name=str(name), key=str(key), size=size, sha256=sha256)
