"""Refusing a hook object with a state of its own that has been in another run."""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final
from weakref import ref

from trainhooks.core import Itself
from trainhooks.errors import RunDefinitionError, shown
from trainhooks.loop import Bindings, Live

_TRAINED: Final[dict[int, tuple[ref[object], str]]] = {}
"""By their identity, hook objects that were in a run that began, and the id of that run."""


def refuse_reuse(bindings: Bindings, run_id: str, saved: Collection[str]) -> None:
    """Refuse an object that keeps its own state and was in a run that began.

    Args:
        bindings: The hook sets, bound to the run.
        run_id: The run's, of which this may be a further attempt.
        saved: The names of the sets whose states the run takes from its checkpoint.

    Raises:
        RunDefinitionError: if there is one, and its state is not put back: it would leak from one run into the other.
    """
    for name, holder in _objects(bindings):
        if (earlier := _run_of(holder)) is not None and not (earlier == run_id and name in saved):
            raise _refusal(holder)


def taking(prepare: Callable[[Live], None], bindings: Bindings) -> Callable[[Live], None]:
    """The preparation of a run that remembers its hook objects once it is done: from there on they are used.

    A run that is refused before, or cannot be prepared, leaves them to the next.
    """

    def prepare_and_remember(live: Live) -> None:
        prepare(live)
        for _, holder in _objects(bindings):
            with suppress(TypeError):  # what cannot be referred to weakly is not remembered
                if _remembered(holder, live.run.run_id) != live.run.run_id:  # a run in another thread was quicker
                    raise _refusal(holder)

    return prepare_and_remember


def _objects(bindings: Bindings) -> list[tuple[str, object]]:
    """The objects that keep their own state and are called in this process, by name."""
    called = [one.owner for one in bindings.members if one.here]
    return [(one.name, one.init.holder) for one in called if isinstance(one.init, Itself)]


def _refusal(holder: object) -> RunDefinitionError:
    kind = type(holder).__qualname__
    return RunDefinitionError(
        f"The hook object {shown(holder)} keeps its own state and has been in a run already; make a fresh {kind} for "
        "each run."
    )


def _run_of(holder: object) -> str | None:
    found = _TRAINED.get(id(holder))
    return found[1] if found is not None else None


def _remembered(holder: object, run_id: str) -> str:
    """The run that an object was in first, which is this one if it was in none; in one operation."""
    key = id(holder)

    def forget(gone: object) -> None:
        del _TRAINED[key]  # before anything else can have its identity

    return _TRAINED.setdefault(key, (ref(holder, forget), run_id))[1]
