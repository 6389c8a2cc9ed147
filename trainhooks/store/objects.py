"""What a store is: objects under keys. Written whole, read whole, listed, removed."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeAlias, final

from attrs import frozen
from typing_extensions import Buffer

Data: TypeAlias = Buffer | Iterable[Buffer]
"""What an object is made of: one buffer, or several one after another."""


@final
@frozen(kw_only=True)
class ObjectInfo:
    """What a store says of an object without reading it."""

    key: str
    """Relative to the store that was asked."""
    size: int
    """In bytes."""
    modified: float
    """When it was written, in seconds since 1970."""


class Store(Protocol):
    """Objects under keys: relative paths such as `manifests/0000001200-000001.json`, parted by `/`.

    An object is there whole or not at all, and whoever writes or removes one is told only when that is durable.
    A store may be used by several threads at once, but not by a forked process. All failures are a `StorageError`.
    """

    @property
    def url(self) -> str:
        """Where it is, as shown to people. No secret is in it."""
        ...

    def put(self, key: str, data: Data, *, create: bool = False) -> None:
        """Write an object; it is durable when this returns. Buffers may be reused from then on.

        Args:
            key: Where to.
            data: One buffer, or an iterable of buffers, which are taken one by one and may be one buffer refilled.
                An exception of the iterable passes through, and nothing is written. It must not read from a store
                itself, at least not in the thread that takes from it.
            create: Whether the object must not be there yet. Asks for one buffer that no other process would write,
                one with a random token in it: after a lost reply, equal bytes are taken for one's own.

        Raises:
            ObjectExistsError: with `create`, if another object is there.
        """
        ...

    def get(self, key: str) -> memoryview:
        """Read an object; the view is of bytes, and cannot be written to.

        Raises:
            ObjectMissingError: if it is not there.
        """
        ...

    def stream(self, key: str) -> Iterator[bytes]:
        """Read an object in chunks of some MiB.

        Raises:
            ObjectMissingError: with the first chunk, if it is not there.
        """
        ...

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """List the objects in a folder and in its folders, sorted by key. A folder that is not there is empty.

        Args:
            prefix: The folder, with or without a slash at its end; all of the store if empty.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """Describe an object.

        Raises:
            ObjectMissingError: if it is not there.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; it is durable when this returns. One that is not there is fine."""
        ...

    def at(self, prefix: str) -> "Store":
        """The part of this store in a folder, with keys relative to that folder."""
        ...
