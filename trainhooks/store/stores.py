"""The one implementation of a store, over obstore, with what obstore leaves to its caller.

| obstore | so here |
|---|---|
| keeps the buffers of an iterable past the call, and in memory all for ever | those are copied |
| takes a str for the path of a file | a str is refused |
| tries again after a lost reply, and finds its own object | what is there is compared with what was put |
| hangs in a forked process | an error comes before the call |
| never waits for the disk | files and folders are synced before a call returns |
| tells most failures apart by their text alone | `failures.py` |
"""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, NoReturn, TypeAlias, cast, final

from attrs import evolve, frozen
from typing_extensions import Buffer

from trainhooks.errors import ObjectExistsError, ObjectMissingError, StorageError

from .disk import Disk
from .failures import Act, Where
from .layout import fault_of_key, joined
from .objects import Data, ObjectInfo

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

    Backend: TypeAlias = AzureStore | GCSStore | LocalStore | MemoryStore | S3Store

CHUNK = 16 << 20
"""Bytes of a part of a large object. There are at most 10,000 parts, so an object has at most 156 GiB."""
_PARTS_AT_ONCE = 4
_ATTEMPTS_TO_CREATE = 5

_user: list[int] = []
"""The process that used obstore first: its threads do not survive a fork, so a child of that process would hang."""


