"""The hooks of one `around_*` event as one context manager; and where an exception is said to come from."""

from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, cast, final

from attrs import field, frozen

from trainhooks.core import EventSpec, Hook, HookSet, Progress, definition_of
from trainhooks.errors import HookDefinitionError

_IN_A_HOOK = "Raised in the hook"


@final
@frozen(eq=False)
class Bound:
    """A hook set's hook on one event, bound to a run."""

    owner: HookSet
    """The set."""
    call: Hook
    """The plain hook."""


def locate(error: BaseException, one: Bound, spec: EventSpec, ctx: Any) -> None:
    """Say on an exception in which hook, event and progress it was raised."""
    plain = [definition_of(hook) for hook in one.owner.hooks(spec.name) if callable(hook)]
    definition = f": {plain[0]}" if plain else ""
    error.add_note(f"{_IN_A_HOOK} {one.owner.name!r} on {spec.name}, at {ctx.at}{definition}.")


def say_where(error: BaseException, at: Progress) -> None:
    """Say on an exception how far the run was, unless a hook raised it: then its note says so."""
    if not any(note.startswith(_IN_A_HOOK) for note in getattr(error, "__notes__", ())):
        error.add_note(f"Raised outside of any hook, at {at}.")


@final
@frozen(eq=False)
class Around:
    """The context managers of one `around_*` event as one: entered in order, left in reverse, swallowing nothing."""

    spec: EventSpec
    bound: tuple[Bound, ...]
    ctx: Any
    _stack: ExitStack = field(factory=ExitStack)

    def __enter__(self) -> None:
        with ExitStack() as entered:
            for one in self.bound:
                try:
                    entered.enter_context(_Located(self.spec, one, self.ctx, self.manager(one)))
                except BaseException as error:
                    locate(error, one, self.spec, self.ctx)
                    raise
            self._stack.push(entered.pop_all())

    def manager(self, one: Bound) -> AbstractContextManager[object]:
        made: Any = one.call(self.ctx)
        if not (hasattr(made, "__enter__") and hasattr(made, "__exit__")):
            raise HookDefinitionError(
                f"{self.spec.name} returns a context manager, but {one.owner.name!r} returned {made!r}; "
                "decorate the function with @contextlib.contextmanager."
            )
        return cast("AbstractContextManager[object]", made)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)


@final
@frozen(eq=False)
class _Located:
    """One context manager of an `around_*` hook: what it raises is located, what it swallows is not swallowed."""

    spec: EventSpec
    one: Bound
    ctx: Any
    inner: AbstractContextManager[object]

    def __enter__(self) -> object:
        return self.inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            swallowed = self.inner.__exit__(kind, error, traceback)
        except BaseException as raised:
            if raised is not error:
                locate(raised, self.one, self.spec, self.ctx)
            raise
        if swallowed and error is not None:
            error.add_note(
                f"The hook {self.one.owner.name!r} on {self.spec.name} asked to swallow this; hooks cannot."
            )
