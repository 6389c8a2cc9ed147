"""What measures the parts of a run by a clock of the host."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import final

from attrs import define, field

from trainhooks.core import BatchEnd
from trainhooks.errors import HookDefinitionError, shown


@final
@define(eq=False)
class Stopwatch:
    """Seconds of each phase since the last report; nothing of it is worth saving."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(factory=dict[str, float])
    """Seconds by phase."""
    began: float = field(init=False)
    """When the stretch of the next report began."""
    mark: float = field(init=False)
    """The moment up to which time is accounted for."""

    def __attrs_post_init__(self) -> None:
        self.began = self.mark = self.clock()

    def charge(self, phase: str) -> None:
        """Count the time since the last mark to a phase."""
        now = self.clock()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.mark
        self.mark = now

    @contextmanager
    def during(self, phase: str, before: str) -> Generator[None]:
        """Count the time within to one phase, and what was open until then to another."""
        self.charge(before)
        try:
            yield
        finally:
            self.charge(phase)

    def elapsed(self) -> float:
        """Seconds since the last report."""
        return self.mark - self.began

    def restart(self) -> None:
        """Open the stretch of the next report."""
        self.seconds.clear()
        self.began = self.mark

    def state_dict(self) -> dict[str, object]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Nothing."""


def check_measuring(factory: str, updates: object, clock: object) -> None:
    """Refuse a count of updates that is none, and a clock that cannot be called."""
    if updates is not None and (not isinstance(updates, int) or isinstance(updates, bool) or updates < 1):
        raise HookDefinitionError(
            f"{factory} records every so many updates, a whole number from 1 on, or once an epoch with updates=None; "
            f"got {shown(updates)}."
        )
    if not callable(clock):
        raise HookDefinitionError(
            f"{factory} takes a clock, a function of nothing that gives seconds, got {shown(clock)}."
        )


def is_due(ctx: BatchEnd, updates: int | None) -> bool:
    """Whether this batch finished a multiple of so many updates; never if it is None."""
    return updates is not None and ctx.updated and ctx.at.updates % updates == 0
