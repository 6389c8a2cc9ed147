"""What rank 0 knows of the parts of checkpoints that the ranks write, each on a thread of its own."""

from collections.abc import Sequence
from typing import final

from attrs import define, field

from .manifest import StoredFile
from .outcomes import NotWritten, PartNews, Written
from .writer import Writer


@final
@define(eq=False)
class Gathering:
    """Has a checkpoint committed once all of its parts are durable, or given up once one of them cannot be."""

    writer: Writer
    world: int
    _parts: dict[str, dict[int, PartNews]] = field(factory=dict[str, dict[int, PartNews]])

    def hear(self, by_rank: Sequence[Sequence[object]]) -> None:
        """Take in the news of each rank, in the order of ranks."""
        for rank, news in enumerate(by_rank):
            for one in news:
                if isinstance(one, Written | NotWritten):
                    self._parts.setdefault(one.nonce, {})[rank] = one
        for nonce in [nonce for nonce, parts in self._parts.items() if len(parts) == self.world]:
            self._conclude(nonce, self._parts.pop(nonce))

    def _conclude(self, nonce: str, parts: dict[int, PartNews]) -> None:
        files: list[StoredFile] = []
        failures: list[str] = []
        for rank, one in sorted(parts.items()):
            if isinstance(one, Written):
                files += one.files
            else:
                failures.append(f"Rank {rank}: {one.why}")
        if failures:
            self.writer.give_up(nonce, " ".join(failures))
        else:
            self.writer.commit(nonce, files)
