"""`Live`: the counters, decisions and values of one run while it runs. Hooks never see it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final

from attrs import define, field
from torch import Tensor

from trainhooks.core import Asked, Completed, End, EndEpoch, Interrupted, Progress, Run
from trainhooks.errors import MissingValueError

from .counts import Counts
from .feeding import batches_of, length_of, refuse_empty_data
from .forwarding import Forward, forward
from .interrupts import Interrupts
from .records import LOOP, Records
from .requests import DueEvaluation, Requests
from .scaling import Scaling
from .steps import Worker
from .transfer import Transfer, move


@final
@define(eq=False)
class Live:
    """One run while it runs."""

    run: Run
    data: Iterable[Any] = ()
    requests: Requests = field(factory=Requests)
    prepare: Callable[["Live"], None] = lambda live: None
    """Puts the model on its device, makes the `workers` and the final `run`, and the states that need them."""
    awaited: Mapping[str, str] = field(factory=dict[str, str])
    """Values of the step that somebody reads, and who: they must have come when the first epoch is over."""
    transfer: Transfer = move
    forward: Forward = forward
    """How a step is called, in the run's precision."""
    scaling: Scaling | None = None
    """The scaler of an fp16 run."""
    records: Records = field(factory=Records)
    interrupts: Interrupts = field(factory=Interrupts)
    workers: Sequence[Worker] = ()
    resumed: bool = False

    counts: Counts = field(factory=Counts)
    """The counters, now."""
    boundary: Counts = field(factory=Counts)
    """The counters at the last boundary."""
    boundary_before: Counts = field(factory=Counts)
    """The counters at the boundary before that one, or when the epoch began."""
    epoch_began: Progress = field(factory=Progress)
    updates_before: int = 0
    """Updates when this batch began."""
    length: int | None = None
    """Batches of this epoch, if its data knows."""

    open: int = 0
    """Finished batches in the open window."""
    last: bool = False
    """Whether this is the data's last batch, as far as is known."""
    closes: bool = False
    """Whether an update follows this batch."""
    updated: bool = False
    """Whether an optimizer stepped for this batch."""
    exhausted: bool = False
    """Whether the data had no more batches."""
    ends_epoch: bool = False
    """Whether somebody asked to end the epoch."""
    leaving: bool = False
    """Whether the run ends here."""
    end: End | None = None
    """How the run ended, once it has."""
    history: list[dict[str, float]] = field(factory=list[dict[str, float]])
    _at: Progress | None = None

    @property
    def at(self) -> Progress:
        """How far the run is."""
        if self._at is None:
            self._at = self.counts.progress()
        return self._at

    @property
    def at_start(self) -> Progress:
        """How far the run was when this batch began."""
        if not self.updated:
            return self.at
        return self.counts.progress(updates=self.updates_before)

    @property
    def since(self) -> Progress:
        """How far the run was at the last boundary."""
        return self.boundary.progress()

    def wants_epoch(self) -> bool:
        """Whether another epoch begins."""
        total = self.run.epochs
        return not self.leaving and not self.is_full() and (total is None or self.counts.epochs < total)

    def is_full(self) -> bool:
        """Whether the run has made all its updates."""
        total = self.run.max_updates
        return total is not None and self.counts.updates >= total

    def begin_epoch(self) -> None:
        """Open an epoch."""
        self.counts.epoch, self.counts.batch = self.counts.epochs, 0
        self._at = None
        self.boundary_before.take(self.boundary)
        self.epoch_began = self.at
        self.length = length_of(self.data)
        self.exhausted = self.ends_epoch = self.last = False
        self.records.this_epoch.clear()
        self.requests.evaluated.clear()
        for worker in self.workers:
            worker.begin_epoch()

    def feed(self) -> Iterator[Any]:
        """This epoch's batches, on the device; ends when the data or the run does, or somebody ends the epoch."""
        if self.leaves_epoch():
            return
        counts, accumulate, device, transfer = self.counts, self.run.accumulate, self.run.device, self.transfer
        index = -1
        source = batches_of(self.data, self.length, looks_ahead=accumulate > 1)
        for index, (batch, self.last) in enumerate(source):
            counts.batch = index
            self.closes = self.last or self.open + 1 >= accumulate
            self.updated = False
            self.updates_before = counts.updates
            self._at = None
            yield transfer(batch, device)
            if self.leaving or self.ends_epoch or (self.last and self.is_full()):
                return
        self.exhausted = True
        if index < 0:
            refuse_empty_data(counts.epoch)

    def leaves_epoch(self) -> bool:
        """Whether no further batch of this epoch is wanted."""
        return self.leaving or self.ends_epoch

    def count_update(self) -> None:
        """Count this window's update, once however many optimizers step."""
        if not self.updated:
            self.updated = True
            self.counts.updates += 1
            self._at = None

    def count_batch(self) -> None:
        """Count this batch as done."""
        self.counts.batches += 1
        if self.closes:
            self.end_window()
        else:
            self.open += 1
        self.requests.evaluated.clear()
        self._at = None

    @property
    def window(self) -> int:
        """Batches in the window that is closing, the one at hand included."""
        return self.open + self.closes

    def end_window(self) -> None:
        """Close the window: every optimizer had its turn."""
        self.open = 0
        if self.scaling is not None:
            self.scaling.end_window()

    def close_short(self) -> None:
        """Say that the open window closes without another batch."""
        self.closes = self.updated = False

    def losses(self) -> dict[str, Tensor]:
        """The newest loss of each objective, detached."""
        return {worker.objective.name: worker.newest.detach() for worker in self.workers if worker.newest is not None}

    def complete_epoch(self) -> bool:
        """Count the epoch and record its means, unless it was cut short."""
        if not (self.exhausted or self.ends_epoch or self.last):
            return False
        if self.boundary.batches == self.counts.batches:  # nobody knew that the last window was the last
            self.boundary.take(self.boundary_before)
        self.counts.epochs += 1
        self._at = None
        alone = len(self.workers) == 1
        means = {name: mean for worker in self.workers for name, mean in worker.means(alone=alone).items()}
        self.records.add(LOOP, means, self.at, self.epoch_began)
        self._check_awaited()
        return True

    def _check_awaited(self) -> None:
        known = tuple(sorted(self.records.times))
        for name, reader in self.awaited.items():
            if name not in known:
                raise MissingValueError(
                    f"{reader!r} reads {name!r}, which the first epoch did not bring: the step returned no such value. "
                    f"The names that exist: {', '.join(known)}.",
                    name,
                    known,
                )

    def ask(self, asked: Sequence[Asked]) -> bool:
        """Remember what was asked for until the boundary; whether a skip is among it, which acts at once."""
        if not asked:
            return False
        self.ends_epoch |= any(isinstance(one.answer, EndEpoch) for one in asked)
        return self.requests.take(asked)

    def due(self) -> Iterator[DueEvaluation]:
        """The evaluations due at this boundary, by their triggers or because somebody asked."""
        return self.requests.waiting(self, triggers=self.has_moved())

    def asked_for(self) -> Iterator[DueEvaluation]:
        """The evaluations that somebody asked for."""
        return self.requests.waiting(self, triggers=False)

    def has_moved(self) -> bool:
        """Whether anything was finished since the last boundary."""
        now, then = self.counts, self.boundary
        return now.updates != then.updates or now.batches != then.batches or now.epochs != then.epochs

    def settle(self) -> None:
        """Let the answers of this boundary take effect, and open the next stretch."""
        if self.requests.asked or self.requests.here:
            self.end = self.requests.settle().stop or self.end
        if self.end is None and self.interrupts.signal is not None:
            self.end = Interrupted(self.interrupts.signal)
        self.leaving = self.end is not None or self.is_full()
        if self.has_moved():
            self.boundary, self.boundary_before = self.boundary_before, self.boundary
        self.boundary.take(self.counts)

    def ending(self) -> End:
        """How a run ended that no exception ended."""
        return self.end or Completed()

    def add_history_row(self) -> None:
        """Keep what this epoch recorded."""
        row: dict[str, float] = {"epoch": self.counts.epoch, "updates": self.counts.updates}
        self.history.append({**row, **self.records.of_epoch()})