@final
@frozen(eq=False, repr=False)
class ObjectStorage:
    """A `Store` in a bucket, in a local folder or in memory."""

    where: Where
    backend: "Callable[[], Backend]"
    """Obstore's own. Raises FileNotFoundError if it is a folder that is not there yet."""
    disk: Disk | None = None
    """For a local folder."""
    folder: str = ""
    """The part of it that this store is."""

    @property
    def url(self) -> str:
        return f"{self.where.url.removesuffix('/')}/{self.folder}" if self.folder else self.where.url

    def __repr__(self) -> str:
        return f"<store {self.url}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"A store may hold secrets, so it is not pickled. Open {self.url} where it is needed.")

    def at(self, prefix: str) -> "ObjectStorage":
        return evolve(self, folder=joined(self.folder, prefix))

    def put(self, key: str, data: Data, *, create: bool = False) -> None:
        if isinstance(data, (str, os.PathLike)):
            raise TypeError(f"A store writes bytes, got {type(data).__name__} for {key}; encode it, or read the file.")
        whole = _as_bytes(data)
        if whole is not None and self.where.kind == "memory":
            whole = bytes(whole)
        if create:
            if whole is None:
                raise TypeError(f"What is put with create=True is one buffer, got {type(data).__name__} for {key}.")
            self._create(key, whole)
        elif whole is not None:
            self._put(key, whole)
        else:
            pieces = _Pieces(cast("Iterable[Buffer]", data))
            self._put(key, pieces, passing=pieces.raised)

    def get(self, key: str) -> memoryview:
        path = self._path(key)
        with self._doing("read from", key):
            return memoryview(self.backend().get(path).bytes())

    def stream(self, key: str) -> Iterator[bytes]:
        path = self._path(key)
        with self._doing("read from", key):
            chunks = self._chunks(path)
        while True:
            with self._doing("read from", key):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def list(self, prefix: str = "") -> "list[ObjectInfo]":
        folder = joined(self.folder, prefix)
        with self._doing("listed in", prefix or "What is there"):
            if self.disk is not None and not self.disk.base.is_dir():
                return []
            found = self.backend().list(folder or None).collect()
        own = f"{self.folder}/" if self.folder else ""
        # Consoles mark a folder by an empty object of its name.
        inside = (one for one in found if one["path"].startswith(own) and one["path"] != folder)
        return sorted((_info(one, one["path"].removeprefix(own)) for one in inside), key=lambda info: info.key)

    def head(self, key: str) -> ObjectInfo:
        path = self._path(key)
        with self._doing("read from", key):
            return _info(self.backend().head(path), key)

    def delete(self, keys: Iterable[str]) -> None:
        paths = [self._path(key) for key in dict.fromkeys(keys)]
        if not paths:
            return
        with self._doing("removed from", paths[0] if len(paths) == 1 else f"{paths[0]} and others"):
            try:
                self.backend().delete(paths)
            except FileNotFoundError:  # it may have come before others were removed
                self._delete_each(paths)
            if self.disk is not None:
                self.disk.tidy(paths)

    def sweep(self) -> None:
        """Remove unfinished files of writers that were killed, from a local folder. They are in no list."""
        if self.disk is not None:
            with self._doing("removed from", "Unfinished files"):
                self.disk.sweep(self.folder)

    def _chunks(self, path: str) -> Iterator[bytes]:
        if self.disk is not None:
            return self.disk.pieces(path)
        return iter(self.backend().get(path).stream(min_chunk_size=CHUNK // 2))

    def _put(self, key: str, data: "bytes | memoryview | _Pieces", passing: Sequence[Exception] = ()) -> None:
        path = self._path(key, new=True)
        with self._doing("written to", key, passing):
            if self.disk is not None:
                self.disk.make()
            file = data.gathered() if isinstance(data, _Pieces) else data
            self.backend().put(path, file, chunk_size=CHUNK, max_concurrency=_PARTS_AT_ONCE)
            if self.disk is not None:
                self.disk.settle(path)

    def _create(self, key: str, data: "bytes | memoryview") -> None:
        for attempt in range(_ATTEMPTS_TO_CREATE):
            try:
                return self._create_once(key, data)
            except ObjectExistsError:
                # Our own reply may have been lost, or what was there is gone, or two writers were told to try again.
                try:
                    if self.get(key) != data:
                        raise
                except ObjectMissingError:
                    time.sleep(0.05 * 2**attempt)
                else:
                    return self._settle(key)
        raise StorageError(f"{key} could not be written to {self.url}: other writers were always first.", "unavailable")

    def _create_once(self, key: str, data: "bytes | memoryview") -> None:
        path = self._path(key, new=True)
        with self._doing("written to", key):
            if self.disk is not None:
                self.disk.make()
            self.backend().put(path, data, mode="create", use_multipart=False)
        self._settle(key)

    def _settle(self, key: str) -> None:
        if self.disk is not None:
            with self._doing("written to", key):
                self.disk.settle(self._path(key))

    def _delete_each(self, paths: Sequence[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                self.backend().delete(path)

    def _path(self, key: str, *, new: bool = False) -> str:
        if (fault := fault_of_key(key, new=new)) is not None:
            raise StorageError(f"No object in {self.url} can have the key {key!r}: {fault}.", "key")
        return joined(self.folder, key)

    @contextmanager
    def _doing(self, act: Act, what: str, passing: Sequence[Exception] = ()) -> Generator[None, None, None]:
        """Turn the failures of obstore and of the system into ours, but for those that are to pass."""
        if not _user:
            _user.append(os.getpid())
        elif _user[0] != os.getpid():
            raise StorageError(
                f"{what} could not be {act} {self.url}: this process was forked from one that had used a store. Use "
                f"stores in that one alone, or start this one by 'spawn'.",
                "forked",
            )
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, NotImplementedError, ValueError) as error:
            if any(error is one for one in passing):
                raise
            raise self.where.failure(error, act, what, self.url) from None  # its own text may hold secrets


@final
class _Pieces:
    """The buffers of an iterable, each copied: what it refills, or changes later, is not what was put."""

    def __init__(self, given: Iterable[Buffer]) -> None:
        self._given = given
        self.raised: list[Exception] = []

    def gathered(self) -> "bytes | Iterator[bytes]":
        """All of them as one, if that is not much."""
        pieces, start, size = self._copied(), list[bytes](), 0
        for piece in pieces:
            start.append(piece)
            size += len(piece)
            if size > CHUNK:
                return chain(start, pieces)
        return b"".join(start)

    def _copied(self) -> Iterator[bytes]:
        try:
            for piece in self._given:
                yield bytes(memoryview(piece))
        except Exception as error:
            self.raised.append(error)
            raise


def _as_bytes(data: Data) -> "bytes | memoryview | None":
    """One buffer in the form that obstore takes; None if there are several."""
    try:
        view = memoryview(cast("Buffer", data))
    except TypeError:
        return None
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()


def _info(meta: "ObjectMeta", key: str) -> ObjectInfo:
    return ObjectInfo(key=key, size=meta["size"], modified=meta["last_modified"].timestamp())
