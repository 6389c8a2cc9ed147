"""Refusing a hook object with a state of its own that has been in a run before."""

from collections.abc import Iterable
from contextlib import suppress
from weakref import WeakValueDictionary

from trainhooks.core import HookSet, Itself
from trainhooks.errors import RunDefinitionError

_TRAINED: WeakValueDictionary[int, object] = WeakValueDictionary()


def refuse_reuse(sets: Iterable[HookSet]) -> None:
    """Refuse an object that keeps its own state and was in a run already; remember those that now will be.

    Raises:
        RunDefinitionError: if there is one: its state would leak from one run into the other.
    """
    holders = [one.init.holder for one in sets if isinstance(one.init, Itself)]
    for holder in holders:
        if _TRAINED.get(id(holder)) is holder:
            kind = type(holder).__qualname__
            raise RunDefinitionError(
                f"The hook object {holder!r} keeps its own state and has been in a run already; make a fresh {kind} "
                "for each run."
            )
    for holder in holders:
        with suppress(TypeError):  # what cannot be referred to weakly is not remembered
            _TRAINED[id(holder)] = holder
