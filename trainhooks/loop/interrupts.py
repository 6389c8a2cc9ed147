"""Ctrl-C: the first asks for the end of the run at the next boundary, the second ends it at once.

At once means between two operations of the loop: while an optimizer steps, the exception waits for its end, so that
parameters and optimizer state are never half-updated.
"""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import final

from attrs import define


@final
@define(eq=False)
class Interrupts:
    """What the run knows of signals."""

    signal: int | None = None
    """The first signal that came; None while there was none."""
    stepping: bool = False
    """Whether an optimizer is stepping."""
    overdue: bool = False
    """Whether a second signal came while an optimizer was stepping."""

    def arrived(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.signal is None:
            self.signal = number
        elif self.stepping:
            self.overdue = True
        else:
            raise KeyboardInterrupt

    def wait_for(self, step: Callable[[], object]) -> None:
        """Let `step` finish, whatever arrives; what had to wait is raised then."""
        self.stepping = True
        try:
            step()
        finally:
            self.stepping = False
        if self.overdue:
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Generator[None]:
        """Take SIGINT over for the block, in the main thread and unless it is ignored; hand it back after."""
        earlier = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or earlier in (signal.SIG_IGN, None):
            yield
            return
        signal.signal(signal.SIGINT, self.arrived)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, earlier)
