"""What a run shows of itself while it goes on: a bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping
from typing import final

from attrs import define, field
from torch import Tensor

from trainhooks.core import (
    BatchEnd,
    EpochBegin,
    EpochEnd,
    EvaluationEnd,
    HookSet,
    Interrupted,
    Recorded,
    Stopped,
    TrainBegin,
    TrainEnd,
    factory,
    stateful,
)
from trainhooks.errors import HookDefinitionError, shown
from trainhooks.sinks import Console, Terminal, terminals

_SECONDS_BETWEEN_PLAIN_LINES = 30.0


@final
@define(eq=False)
class Screen:
    """Where one run shows itself; nothing of it is worth saving."""

    terminal: Terminal
    """Its bar is that of the epoch at hand."""
    clock: Callable[[], float]
    pause: float
    """Seconds from one drawing to the next, at least."""
    newest: dict[str, float] = field(factory=dict[str, float])
    """The newest recorded values."""
    place: str = ""
    """The epoch at hand, in words."""
    batches: int | None = None
    """Batches of the epoch at hand, if they are known."""
    began: float = 0.0
    """When the epoch at hand began."""
    due: float = 0.0
    """When there may be a drawing again."""

    def begin(self, place: str, batches: int | None) -> None:
        """Open an epoch."""
        self.place, self.batches = place, batches
        self.began = self.clock()
        self.due = self.began + self.pause
        if self.terminal.bar is not None:
            self.terminal.bar.begin(place, batches)

    def draw(self, batches: int, loss: Tensor) -> None:
        """Show how far the epoch at hand is; reads the loss from its device."""
        now = self.clock()
        self.due = now + self.pause
        rate = batches / max(now - self.began, 1e-9)
        facts = "  ".join(
            [
                f"{rate:,.0f} batches/s" if rate >= 10 else f"{rate:.2g} batches/s",
                *_values({"loss": float(loss), **self.newest}),
            ]
        )
        if self.terminal.bar is None:
            total = "" if self.batches is None else f"/{self.batches}"
            self.terminal.line(f"{self.place}  batch {batches}{total}  {facts}")
        else:
            self.terminal.bar.draw(batches, facts)

    def line(self, what: str, values: Mapping[str, float], seconds: float | None = None) -> None:
        """Leave a line."""
        took = [] if seconds is None else [f"{seconds:.1f} s"]
        self.terminal.line("  ".join([what, *_values(values), *took]))

    def close(self) -> None:
        """Take the bar away."""
        if self.terminal.bar is not None:
            self.terminal.bar.close()

    def state_dict(self) -> dict[str, object]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Nothing."""


@factory
def progress(
    *, redraws_per_second: float = 5.0, console: "Console | None" = None, clock: Callable[[], float] = time.monotonic
) -> HookSet:
    """Show how far the run is, its newest values, and a line of metrics for each epoch.

    In a terminal or a notebook there is a bar for the epoch at hand; elsewhere, such as in a log file, a line every 30
    seconds. An epoch leaves a line with its metrics, and so does an evaluation within an epoch. The bar shows the
    newest batch's loss, which is read from the device when the bar is redrawn, never in between. Only rank 0 shows
    anything: its own batch's loss, and metrics of all ranks.

    Args:
        redraws_per_second: Most redraws of the bar in a second, above 0.
        console: Where to show it; None for standard output.
        clock: Seconds since some fixed moment.

    Raises:
        HookDefinitionError: if `redraws_per_second` is not above 0.
        ImportError: if rich is not installed, with the line that installs it.

    Example:
        >>> progress().name
        'progress'
    """
    if not redraws_per_second > 0:
        raise HookDefinitionError(f"redraws_per_second is a number above 0, got {shown(redraws_per_second)}.")
    terminal = terminals(console, clock, "progress()")

    def init(begin: TrainBegin) -> Screen:
        shown = terminal()
        pause = _SECONDS_BETWEEN_PLAIN_LINES if shown.bar is None else 1.0 / redraws_per_second
        return Screen(shown, clock, pause)

    return stateful(
        "progress", init, reads=frozenset({"*"}), ranks=frozenset({0}), on_epoch_begin=_begin, on_batch_end=_count,
        on_evaluation_end=_say_metrics, on_record=_note, on_epoch_end=_sum_up, on_train_end=_say_how_it_ended,
    )  # fmt: skip


def _begin(ctx: EpochBegin, screen: Screen) -> tuple[Screen, None]:
    screen.begin(_place(ctx.at.epoch, ctx.run.epochs), ctx.batches)
    return screen, None


def _count(ctx: BatchEnd, screen: Screen) -> tuple[Screen, None]:
    if screen.clock() >= screen.due:
        screen.draw(ctx.at.batch + 1, ctx.loss)
    return screen, None


def _note(ctx: Recorded, screen: Screen) -> tuple[Screen, None]:
    screen.newest.update(ctx.values)
    return screen, None


def _say_metrics(ctx: EvaluationEnd, screen: Screen) -> tuple[Screen, None]:
    if ctx.at.epochs == ctx.since.epochs:  # else they are in the line of the epoch
        screen.line(f"update {ctx.at.updates}", ctx.metrics)
    return screen, None


def _sum_up(ctx: EpochEnd, screen: Screen) -> tuple[Screen, None]:
    screen.close()
    screen.line(_place(ctx.at.epoch, ctx.run.epochs), ctx.metrics, seconds=screen.clock() - screen.began)
    return screen, None


def _say_how_it_ended(ctx: TrainEnd, screen: Screen) -> tuple[Screen, None]:
    screen.close()
    if isinstance(ctx.end, Stopped):
        screen.line(f"stopped at update {ctx.at.updates} by {', '.join(ctx.end.by)}: {ctx.end.reason}", {})
    if isinstance(ctx.end, Interrupted):
        screen.line(f"interrupted at update {ctx.at.updates}", {})
    return screen, None


def _place(epoch: int, epochs: int | None) -> str:
    return f"epoch {epoch + 1}" if epochs is None else f"epoch {epoch + 1}/{epochs}"


def _values(values: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in values.items()]
