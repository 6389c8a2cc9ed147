"""Carrying out, at a boundary, what was asked to be saved."""

from trainhooks.core import CheckpointSaved

from .capture import captured, position_of
from .delivery import deliver
from .heard import Heard
from .live import Live
from .saver import Saver


def save(live: Live, heard: Heard, saver: Saver) -> None:
    """Save what was asked for at this boundary, after all its hooks; tell what became durable since the last."""
    if live.order is not None:
        deliver(live, heard)
        metrics = live.records.recorded_at(live.at)
        saver.save(live.order, captured(live), metrics, position_of(live))
        live.order = None
    tell(live, heard, saver)


def tell(live: Live, heard: Heard, saver: Saver) -> None:
    """Tell what became durable since the last boundary."""
    for saved in saver.saved():
        if heard.on_checkpoint_saved is not None:
            heard.on_checkpoint_saved(CheckpointSaved(
                run=live.run, at=saved.at, since=saved.since, step=saved.step, tags=saved.tags
            ))  # fmt: skip


def finish_saving(live: Live, heard: Heard, saver: Saver, *, together: bool) -> None:
    """Wait until every checkpoint is durable, and tell of them.

    Args:
        live: The run.
        heard: What it calls.
        saver: What writes.
        together: Whether all ranks come here; not if the run failed.
    """
    saver.finish(together)
    tell(live, heard, saver)
    deliver(live, heard)
