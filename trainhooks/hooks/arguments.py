"""Refusing arguments of hooks that make no sense, with a sentence that says what to write."""

import math
from collections.abc import Collection
from typing import cast

from trainhooks.errors import HookDefinitionError, shown


def check_count(factory: str, argument: str, value: object, least: int) -> None:
    """Refuse what is no whole number from `least` on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise HookDefinitionError(f"{factory} takes {argument} as a whole number from {least} on, got {shown(value)}.")


def check_number(factory: str, argument: str, value: object) -> None:
    """Refuse what is no finite number from 0 on."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value < math.inf:
        raise HookDefinitionError(f"{factory} takes {argument} as a finite number from 0 on, got {shown(value)}.")


def check_fraction(factory: str, argument: str, value: object) -> None:
    """Refuse what is no number from 0 to below 1."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value < 1.0:
        raise HookDefinitionError(f"{factory} takes {argument} as a number from 0 to below 1, got {shown(value)}.")


def check_choice(factory: str, argument: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise HookDefinitionError(
            f"{factory} takes {argument} as {' or '.join(map(repr, choices))}, got {shown(value)}."
        )


def check_words(factory: str, argument: str, words: object) -> None:
    """Refuse what is no sequence of strings with something in it."""
    several = cast("tuple[object, ...]", words) if isinstance(words, tuple) else ()
    if not several or not all(isinstance(one, str) and one for one in several):
        raise HookDefinitionError(f"{factory} takes {argument} as strings, one or more, got {words!r}.")


def check_names(factory: str, argument: str, names: object) -> frozenset[str]:
    """Refuse what is no collection of names; a bare string is none."""
    several = cast("Collection[object]", names) if isinstance(names, Collection) else (None,)
    if isinstance(names, str | bytes) or not all(isinstance(one, str) and one for one in several):
        raise HookDefinitionError(
            f"{factory} takes {argument} as a collection of names, such as {{'val'}}, got {names!r}."
        )
    return frozenset(cast("Collection[str]", names))


def check_function(factory: str, argument: str, value: object, instead: str) -> None:
    """Refuse what is no function; `instead` is what to write."""
    if not callable(value):
        raise HookDefinitionError(f"{factory} takes {argument} as a function, got {shown(value)}; write {instead}.")


def check_monitor(factory: str, monitor: object, mode: object) -> None:
    """Refuse what is not the name of one value, or says not which of two values is better."""
    if not isinstance(monitor, str) or not monitor or monitor == "*":
        raise HookDefinitionError(f"{factory} watches one value by its name, such as 'val/loss', got {shown(monitor)}.")
    if mode not in ("min", "max"):
        raise HookDefinitionError(
            f"{factory}({monitor!r}) takes mode='min' if smaller is better, 'max' if greater is; got {shown(mode)}."
        )
