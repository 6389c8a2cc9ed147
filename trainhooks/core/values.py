"""Recorded values, as hooks see them."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias, final

from attrs import frozen

from trainhooks.errors import MissingValueError, shown

Metrics: TypeAlias = Mapping[str, float]
"""Values by name."""


@final
@frozen(eq=False)
class Values(Metrics):
    """A mapping from names to the newest values, which also knows how new they are."""

    newest: Metrics
    """The values."""
    times: Mapping[str, int]
    """How often each name was recorded in the run so far."""
    before: Mapping[str, int] | None = None
    """The same when the evaluation at hand began; None outside of evaluations."""

    def __getitem__(self, name: str) -> float:
        return value_of(self.newest, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.newest)

    def __len__(self) -> int:
        return len(self.newest)

    def __repr__(self) -> str:
        return repr(dict(self.newest))

    def recorded(self, name: str) -> int:
        """How often `name` was recorded in the run, this value included: a value is new if this has grown."""
        return self.times.get(name, 1 if name in self.newest else 0)

    def is_of_this_evaluation(self, name: str) -> bool:
        """Whether `name` was recorded in the evaluation at hand, rather than before it."""
        return self.before is not None and self.recorded(name) > self.before.get(name, 0)


def value_of(values: Metrics, name: str) -> float:
    """The value of a name.

    Raises:
        MissingValueError: if there is none, with the names that exist.
    """
    try:
        return values[name]
    except KeyError:
        known = tuple(sorted(values))
        raise MissingValueError(
            f"There is no value {shown(name)} here. The names that exist: {', '.join(known) or 'none'}. Of what other "
            "hooks recorded, a hook sees the names that its set reads.",
            name,
            known,
        ) from None
