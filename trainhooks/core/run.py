"""The facts of a run, which every context carries."""

from typing import final

import torch
from attrs import frozen
from torch import nn

from .progress import Rank


@final
@frozen(kw_only=True, eq=False)
class Run:
    """The facts of a run, the same at every event."""

    model: nn.Module
    """The model as the user gave it."""
    optimizers: tuple[torch.optim.Optimizer, ...]
    """In the order of the objectives; empty at registration if they are still to be made."""
    device: torch.device
    """Where batches go; a model may be on further devices."""
    rank: Rank
    """This process among those of the run."""
    epochs: int | None
    """The epoch count at which the run is complete, over all resumes."""
    max_updates: int | None
    """The update count at which the run is complete, over all resumes."""
    accumulate: int
    """Batches of a full window."""
    precision: str
    """As given to `train`."""
    seed: int | None
    """As given to `train`."""
    experiment: object = None
    """As given to `train`."""
    run_id: str
    """Unique to this run."""
