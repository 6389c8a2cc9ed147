"""`Live`: the counters, decisions and values of one run while it runs. Hooks never see it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast, final

from attrs import Factory, define, field
from torch import Tensor, nn

from trainhooks.core import Asked, End, EndEpoch, Progress, Run, StepOutput
from trainhooks.distributed import Ranks
from trainhooks.errors import TrainhooksError

from .around import say_in
from .averages import Averages
from .counts import Boundaries, Counts
from .epochs import set_epoch
from .feeding import batches_left, continued, length_of_epoch, refuse_empty_data
from .forwarding import Forward, forward
from .interrupts import Interrupts
from .means import read_together, with_items
from .provided import check_awaited
from .rates import LearningRates
from .records import LOOP, Records
from .requests import Requests
from .saver import Order, Saver
from .scaling import Scaling
from .steps import Worker
from .streams import bare_model, warn_of_eval_mode
from .together import Together
from .transfer import Transfer, move

NO_OUTPUT: Final = cast("StepOutput[Any]", None)
NO_LOSS: Final = cast("Tensor", None)
"""What stands for a batch's output and loss once they are let go."""


@final
@define(eq=False)
class Live:
    """One run while it runs."""

    run: Run
    data: Iterable[Any] = ()
    requests: Requests = field(factory=Requests)
    prepare: Callable[["Live"], None] = lambda live: None
    """Puts the model on its device, makes the `workers` and the final `run`, and the states that need them."""
    awaited: dict[str, Mapping[str, str]] = field(factory=dict[str, Mapping[str, str]])
    """By source, values that it may bring and that somebody reads, and who: it must have brought them when it was over
    for the first time."""
    transfer: Transfer = move
    forward: Forward = forward
    """How a step is called, in the run's precision."""
    scaling: Scaling | None = None
    """The scaler of an fp16 run."""
    records: Records = field(factory=Records)
    averages: Averages = field(factory=Averages)
    """Whose weights its evaluations look at."""
    interrupts: Interrupts = field(factory=Interrupts)
    workers: Sequence[Worker] = ()
    rates: Sequence[LearningRates] = ()
    """Those of each optimizer that has any."""
    saver: Saver | None = None
    """What carries out `Save`; None if there is nowhere to save to."""
    together: Together | None = None
    """What the processes of the run tell each other; None if it has one."""
    model: nn.Module = field(default=Factory(lambda live: live.run.model, takes_self=True))
    """The model as steps are given it in training: the run's, or what trains it in several processes."""
    resumed: bool = False

    counts: Counts = field(factory=Counts)
    """The counters, now."""
    boundaries: Boundaries = field(factory=Boundaries)
    """The counters at the last two."""
    epoch_began: Progress = field(factory=Progress)
    updates_before: int = 0
    """Updates when this batch began."""
    length: int | None = None
    """Batches of this epoch, if its data knows."""
    fed: int = 0
    """Batches of this epoch that came, those of earlier processes included."""
    in_epoch: bool = False
    """Whether an epoch has begun and is not complete."""
    watches_mode: bool = False
    """Whether an epoch that begins in eval mode is still to be told: not where the model's own `train` leaves it so."""
    opens_epoch: bool = False
    """Whether the epoch at hand begins here, rather than in a process before."""
    starts_anew: bool = False
    """Whether data that keeps its position was left within an epoch that is over."""

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
    stands_in: bool = False
    """Whether this batch only stands in for one that this process has not, and weighs nothing."""
    leaving: bool = False
    """Whether the run ends here."""
    order: Order | None = None
    """The checkpoint that this boundary makes."""
    end: End | None = None
    """How the run ended, if not by doing all that it was asked for."""
    history: list[dict[str, float]] = field(factory=list[dict[str, float]])
    seen: Progress | None = None
    """How far the run is, once somebody has seen it there."""

    @property
    def ranks(self) -> Ranks | None:
        """The processes of the run; None if it has one."""
        return None if self.together is None else self.together.ranks

    @property
    def at(self) -> Progress:
        """How far the run is."""
        if self.seen is None:
            self.seen = self.counts.progress()
        return self.seen

    def move_to(self, progress: Mapping[str, int]) -> None:
        """Put the counters where an earlier process was."""
        self.counts.set(progress)
        self.seen = None

    @property
    def at_start(self) -> Progress:
        """How far the run was when this batch began."""
        if not self.updated:
            return self.at
        return self.counts.progress(updates=self.updates_before)

    @property
    def since(self) -> Progress:
        """How far the run was at the last boundary."""
        return self.boundaries.since

    def wants_epoch(self) -> bool:
        """Whether another epoch begins."""
        total = self.run.epochs
        return not self.leaving and not self.is_full() and (total is None or self.counts.epochs < total)

    def is_full(self) -> bool:
        """Whether the run has made all its updates."""
        total = self.run.max_updates
        return total is not None and self.counts.updates >= total

    def is_in_train_mode(self) -> bool:
        """Whether the model as a whole is."""
        return bare_model(self.run.model).training

    def begin_epoch(self) -> None:
        """Open an epoch, or go on within the one that a process before has opened."""
        if self.watches_mode and not self.is_in_train_mode():
            self.watches_mode = False
            warn_of_eval_mode(self.counts.epochs)
        for worker in self.workers:
            worker.watch()
        set_epoch(self.data, self.counts.epochs)
        self.length = length_of_epoch(self.data, self.run.rank, self.together, self.counts.epochs)
        self.exhausted = self.last = False
        self.opens_epoch = not self.in_epoch
        if self.in_epoch:
            return
        self.in_epoch, self.ends_epoch = True, False
        self.counts.epoch, self.counts.batch, self.fed = self.counts.epochs, 0, 0
        self.seen = None
        self.boundaries.begin_epoch()
        self.epoch_began = self.at
        self.records.this_epoch.clear()
        self.requests.evaluated.clear()
        for worker in self.workers:
            worker.begin_epoch()

    def feed(self) -> Iterator[Any]:
        """This epoch's batches, on the device; ends when the data or the run does, or somebody ends the epoch."""
        if self.leaves_epoch():
            return
        counts, accumulate, device, transfer = self.counts, self.run.accumulate, self.run.device, self.transfer
        if self.starts_anew:
            continued(self.data, device)
            self.starts_anew = False
        batches = batches_left(self.data, self.run, self.together, counts.epoch, self.fed, self.length)
        try:
            for batch, self.last, self.stands_in in batches:
                counts.batch = self.fed
                self.fed += 1
                self.closes = self.last or self.open + 1 >= accumulate
                self.updated, self.updates_before = False, counts.updates
                self.seen = None
                try:
                    yield transfer(batch, device)
                except Exception as error:
                    say_in(error, f"the transfer of a batch to {device}")
                    raise
                if self.leaving or self.ends_epoch:  # `leaves_epoch`, without the price of a call
                    return
                if self.last and self.is_full():
                    next(batches, None)  # uses up the data's own randomness: a longer run would go on there
                    return
        except Exception as error:
            if not isinstance(error, TrainhooksError):  # which says itself what is wrong
                say_in(error, "the data")
            raise
        self.exhausted = True
        if not self.fed:
            refuse_empty_data(counts.epoch)

    def leaves_epoch(self) -> bool:
        """Whether no further batch of this epoch is wanted."""
        return self.leaving or self.ends_epoch

    def count_update(self) -> None:
        """Count this window's update, once however many optimizers step."""
        if not self.updated:
            self.updated = True
            self.counts.updates += 1
            self.seen = None

    def count_batch(self) -> None:
        """Count this batch as done."""
        self.counts.batches += 1
        if not self.closes:
            self.open += 1
        elif self.scaling is None:
            self.open = 0
        else:
            self.end_window()
        self.requests.evaluated.clear()
        self.seen = None

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
        self.boundaries.end_epoch(self.counts.batches)
        self.counts.epochs += 1
        self.in_epoch, self.seen = False, None
        alone = len(self.workers) == 1
        means = {name: mean for worker in self.workers for name, mean in worker.means(alone=alone).items()}
        read = read_together(means, self.ranks)
        self.records.add(LOOP, with_items(read), self.at, self.epoch_began)
        self.check_awaited("train", read)
        return True

    def check_awaited(self, source: str, read: Collection[str]) -> None:
        """Refuse names that a source should have brought when it was over for the first time, and did not.

        Args:
            source: `"train"`, or an evaluation's name.
            read: What it brought, also over no items.

        Raises:
            MissingValueError: if somebody reads one.
        """
        check_awaited(source, self.awaited.pop(source, {}), {*self.records.times, *read})

    def ask(self, asked: Sequence[Asked]) -> bool:
        """Remember what was asked for until the boundary; whether a skip is among it, which acts at once."""
        if not asked:
            return False
        if self.together is not None:
            return self.together.take(asked)
        self.ends_epoch |= any(isinstance(one.answer, EndEpoch) for one in asked)
        return self.requests.take(asked)

    def add_history_row(self) -> None:
        """Keep what this epoch recorded."""
        row: dict[str, float] = {"epoch": self.counts.epoch, "updates": self.counts.updates}
        self.history.append({**row, **self.records.of_epoch()})

