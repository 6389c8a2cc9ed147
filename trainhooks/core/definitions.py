"""Checks of what a user hands over as a hook, and the words to name it by."""

import difflib
import functools
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast, final, get_args, get_origin

from attrs import frozen
from torch import nn

from trainhooks.errors import HookDefinitionError, shown

from .binding import Hook
from .events import CONTEXTS, EVENTS, EventSpec, nearest
from .foreign import MEANT, advice_about, advice_on, refuse_as_function, refuse_callback

T = TypeVar("T")

_PARSING: Final = threading.RLock()
_ATTEMPTS: Final = 10

os.register_at_fork(before=_PARSING.acquire, after_in_parent=_PARSING.release, after_in_child=_PARSING.release)

_PREFIXES = ("on_", "transform_", "around_")
_NEARLY = 0.88  # one wrong, missing, doubled or swapped letter in any event's name, and `onEpochEnd`; not `epoch_end`
_FORMS: Mapping[str, tuple[str, str]] = {
    "on": ("(ctx)", "(ctx, state)"),
    "transform": ("(ctx, value)", "(ctx, value, state)"),
    "around": ("(ctx)", "(ctx, state)"),
}


def name_of(hook: object) -> str:
    """The name of a hook that was given none: `__qualname__`, `lambda@file:line`, or the class of an object."""
    hook = _innermost(hook)
    name: object = getattr(hook, "__qualname__", None)
    if not isinstance(name, str):
        return type(hook).__qualname__
    if name.endswith("<lambda>"):
        code = inspect.unwrap(hook).__code__ if inspect.isfunction(hook) else None
        return f"lambda@{Path(code.co_filename).name}:{code.co_firstlineno}" if code else name
    return name


def _innermost(hook: object) -> object:
    """The function behind partials."""
    return _innermost(cast("functools.partial[object]", hook).func) if isinstance(hook, functools.partial) else hook


def _as_called(hook: object) -> object:
    """What a call comes to: of a module its `forward`."""
    return hook.forward if isinstance(hook, nn.Module) else hook


def definition_of(hook: object) -> str:
    """A hook as its user wrote it: name, signature, file and line."""
    inner = _as_called(_innermost(hook))
    function: object = getattr(inner, "__func__", inner)
    if not inspect.isfunction(function):
        function = inspect.getattr_static(type(inner), "__call__", inner)
    if inspect.isfunction(function):
        function = inspect.unwrap(function, stop=lambda one: not _takes_anything(_own_signature(one)))
    code = getattr(function, "__code__", None)
    place = f" at {Path(code.co_filename).name}:{code.co_firstlineno}" if code else ""
    return f"`{name_of(hook)}{_short(_signature(hook))}`{place}"


def _short(signature: inspect.Signature | None) -> str:
    """A signature, with short defaults."""
    if signature is None:
        return "(...)"
    parts = [
        one if one.default is one.empty else one.replace(default=_Shown(one.default))
        for one in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parts))


@final
@frozen(repr=False)
class _Shown:
    """A default, as it is shown."""

    value: object

    def __repr__(self) -> str:
        return shown(self.value)


def check_hook(hook: object, spec: EventSpec, *, keeps_state: bool = False) -> Hook:
    """Refuse what can never work as a hook of this event.

    Raises:
        HookDefinitionError: for something that cannot be called, a wrong arity, a coroutine or generator function,
            or a first parameter annotated with the context of other events.
    """
    form = _FORMS[spec.kind][keeps_state]
    refuse_as_function(hook, spec.name)
    if not callable(hook):
        raise HookDefinitionError(f"{spec.name} wants a callable {form}, got {shown(hook)}.")
    if isinstance(hook, type):
        raise HookDefinitionError(f"{spec.name} got the class {hook.__qualname__}; give an instance, or a method.")
    _check_arity(hook, spec, form)
    _check_kind(hook, spec)
    _check_annotation(hook, spec)
    return hook


def _check_arity(hook: Callable[..., object], spec: EventSpec, form: str) -> None:
    if (why := refusal_of_call(hook, form.count(",") + 1)) is not None:
        raise HookDefinitionError(
            f"{spec.name} is called as {form}, but {definition_of(hook)} cannot be called so: {why}."
        )


def refusal_of_call(function: object, count: int) -> str | None:
    """Why a function cannot be called with so many arguments by position; None if it can, or nothing says."""
    signature = _signature(function)
    try:
        if signature is not None:
            signature.bind(*[None] * count)
    except TypeError as error:
        return str(error)
    return None


