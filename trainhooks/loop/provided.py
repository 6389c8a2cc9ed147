"""The names of values: who provides them, and whether what is read will ever be there."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from trainhooks.core import HookSet
from trainhooks.errors import MissingValueError, RunDefinitionError


def names_of_evaluation(name: str, metrics: Iterable[str]) -> frozenset[str]:
    """The values that an evaluation records."""
    return frozenset({f"{name}/loss", *(f"{name}/{metric}" for metric in metrics)})


def names_of_training(objectives: Sequence[str]) -> frozenset[str]:
    """The values that training records whatever the step returns."""
    several = objectives if len(objectives) > 1 else ()
    return frozenset({"train/loss", *(f"train/loss/{objective}" for objective in several)})


def check_values(sets: Sequence[HookSet], own: frozenset[str], *, trains: bool) -> dict[str, str]:
    """Refuse what cannot be read or recorded; what only the step's values can bring, and who reads it.

    Args:
        sets: The sets of the run.
        own: Names of the values that the loop records.
        trains: Whether there is a training step, whose values are `train/<key>`.

    Raises:
        MissingValueError: if a set reads a name that neither the loop nor a set provides.
        RunDefinitionError: if a set provides a name of the loop.
    """
    provided = {name: one.name for one in sets for name in one.provides}
    if taken := sorted(own & set(provided)):
        raise RunDefinitionError(
            f"{provided[taken[0]]!r} provides {taken[0]!r}, which is the loop's own value; give it another name."
        )
    known = tuple(sorted(own | set(provided)))
    awaited: dict[str, str] = {}
    for one in sets:
        for name in sorted(one.reads - {"*", *known}):
            if not (trains and name.startswith("train/")):
                raise MissingValueError(
                    f"{one.name!r} reads {name!r}, which nothing in this run provides. The names that exist: "
                    f"{', '.join(known)}. A set that records a value says so: provides=frozenset({{{name!r}}}).",
                    name,
                    known,
                )
            awaited[name] = one.name
    return awaited


def check_awaited(awaited: Mapping[str, str], recorded: Collection[str]) -> None:
    """Refuse what the first epoch should have brought and did not.

    Args:
        awaited: Values of the step that somebody reads, and who.
        recorded: The names that were recorded.

    Raises:
        MissingValueError: if one is not among them.
    """
    known = tuple(sorted(recorded))
    for name, reader in awaited.items():
        if name not in known:
            raise MissingValueError(
                f"{reader!r} reads {name!r}, which the first epoch did not bring: the step returned no such value. "
                f"The names that exist: {', '.join(known)}.",
                name,
                known,
            )
