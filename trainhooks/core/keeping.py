"""Which checkpoints a hook set wants kept."""

from typing import Literal, final

from attrs import frozen

from .triggers import Trigger


@final
@frozen(kw_only=True)
class Keep:
    """What a hook set that asks for checkpoints wants of them; one that no set of the run wants kept goes."""

    last: int | None = None
    """How many of the newest; None for no say in that."""
    best: tuple[str, Literal["min", "max"]] | None = None
    """The value by which the best ones are kept, and whether smaller or greater is better."""
    best_count: int = 1
    """How many of the best."""
    every: int | None = None
    """Those whose update count is a multiple of this."""
    background: bool = True
    """Whether training goes on while they are written."""
    when: Trigger | None = None
    """When the set asks for one, as far as progress alone decides; None for no such time."""
    on_failure: Literal["raise", "warn"] = "raise"
    """What becomes of the run when one cannot be written."""
