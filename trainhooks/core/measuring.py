"""How long hooks take: the calls of a timed set, by the clock of the run."""

from collections.abc import Iterator, Mapping
from typing import final

from attrs import frozen


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
