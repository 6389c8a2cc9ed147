"""What a rank does when it fails: it speaks before anything else, and it can end though the others go on.

Its end hooks run, and saves that are under way are waited for; then it ends. Under torchrun every other rank ends after
that with an exit code that is not 0:

| the other rank | ends after |
|---|---|
| waits in a collective, or comes to one | some seconds: its connection is closed, which it raises |
| reads data, evaluates, sleeps | what that takes until its next collective, at most 30 seconds: torchrun's patience |
"""

import ctypes
import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias, final

import torch.distributed as dist
from attrs import define, evolve

from trainhooks.core import EVENTS

from .around import say_where
from .heard import Heard
from .live import Live

_log = logging.getLogger("trainhooks")

_Enter: TypeAlias = Callable[[Any], AbstractContextManager[object]]


@final
@define(eq=False)
class Alarm:
    """Puts out what a rank raised, once and before a hook of the end is called: hooks may hang, and others wait for it.

    In one process there is nobody else to tell, and the exception itself arrives soon enough.
    """

    live: Live
    told: BaseException | None = None
    """What was put out last."""

    def tell(self, error: BaseException) -> None:
        """Say where it was raised; over ranks, put it out, and let this process end whatever the others do."""
        if self.told is error:
            return
        self.told = error
        say_where(error, self.live.at)
        if self.live.together is None:
            return
        _log.error("Rank %d failed.", self.live.run.rank.index, exc_info=error)
        end_without_the_others()

    def before_the_hooks(self, heard: Heard) -> Heard:
        """What is heard, where each block within an `around_*` event tells of what it raises before the hooks leave."""
        if self.live.together is None:
            return heard
        around = [event for event in heard.events() if EVENTS[event].kind == "around"]
        entered: dict[str, Any] = {event: self._telling(getattr(heard, event)) for event in around}
        return evolve(heard, **entered)

    def _telling(self, enter: _Enter) -> _Enter:
        @contextmanager
        def telling(ctx: Any) -> Generator[object]:
            with enter(ctx) as entered:
                try:
                    yield entered
                except BaseException as error:
                    self.tell(error)
                    raise

        return telling


def end_without_the_others() -> None:
    """Let this process end while a collective is under way that the others may never join.

    The destructor of gloo's process group waits for it, without a limit. An object that is never freed is never
    destroyed, so a reference to the group is given away.
    """
    if dist.is_initialized():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
