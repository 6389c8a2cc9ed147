"""Contexts built by hand, outside of any run."""

from typing import Any

import torch
from torch import nn

from trainhooks import EVENTS, BatchEnd, Completed, EpochEnd, Progress, Rank, Run, Values

MODEL = nn.Linear(2, 1)
RUN = Run(
    model=MODEL, optimizers=(), device=torch.device("cpu"), rank=Rank(), epochs=3, max_updates=None, accumulate=2,
    precision="float32", seed=5, run_id="r",
)  # fmt: skip

_FIELDS: dict[str, Any] = {
    "run": RUN, "at": Progress(), "since": Progress(), "rank": Rank(), "restart_count": 0, "resumed": False,
    "end": Completed(), "batches": None, "batch": (), "closes_window": True, "output": None, "weight": 1.0,
    "optimizer_idx": 0, "loss": torch.zeros(()), "parameters": (), "names": (), "gradients": (), "stepped": True,
    "losses": {}, "updated": True, "metrics": Values({}, {}), "name": "val", "index": 0, "y_pred": None, "y_test": None,
    "by": "loop", "values": {}, "step": 0, "tags": (),
}  # fmt: skip
"""A value for every field of every context that has to be given."""


def place(event: str, **given: Any) -> Any:
    """The context of an event, with some fields as given."""
    context: Any = EVENTS[event].context
    needed = {one.name for one in context.__attrs_attrs__ if one.name in _FIELDS}
    return context(**{**{name: _FIELDS[name] for name in needed}, **given})


def batch_end(batches: int, *, updates: int = 0, updated: bool = False) -> BatchEnd:
    """The end of the batch after which so much is finished."""
    at = Progress(updates=updates, batches=batches, batch=batches)
    made: BatchEnd = place("on_batch_end", at=at, updated=updated, closes_window=updated)
    return made


def epoch_end(before: Progress, after: Progress) -> EpochEnd:
    made: EpochEnd = place("on_epoch_end", since=before, at=after)
    return made
