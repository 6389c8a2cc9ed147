"""How a run ends."""

from typing import TypeAlias, final

from attrs import frozen


@final
@frozen
class Completed:
    """The run did all that it was asked for."""


@final
@frozen
class Stopped:
    """A hook asked to stop."""

    reason: str
    """The reason of the first who asked."""
    by: tuple[str, ...]
    """Names of all the hook sets that asked, in dispatch order."""


@final
@frozen
class Interrupted:
    """A signal arrived."""

    signal: int
    """Its number, as in the `signal` module."""


@final
@frozen(eq=False)
class Failed:
    """An exception ended the run; it propagates after the end hooks."""

    error: BaseException
    """The exception."""


End: TypeAlias = Completed | Stopped | Interrupted | Failed
"""Every way in which a run can end."""
