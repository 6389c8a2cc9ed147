"""`trainhooks explain module:hooks`: what would be called on each event, and the loop that would run."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from trainhooks.core import HookSet
from trainhooks.loop import explain

from .exits import GOOD, UsageError


def explain_hooks(where: str) -> int:
    """Print what `explain` says of the hooks at `module:attribute`."""
    print(explain(hooks_at(where)))
    return GOOD


def hooks_at(where: str) -> Any:
    """The hooks at `module:attribute`; a function or a class there is called with nothing.

    Raises:
        UsageError: if there is no such module or attribute, or it needs arguments.
    """
    name, colon, path = where.partition(":")
    if not (name and colon and path):
        raise UsageError(f"{where!r} names no hooks. Write module:attribute, such as train_digits:hooks.")
    found: object = _module(name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(f"There is no {path!r} in {name}.")
        found = getattr(found, part)
    return found if _is_hooks(found) else _made_by(found, where)


def _module(name: str) -> object:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and asks for another that is not
        raise UsageError(f"There is no module {error.name!r} in {here} or among the installed packages.") from None
    except (TypeError, ValueError) as error:  # a relative name
        raise UsageError(f"{name!r} is no name of a module: {error}.") from None


def _is_hooks(found: object) -> bool:
    """Whether it is no function or class that makes hooks; what hooks are, `explain` knows."""
    return isinstance(found, (HookSet, Mapping, Sequence)) or not callable(found) or _hears(found)


def _hears(found: object) -> bool:
    """Whether it is an object with methods for events, which may happen to be callable too."""
    return not (inspect.isroutine(found) or inspect.isclass(found)) and any(
        name.startswith(("on_", "transform_", "around_")) for name in dir(found)
    )


def _made_by(factory: object, where: str) -> object:
    made = cast("Any", factory)
    try:
        inspect.signature(made).bind()
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where} has to be called with nothing for its hooks, and cannot be: {error}.") from None
    return made()
