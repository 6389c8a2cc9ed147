"""What the process says when it ends."""

from trainhooks.errors import StorageError, StorageModeError, TrainhooksError

GOOD = 0
BAD = 1
"""What was asked about is bad: hooks that contradict one another, a damaged checkpoint, a conflict."""
WRONG = 2
"""What was asked could not be done: wrong arguments, no run there, a store that cannot be read or written."""


class UsageError(TrainhooksError, ValueError):
    """The arguments of a command name nothing that it could work on."""


def code_of(error: TrainhooksError) -> int:
    """The exit code for an error."""
    return WRONG if isinstance(error, (UsageError, StorageModeError, StorageError)) else BAD
