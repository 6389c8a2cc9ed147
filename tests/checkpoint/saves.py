"""Small saves on small stores."""

from tests.checkpoint.faults import FaultyStore
from tests.checkpoint.runs import loss_of, state_of
from trainhooks.checkpoint import Writer, begin_attempt, manifests_of
from trainhooks.checkpoint.snapshots import SnapshotPool
from trainhooks.core import Keep
from trainhooks.store import Store, open_store

FIRST_FILE = 1
"""The call of a writer that writes the first file of its first save."""


def save(writer: Writer, step: int, *, background: bool = False, pinned: bool = False) -> bool:
    metrics = {"loss": loss_of(step)}
    return writer.save(
        state_of(step), step=step, epoch=0, epochs=0, metrics=metrics, background=background, pinned=pinned
    )


def writer_on(store: Store, *policies: Keep, slots: int = 2) -> Writer:
    return Writer(store, begin_attempt(store, resumed_from=None), policies, pool=SnapshotPool(slots))


def stalling(at_call: int) -> tuple[FaultyStore, Writer]:
    """A store that stalls at a call of its writer, and the writer."""
    inner = open_store("memory://")
    store = FaultyStore(inner, "stalls", at_call)
    return store, Writer(store, begin_attempt(inner, resumed_from=None))


def steps(store: Store) -> list[int]:
    return [one.step for one in manifests_of(store)]


def why_not(writer: Writer) -> str:
    return str(writer.unpublished)
