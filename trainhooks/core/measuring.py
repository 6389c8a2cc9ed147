"""How long hooks take: the calls of a timed set, by the clock of the run."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, cast, final

from attrs import frozen

from .binding import Entry, Hook, Scope, bind
from .events import EVENTS


@final
@frozen(kw_only=True)
class HookTime:
    """What the hooks of one timed set took."""

    calls: int = 0
    """Calls of its hooks, on all events; one that raised counts, and one that `when` held back does not."""
    total: float = 0.0
    """Seconds of all the calls together; of a context manager, those of entering and leaving it."""

    @property
    def per_call(self) -> float:
        """Mean seconds of a call; 0 if there was none."""
        return self.total / self.calls if self.calls else 0.0


@final
@frozen(eq=False)
class HookTimes(Mapping[str, HookTime]):
    """The times of the sets under `timed`, by name; `str()` of it is a table, the dearest first."""

    times: Mapping[str, HookTime]
    """The times; sets of one name are counted together."""

    def __getitem__(self, name: str) -> HookTime:
        return self.times[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.times)

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        return repr(dict(self.times))

    def __str__(self) -> str:
        if not self.times:
            return "No hook set was timed; wrap those that are to be: timed(hook)."
        dearest = sorted(self.times.items(), key=lambda one: one[1].total, reverse=True)
        rows = [(name, f"{one.calls}", f"{one.total:.3f}", f"{one.per_call * 1e3:.3f}") for name, one in dearest]
        lines = [("hook set", "calls", "total [s]", "per call [ms]"), *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)


@final
@frozen
class Measured:
    """A hook on one event whose calls are measured."""

    event: str
    entry: Entry

    def bind(self, scope: Scope, /) -> Hook:
        """The measured hook, for one run."""
        hook = bind(self.entry, scope)
        scope.timed = True

        def call(*given: object) -> Any:
            began = scope.clock()
            try:
                return hook(*given)
            finally:
                scope.seconds += scope.clock() - began
                scope.calls += 1

        def wrap(ctx: object) -> object:
            made = call(ctx)
            if not hasattr(made, "__exit__"):
                return made  # the loop refuses it
            return _MeasuredManager(scope, cast("AbstractContextManager[object]", made))

        return wrap if EVENTS[self.event].kind == "around" else call


@final
@frozen(eq=False)
class _MeasuredManager:
    """A context manager whose entering and leaving are measured."""

    scope: Scope
    inner: AbstractContextManager[object]

    def __enter__(self) -> object:
        began = self.scope.clock()
        try:
            return self.inner.__enter__()
        finally:
            self.scope.seconds += self.scope.clock() - began

    def __exit__(self, *raised: Any) -> bool | None:
        began = self.scope.clock()
        try:
            return self.inner.__exit__(*raised)
        finally:
            self.scope.seconds += self.scope.clock() - began