def _check_kind(hook: Callable[..., object], spec: EventSpec) -> None:
    calls = (hook, inspect.getattr_static(type(hook), "__call__", None))
    if any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in calls):
        raise HookDefinitionError(f"{definition_of(hook)} is async and would never be awaited; write a plain function.")
    if any(map(inspect.isgeneratorfunction, calls)):
        help_ = (
            "decorate it with @contextlib.contextmanager"
            if spec.kind == "around"
            else "its body would never run; return the answers as a list"
        )
        raise HookDefinitionError(f"{definition_of(hook)} is a generator function on {spec.name}: {help_}.")


def _check_annotation(hook: Callable[..., object], spec: EventSpec) -> None:
    signature = _signature(hook, evaluated=True)
    first = next(iter(signature.parameters.values()), None) if signature is not None else None
    if first is None:
        return
    named = {one for one in _classes(first.annotation) if one in CONTEXTS}
    if named and spec.context not in named:
        fits = [event.name for event in EVENTS.values() if event.context in named]
        raise HookDefinitionError(
            f"{spec.name} hands out {spec.context.__name__}, but {definition_of(hook)} asks for "
            f"{' | '.join(sorted(one.__name__ for one in named))}, which is the context of {', '.join(fits)}."
        )


def _signature(hook: object, *, evaluated: bool = False) -> inspect.Signature | None:
    """What a call takes: a decorated function's own parameters, or, where these say nothing, those that it wraps."""
    own = _own_signature(hook, evaluated=evaluated)
    return _own_signature(hook, evaluated=evaluated, follow_wrapped=True) if _takes_anything(own) else own


def _takes_anything(signature: inspect.Signature | None) -> bool:
    """Whether there is nothing but `*args` and `**kwargs`."""
    kinds = {one.kind for one in signature.parameters.values()} if signature is not None else set[object]()
    return bool(kinds) and kinds <= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def parsing(make: Callable[[], T]) -> T:
    """What `make` gives, which parses source; any thread may call it.

    CPython 3.11 raises SystemError if two threads build syntax trees at once, so those that come here take turns; one
    that does not may still parse in between, so it is tried again.
    """
    with _PARSING:
        for _ in range(_ATTEMPTS - 1):
            with suppress(SystemError):
                return make()
        return make()


def _own_signature(hook: object, *, evaluated: bool = False, follow_wrapped: bool = False) -> inspect.Signature | None:
    called = cast("Callable[..., object]", _as_called(hook))
    if evaluated:
        try:
            return parsing(lambda: inspect.signature(called, follow_wrapped=follow_wrapped, eval_str=True))
        except (NameError, AttributeError, SyntaxError, TypeError, ValueError):
            pass  # an annotation that only a type checker can read
    try:
        return parsing(lambda: inspect.signature(called, follow_wrapped=follow_wrapped))  # a builtin's is parsed
    except (TypeError, ValueError):
        return None  # a builtin without a signature


def _classes(annotation: Any) -> Iterator[type]:
    origin = get_origin(annotation) or annotation
    if isinstance(origin, type) and origin in CONTEXTS:
        yield origin
        return
    for member in get_args(annotation):
        yield from _classes(member)


def hooks_of_object(holder: object) -> dict[str, Hook]:
    """The methods of a hook object, by event.

    Raises:
        HookDefinitionError: if a method's name is nearly that of an event, or none is.
    """
    refuse_callback(holder)
    found: dict[str, Hook] = {}
    for name in dir(holder):
        if name in EVENTS:
            if callable(method := getattr(holder, name)):
                found[name] = method
        elif _is_nearly_an_event(name) and _is_method(inspect.getattr_static(holder, name, None)):
            advice = advice_on(name) or f"the nearest event is {nearest(name)}"
            raise HookDefinitionError(
                f"{type(holder).__qualname__}.{name} is no event and would never be called; {advice}. Rename the "
                "method, or give it a leading underscore."
            )
    if not found:
        raise HookDefinitionError(_no_hook(holder))
    return {event: found[event] for event in EVENTS if event in found}


def _no_hook(holder: object) -> str:
    if known := advice_about(holder):
        return f"hooks= got no hook: {known}."
    kind = type(holder).__qualname__
    if theirs := [f"for {name}, {advice_on(name)}" for name in dir(holder) if name in MEANT]:
        return f"{kind} has no method named like an event; {'; '.join(theirs)}. The events: {', '.join(EVENTS)}."
    return (
        f"{shown(holder)} is no hook: a HookSet, a dict such as {{'on_batch_end': f}}, an object with methods named "
        f"like events, or a sequence of these. The events: {', '.join(EVENTS)}."
    )


def _is_nearly_an_event(name: str) -> bool:
    if name.startswith(_PREFIXES):
        return True
    return not name.startswith("_") and bool(difflib.get_close_matches(name.lower(), EVENTS, 1, _NEARLY))


def _is_method(attribute: object) -> bool:
    return callable(attribute) or isinstance(attribute, classmethod)
