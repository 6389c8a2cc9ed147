"""The hooks of one `around_*` event as one context manager; and where an exception is said to come from."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, final

from attrs import field, frozen

from trainhooks.core import Bound, Entered, EventSpec, HookSet, Progress, definition_of
from trainhooks.errors import TrainhooksError

_IN = "Raised in"
_IN_A_HOOK = f"{_IN} the hook"


def locate(error: BaseException, one: Bound, spec: EventSpec, ctx: Any) -> None:
    """Say on an exception in which hook, event and progress it was raised."""
    error.add_note(
        f"{_IN_A_HOOK} {one.owner.name!r} on {spec.name}, at {ctx.at}: {definition_of(one.function)}."
    )


def say_in(error: BaseException, what: str) -> None:
    """Say on an exception what of the program raised it, unless that is said; `say_where` adds how far the run was."""
    if not any(note.startswith(_IN) for note in notes_of(error)):
        error.add_note(f"{_IN} {what}")


@contextmanager
def in_evaluation(name: str) -> Generator[None]:
    """Say on what the program raises within that it was in this evaluation."""
    try:
        yield
    except Exception as error:
        notes = notes_of(error)
        if notes and notes[-1].startswith(_IN) and not notes[-1].endswith("."):  # those of hooks are complete
            notes[-1] += f" of the evaluation {name!r}"
        elif not isinstance(error, TrainhooksError):  # which says itself what is wrong
            say_in(error, f"the evaluation {name!r}")
        raise


def say_where(error: BaseException, at: Progress) -> None:
    """Say on an exception how far the run was, unless a hook raised it: then its note says so."""
    notes = notes_of(error)
    if any(note.startswith(_IN_A_HOOK) for note in notes):
        return
    if notes and notes[-1].startswith(_IN) and not notes[-1].endswith("."):
        notes[-1] += f", at {at}."
    else:
        error.add_note(f"Raised outside of any hook, at {at}.")


def notes_of(error: BaseException) -> list[str]:
    """The notes on an exception so far."""
    notes: list[str] = getattr(error, "__notes__", [])
    return notes


@final
@frozen(eq=False)
class Around:
    """The context managers of one `around_*` event as one: entered in order, left in reverse, swallowing nothing.

    Entering it gives each set whose manager was entered, with what its `__enter__` returned, in order.
    """

    spec: EventSpec
    bound: tuple[Bound, ...]
    ctx: Any
    _stack: ExitStack = field(factory=ExitStack)

    def __enter__(self) -> tuple[tuple[HookSet, object], ...]:
        values: list[tuple[HookSet, object]] = []
        with ExitStack() as stack:
            for one in self.bound:
                try:
                    entered: Entered | None = one.call(self.ctx)
                except BaseException as error:
                    locate(error, one, self.spec, self.ctx)
                    raise
                if entered is not None:
                    stack.push(partial(self.leave, one, entered))
                    values.append((one.owner, entered.value))
            self._stack.push(stack.pop_all())
        return tuple(values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def leave(
        self, one: Bound, entered: Entered, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        """Leave one of them: what it raises is located, what it swallows is not swallowed."""
        assert one.leave is not None
        try:
            swallows = one.leave(self.ctx, entered, kind, error, traceback)
        except BaseException as raised:
            if raised is not error:
                locate(raised, one, self.spec, self.ctx)
            raise
        if swallows and error is not None:
            error.add_note(
                f"The hook {one.owner.name!r} on {self.spec.name} asked to swallow this; hooks cannot."
            )
