"""How far a run is, and which of its processes speaks."""

from typing import Literal, TypeAlias, final

from attrs import frozen

Unit: TypeAlias = Literal["updates", "batches", "epochs"]
"""What can be counted; each is a field of `Progress`."""


@final
@frozen
class Progress:
    """What is finished, and where we are.

    An update is one optimizer step of a whole accumulation window; a batch is a micro-batch.
    """

    updates: int = 0
    """Updates finished since the run began, over all resumes."""
    batches: int = 0
    """Batches finished since the run began; a skipped batch is not among them."""
    epochs: int = 0
    """Epochs finished since the run began."""
    epoch: int = 0
    """The epoch we are in, from 0."""
    batch: int = 0
    """The batch we are in, or were in last, within its epoch, from 0; a skipped batch counts."""

    def __str__(self) -> str:
        return f"update {self.updates}, batch {self.batch} of epoch {self.epoch}"


@final
@frozen(kw_only=True)
class Rank:
    """One process among those of a run."""

    index: int = 0
    """Among all processes, from 0."""
    world: int = 1
    """How many processes there are."""
    local_index: int = 0
    """Among the processes of this node, from 0."""
    local_world: int = 1
    """How many processes this node has."""
