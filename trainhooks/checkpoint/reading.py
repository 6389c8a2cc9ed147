"""Finding and reading checkpoints: each object is read once, and checked while it is."""

import hashlib
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from trainhooks.errors import CheckpointError, ObjectMissingError, StorageError
from trainhooks.store import Store

from .decoding import decode
from .listing import Lister, Listing
from .manifest import Manifest, StoredFile, UnknownVersionError, check_version, object_of
from .parts import STATE, STATE_FORMAT, STATE_VERSION
from .shards import SHARDS, Absent, Shards, assembled, group_of, shards_in
from .tensors import read_tensors
from .tree import Json, Tree

T = TypeVar("T")


class NoEntryError(CheckpointError):
    """A checkpoint is whole, and its state has no entry of that name."""


def manifests_of(store: Store) -> list[Manifest]:
    """The checkpoints of a run that count, newest first: those that no later attempt superseded.

    One whose manifest cannot be read is left out, with a warning.

    Args:
        store: The run's folder.

    Raises:
        StorageError: if the store cannot be read.
    """
    listing = Lister(store).list()
    _warn_of_unreadable(listing, store, set())
    return listing.visible


def newest_whole(
    store: Store,
    accept: Callable[[Manifest], bool] = lambda _: True,
    *,
    device: torch.device | None = None,
    load: Callable[[Store, Manifest], Tree] | None = None,
) -> tuple[Manifest, Tree] | None:
    """The newest checkpoint whose every object is there and as it was written, and the state in it.

    One that is damaged is passed over, with a warning that says which and why. One that is removed while it is read
    is not missed: there is a newer one, which is read instead.

    Args:
        store: The run's folder.
        accept: Which checkpoints to look at.
        device: Where the tensors go that were not on the CPU; None leaves them on the CPU.
        load: Reads one, in place of `read`.

    Raises:
        StorageError: if the store cannot be read; that says nothing about the checkpoints.
    """
    load = load or partial(read, device=device)
    lister, passed = Lister(store), set[str]()
    while True:
        listing = lister.list()
        _warn_of_unreadable(listing, store, passed)
        manifest = next((one for one in listing.visible if one.key not in passed and accept(one)), None)
        if manifest is None:
            return None
        try:
            return manifest, load(store, manifest)
        except (StorageError, UnknownVersionError):
            raise
        except CheckpointError as error:
            passed.add(manifest.key)
            if _is_there(store, manifest.key):
                warnings.warn(
                    f"{manifest.name} in {store.url} is damaged and passed over: {error}", RuntimeWarning, stacklevel=2
                )


def read(
    store: Store,
    manifest: Manifest,
    *,
    part: str | Sequence[str] = (),
    device: torch.device | None = None,
    sharded: bool = True,
) -> Tree:
    """The state in a checkpoint.

    Args:
        store: The run's folder.
        manifest: Which checkpoint.
        part: The one entry of the state to read, such as `"model"` or `("hooks", "ema")`; empty for the whole.
        device: Where the tensors go that were not on the CPU; None leaves them on the CPU.
        sharded: Whether tensors of which each rank held a part are put together; if not, an `Absent` stands for each.

    Raises:
        CheckpointError: if an object is missing, or not as it was written, naming it; `NoEntryError` if there is no
            such entry.
        StorageError: if the store cannot be read.
    """
    skeleton = _entry(_skeleton(store, manifest), manifest, (part,) if isinstance(part, str) else part)
    shards, wanted = shards_of(store, manifest), set(_names(skeleton))
    groups = {name.partition(":")[0] for name in wanted}
    tensors: dict[str, Tensor] = {}
    parts: list[StoredFile] = []
    for file in manifest.files:
        found = group_of(file.name)
        if found is not None and found[0] in groups:
            if found[1]:
                parts.append(file)
            else:
                tensors.update(tensors_in(store, file))
    if not sharded:
        absent = {name: Absent(name, one) for name, one in shards.items()}
        return decode(skeleton, tensors, device=device, sharded=absent)
    files = ((file.name, tensors_in(store, file)) for file in parts)
    whole = assembled(shards, [name for name in shards if name in wanted], files)
    return decode(skeleton, tensors, device=device, sharded=whole)


