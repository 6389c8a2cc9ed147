"""A store that dies, fails or stalls at the n-th call, so that each moment of a save can be the last one."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeAlias, TypeVar, final

from attrs import define, field

from trainhooks.errors import StorageError
from trainhooks.store import Data, ObjectInfo, Store

Fault: TypeAlias = Literal["dies before", "dies after", "fails before", "fails after", "stalls"]
T = TypeVar("T")


class Death(BaseException):
    """The process is gone: whoever catches this cheats."""


@final
@define(eq=False)
class FaultyStore:
    """A store over another one, which does as it is told at one call and is well at every other.

    A deletion counts one call for each key, so that it can be interrupted between two. After a death, every call is
    one. `fails after` is an answer that got lost: the store did what it was asked to.
    """

    inner: Store
    fault: Fault = "stalls"
    at_call: int = 0
    """The first call is 1; 0 for none."""
    calls: list[str] = field(factory=list[str])
    """Each call so far, as `operation key`."""
    released: threading.Event = field(factory=threading.Event)
    """Lets a call that stalls go on."""
    stalled: threading.Event = field(factory=threading.Event)
    """Set when a call stalls."""
    dead: bool = False
    meanwhile: dict[int, Callable[[], None]] = field(factory=dict[int, Callable[[], None]])
    """What another process does just before a call."""

    @property
    def url(self) -> str:
        return self.inner.url

    def put(self, key: str, data: Data, *, create: bool = False) -> None:
        self._call(f"put {key}", lambda: self.inner.put(key, data, create=create))

    def get(self, key: str) -> memoryview:
        return self._call(f"get {key}", lambda: self.inner.get(key))

    def stream(self, key: str) -> Iterator[bytes]:
        yield from self._call(f"stream {key}", lambda: list(self.inner.stream(key)))

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return self._call(f"list {prefix}", lambda: self.inner.list(prefix))

    def head(self, key: str) -> ObjectInfo:
        return self._call(f"head {key}", lambda: self.inner.head(key))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._call(f"delete {key}", lambda key=key: self.inner.delete([key]))  # type: ignore[misc]  # key is a str

    def at(self, prefix: str) -> Store:
        raise NotImplementedError("wrap the part instead")

    def _call(self, name: str, act: Callable[[], T]) -> T:
        if self.dead:
            raise Death(name)
        self.calls.append(name)
        if (act_of_another := self.meanwhile.get(len(self.calls))) is not None:
            act_of_another()
        if len(self.calls) != self.at_call:
            return act()
        if self.fault == "stalls":
            self.stalled.set()
            self.released.wait()
            return act()
        if self.fault.endswith("after"):
            act()
        if self.fault.startswith("dies"):
            self.dead = True
            raise Death(name)
        raise StorageError(f"{name} was refused.")
