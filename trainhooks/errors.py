"""The errors that trainhooks raises: one tree, each also the builtin exception that fits."""

import reprlib
from typing import Any, Final, Literal, TypeAlias, cast, final

StorageProblem: TypeAlias = Literal[
    "exists",  # the object, where it was to be created
    "missing",  # the object
    "key",  # is none that can be written
    "bucket",  # is not there
    "credentials",  # are missing, wrong or expired
    "permission",
    "settings",  # of the client: endpoint, region, a variable's form
    "space",  # the disk or quota is full
    "read-only",
    "unavailable",  # after all retries
    "unsupported",  # by this kind of store
    "forked",  # this process, after its parent used a store
    "failed",  # for any other cause
]
"""What stands in the way of an object store."""


class TrainhooksError(Exception):
    """The root of every error whose cause is how trainhooks was used.

    Errors pickle and copy with their facts and notes, subclasses of your own too, so they pass between processes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        _, arguments, *state = cast("tuple[Any, ...]", super().__reduce__())
        return _remade, (type(self), arguments), *state


def _remade(cls: type[TrainhooksError], arguments: tuple[object, ...]) -> TrainhooksError:
    """An error of this class without a call of its `__init__`, which may take other arguments than `args` has."""
    return cls.__new__(cls, *arguments)


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


class CheckpointError(TrainhooksError, RuntimeError):
    """A checkpoint could not be written, or cannot be read."""


class ResumeError(RunDefinitionError, CheckpointError):
    """A run cannot go on from its checkpoint as it was asked to."""


class NoExperimentError(RunDefinitionError, AttributeError):
    """Something needs an experiment, and there is none."""


class StorageError(CheckpointError):
    """An object store did not do what it was asked to.

    Attributes:
        kind: What stood in the way.
    """

    def __init__(self, message: str, kind: StorageProblem = "failed") -> None:
        super().__init__(message)
        self.kind: StorageProblem = kind


class ObjectExistsError(StorageError):
    """An object is there already, where it was to be created."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "exists")


class ObjectMissingError(StorageError):
    """An object is not there."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "missing")


class StorageModeError(TrainhooksError, ValueError):
    """A kind of storage that there is not."""


class MissingValueError(TrainhooksError, KeyError):
    """A value is read that nothing in the run provides, or that never appeared.

    Attributes:
        name: The value that was looked for.
        known: The names that exist, sorted.
    """

    def __init__(self, message: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(message)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        return Exception.__str__(self)  # a KeyError shows its key, quoted


@final
class _Short(reprlib.Repr):
    """`repr`, cut to what fits into a sentence; of tensors and arrays only what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = 4
        self.maxstring = self.maxlong = self.maxother = 80

    def repr1(self, x: object, level: int) -> str:
        shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
        if isinstance(shape, tuple) and dtype is not None and (shape or hasattr(x, "requires_grad")):
            return f"<{type(x).__name__} of shape {tuple(cast('tuple[object, ...]', shape))}, {dtype}>"
        return " ".join(line.strip() for line in super().repr1(x, level).splitlines())


_SHORT: Final = _Short()


def shown(value: object) -> str:
    """A user's value as it stands in a sentence: its `repr`, short, in one line, and never the numbers of a tensor.

    Example:
        >>> shown(list(range(1000)))
        '[0, 1, 2, 3, ...]'
    """
    return _SHORT.repr(value)
