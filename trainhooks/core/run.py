"""The facts of a run, which every context carries, and the names in its model."""

from collections.abc import Iterator
from typing import final

import torch
from attrs import frozen
from torch import Tensor, nn

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


def bare_name(name: str) -> str:
    """The name that a part of a model has without `torch.compile`, which puts its own module around it."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod") if "_orig_mod" in name else name


def named_parameters(model: nn.Module, *, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
    """The model's parameters, under their bare names."""
    parameters = model.named_parameters(remove_duplicate=remove_duplicate)
    return ((bare_name(name), one) for name, one in parameters)


def named_buffers(model: nn.Module, *, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
    """The model's buffers, under their bare names."""
    return ((bare_name(name), one) for name, one in model.named_buffers(remove_duplicate=remove_duplicate))
