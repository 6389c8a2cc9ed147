"""The errors that trainhooks raises: one tree, each also the builtin exception that fits."""


class TrainhooksError(Exception):
    """The root of every error whose cause is how trainhooks was used."""


class HookDefinitionError(TrainhooksError, TypeError):
    """A hook, a step or an answer does not have the form that its place asks for."""


class RunDefinitionError(TrainhooksError, ValueError):
    """The arguments of a run contradict one another, or its data cannot be trained on."""


class OrderCycleError(TrainhooksError, ValueError):
    """The orders and constraints of some hook sets contradict one another.

    Attributes:
        path: Names of the sets along the contradiction; each must come before the next, the last equals the first.
    """

    def __init__(self, message: str, path: tuple[str, ...]) -> None:
        super().__init__(message)
        self.path = path


class DuplicateHookNameError(TrainhooksError, ValueError):
    """Two stateful hook sets have one name, so their states could not be told apart.

    Attributes:
        name: The name that both carry.
        positions: Where they stand among the composed sets, from 0.
    """

    def __init__(self, message: str, name: str, positions: tuple[int, int]) -> None:
        super().__init__(message)
        self.name = name
        self.positions = positions


class MutationError(TrainhooksError, RuntimeError):
    """In guard mode: a hook changed what it did not declare, or drew from a global random stream."""


class MissingValueError(TrainhooksError, LookupError):
    """A value is read that nothing in the run provides, or that never appeared.

    Attributes:
        name: The value that was looked for.
        known: The names that exist, sorted.
    """

    def __init__(self, message: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(message)
        self.name = name
        self.known = known
