"""Ctrl-C and SIGTERM: the first asks for the end of the run at the next boundary, a second Ctrl-C ends it at once.

At once means between two operations of the loop: while an optimizer steps, the exception waits for its end, so that
parameters and optimizer state are never half-updated.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import final

from attrs import define, field


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
    came: dict[int, None] = field(factory=dict[int, None])
    """All that came, in the order of their first time."""
    process: int = field(factory=os.getpid)
    """The one that trains."""

    def arrived(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if os.getpid() != self.process:  # a child that was forked in the run is not what trains
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        self.came[number] = None
        if self.signal is None:
            self.signal = number
        elif number != signal.SIGINT:
            return  # whoever sends SIGTERM again wants what is under way already
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
        """Take SIGINT and SIGTERM over for the block, in the main thread and unless ignored; hand them back after.

        A handler that was there before is called at the end if its signal came, however the block is left: that of a
        run in whose hook or step this one runs, or the program's. Python's own for SIGINT is not, which only raises.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        taken = {number: one for number, one in earlier.items() if one is not None and one != signal.SIG_IGN}
        for number in taken:
            signal.signal(number, self.arrived)
        try:
            yield
        finally:
            for number, handler in taken.items():
                signal.signal(number, handler)
            for came in self.came:
                handler = taken[signal.Signals(came)]
                if callable(handler) and handler is not signal.default_int_handler:
                    handler(came, None)