def _entry(skeleton: Json, manifest: Manifest, path: Sequence[str]) -> Json:
    for place, name in enumerate(path):
        if not isinstance(skeleton, Mapping) or name not in (entries := cast("Mapping[str, Json]", skeleton)):
            raise NoEntryError(f"The state in {manifest.name} has no {'.'.join(path[: place + 1])!r}.")
        skeleton = entries[name]
    return skeleton


def _names(skeleton: Json) -> Iterator[str]:
    """The names of the tensors that stand in a skeleton."""
    if isinstance(skeleton, list):
        for one in cast("list[Json]", skeleton):
            yield from _names(one)
    elif isinstance(skeleton, Mapping):
        for key, one in cast("Mapping[str, Json]", skeleton).items():
            if key in ("$tensor", "$sharded"):
                yield str(one)
            else:
                yield from _names(one)


def tensors_in(store: Store, file: StoredFile) -> dict[str, Tensor]:
    """The tensors in a file of a checkpoint, under their full names.

    Raises:
        CheckpointError: if it is missing, or not as it was written.
        StorageError: if the store cannot be read.
    """
    group = group_of(file.name)
    assert group is not None, "a file of tensors"
    return {f"{group[0]}:{key}": tensor for key, tensor in _checked(store, file, read_tensors).items()}


def shards_of(store: Store, manifest: Manifest) -> Shards:
    """Where the parts of a checkpoint's sharded tensors are; nothing if it has none."""
    file = manifest.file(SHARDS)
    return {} if file is None else _checked(store, file, shards_in)


def verify(store: Store, manifest: Manifest) -> None:
    """Read every object of a checkpoint and compare it with its digest.

    Raises:
        CheckpointError: if one is missing, or not as it was written, naming it.
        StorageError: if the store cannot be read.
    """
    for file in manifest.files:
        _verify(store, file)


def verify_parts(store: Store, manifest: Manifest, *, share: tuple[int, int]) -> None:
    """Verify one of so many shares of the files that hold parts of sharded tensors; see `verify`."""
    which, of = share
    parts = [file for file in manifest.files if (found := group_of(file.name)) is not None and found[1]]
    for file in parts[which::of]:
        _verify(store, file)


def _verify(store: Store, file: StoredFile) -> None:
    _checked(store, file, lambda chunks, _: deque(chunks, maxlen=0))


def _skeleton(store: Store, manifest: Manifest) -> Json:
    file = manifest.file(STATE)
    if file is None:
        raise CheckpointError(f"{manifest.name} has no {STATE}")
    return _checked(store, file, _tree_in)


def _tree_in(chunks: Iterator[bytes], _: int) -> Json:
    data = object_of(b"".join(chunks), STATE_FORMAT)
    check_version(data, STATE_VERSION)
    return data["tree"]


def _verified(store: Store, file: StoredFile) -> Iterator[bytes]:
    """The bytes of a file; after the last one, that they were all of them, unaltered."""
    digest, size = hashlib.sha256(), 0
    for chunk in store.stream(file.key):
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if size != file.size:
        raise CheckpointError(f"it has {size} bytes, not {file.size}")
    if digest.hexdigest() != file.sha256:
        raise CheckpointError("it was altered: its sha256 is not that of the manifest")


def _checked(store: Store, file: StoredFile, load: Callable[[Iterator[bytes], int], T]) -> T:
    """What is made of the bytes of a file, which must come to their end."""
    try:
        return load(_verified(store, file), file.size)
    except ObjectMissingError as error:
        raise CheckpointError(f"{file.key} is missing") from error
    except (StorageError, UnknownVersionError):
        raise
    except CheckpointError as error:
        raise CheckpointError(f"{file.key} cannot be read: {error}") from None


def _is_there(store: Store, key: str) -> bool:
    try:
        store.head(key)
    except ObjectMissingError:
        return False
    return True


def _warn_of_unreadable(listing: Listing, store: Store, told: set[str]) -> None:
    for key, error in listing.unreadable.items():
        if key not in told:
            told.add(key)
            warnings.warn(f"{key} in {store.url} is passed over: {error}", RuntimeWarning, stacklevel=3)
