"""The context of each event: what is valid at that moment, and nothing else.

Contexts are immutable and compare by identity, since tensors do not compare. After backward, every tensor that a
context hands out is detached, so keeping a context keeps no autograd graph alive. Those of a batch are in `batches`.
"""

from collections.abc import Mapping
from typing import final

from attrs import field, frozen

from .endings import End
from .progress import Progress, Rank
from .randomness import generator_of
from .run import Run
from .values import Values


@final
@frozen(kw_only=True, eq=False)
class Registration:
    """Before anything moves."""

    run: Run
    at: Progress
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class ProcessStart:
    """A process of a distributed run has joined its group."""

    run: Run
    at: Progress
    rank: Rank
    """This process."""
    restart_count: int
    """How often the group was restarted, from 0."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class TrainBegin:
    """The model is on its device, the optimizers are made, the state is restored."""

    run: Run
    at: Progress
    resumed: bool
    """Whether the run goes on from a checkpoint."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class TrainEnd:
    """The run is over."""

    run: Run
    at: Progress
    end: End
    """How it ended."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class EpochBegin:
    """An epoch begins."""

    run: Run
    at: Progress
    batches: int | None
    """How many batches the epoch will have; None if the data has no length."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class EpochEnd:
    """An epoch is complete and evaluated."""

    run: Run
    at: Progress
    since: Progress
    """When the epoch began."""
    metrics: Values
    """The newest value of each name recorded since then: the loop's own, and those that this set `reads`."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class EvaluationBegin:
    """An evaluation begins: modules are in eval mode, gradients are off."""

    run: Run
    at: Progress
    since: Progress
    """When the window before this boundary began."""
    name: str
    """The evaluation's name."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class EvaluationEnd:
    """An evaluation has seen all its data."""

    run: Run
    at: Progress
    since: Progress
    """When the window before this boundary began."""
    name: str
    """The evaluation's name."""
    metrics: Values
    """`<name>/loss` and `<name>/<metric>`, each item with weight one; and the values that this set `reads`."""
    generator = generator_of


@final
@frozen(kw_only=True, eq=False)
class Recorded:
    """Values were recorded; delivered later than `at`, in bursts, in the order recorded."""

    run: Run
    at: Progress
    """Progress when the values were recorded."""
    since: Progress
    """When the interval began that the recording event covers: its batch, its window, its epoch."""
    by: str
    """Name of the hook set that recorded them; `"loop"` for the loop's own."""
    values: Mapping[str, float]
    """The values, as plain numbers."""
    _until: Progress | None = field(default=None, repr=False, alias="until")
    generator = generator_of

    @property
    def until(self) -> Progress:
        """When that interval ends: `at`, or, recorded before an update was made or skipped, what it was to be."""
        return self.at if self._until is None else self._until


@final
@frozen(kw_only=True, eq=False)
class CheckpointSaved:
    """A checkpoint is durable."""

    run: Run
    at: Progress
    """Progress when the checkpoint was captured."""
    since: Progress
    """When the window before its boundary began."""
    step: int
    """The update count that it holds."""
    tags: tuple[str, ...]
    """The words that it was saved with."""
    generator = generator_of
