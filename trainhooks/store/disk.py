"""What a local folder needs beyond obstore: that what is written survives a power cut, and that no debris stays."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import final

from attrs import field, frozen

_STAGED = re.compile(r".+#\d+")
_PIECE = 4 << 20
_DEAD_AFTER = 3600.0
"""Seconds after which an unfinished file that nobody writes to any more is debris."""


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@final
@frozen
class Disk:
    """A local folder under which objects are files."""

    base: Path
    """Absolute."""
    sync: Callable[[Path], None] = field(default=sync)
    """How to wait for the disk."""
    _names_are_durable: list[bool] = field(factory=list[bool], init=False)

    def make(self) -> None:
        """Make the folder. At the first call its names are made durable, all the way up: who made them may not have."""
        made = [folder for folder in (self.base, *self.base.parents) if not folder.exists()]
        self.base.mkdir(parents=True, exist_ok=True)
        if made or not self._names_are_durable:
            for folder in self.base.parents:
                with nullcontext() if folder in [each.parent for each in made] else suppress(OSError):
                    self.sync(folder)
            self._names_are_durable.append(True)

    def settle(self, key: str) -> None:
        """Make a file durable that obstore has written: its bytes, then its name, then the names of its folders."""
        path = self.base / key
        self.sync(path)
        for folder in self._upwards(path.parent):
            self.sync(folder)

    def pieces(self, key: str) -> Iterator[bytes]:
        """A file's bytes. Obstore streams a file in pieces of 8 KiB, which takes twenty times as long."""
        path = self.base / key
        if path.is_dir():
            raise FileNotFoundError(path)
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                yield piece

    def tidy(self, keys: Iterable[str]) -> None:
        """Make durable that files are gone, and remove folders that became empty."""
        for parent in dict.fromkeys((self.base / key).parent for key in keys):
            kept = next(folder for folder in self._upwards(parent) if folder == self.base or not _removed(folder))
            with suppress(FileNotFoundError, NotADirectoryError):  # an object of another process took its place
                self.sync(kept)

    def sweep(self, prefix: str) -> None:
        """Remove what writers that were killed left behind: `name#1`, which obstore neither lists nor removes."""
        gone = [path for path in self._staged(self.base / prefix) if self._is_dead(path)]
        for path in gone:
            path.unlink(missing_ok=True)
        self.tidy(str(path.relative_to(self.base)) for path in gone)

    def _upwards(self, folder: Path) -> Iterator[Path]:
        while folder != self.base:
            yield folder
            folder = folder.parent
        yield folder

    def _staged(self, folder: Path) -> Iterator[Path]:
        return (path for path in folder.rglob("*#*") if _STAGED.fullmatch(path.name))

    def _is_dead(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            return path.is_file() and time.time() - path.stat().st_mtime > _DEAD_AFTER
        return False


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # not empty
        return False
    return True
