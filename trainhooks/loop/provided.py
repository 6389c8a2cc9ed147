"""The names of values: who provides them, and whether what is read will ever be there."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import final

from attrs import frozen

from trainhooks.core import HookSet
from trainhooks.errors import MissingValueError, RunDefinitionError


def names_of_evaluation(name: str, metrics: Iterable[str]) -> frozenset[str]:
    """The values that an evaluation records."""
    return frozenset({f"{name}/loss", *(f"{name}/{metric}" for metric in metrics)})


def names_of_training(objectives: Sequence[str]) -> frozenset[str]:
    """The values that training records whatever the step returns: the loss, of several objectives each its own."""
    return frozenset({"train/loss"} if len(objectives) == 1 else {f"train/loss/{one}" for one in objectives})


@final
@frozen
class Source:
    """Training, or an evaluation, as a source of values whose names are known only when it has brought them."""

    name: str
    """`"train"`, or the evaluation's name; its values are `<name>/...`."""
    gives_values: bool
    """Whether its step may give values, `<name>/<key>`."""
    metrics: frozenset[str] = frozenset()
    """Its metrics: of what is more than one number each part is recorded, as `<name>/<metric>/<key>`."""

    def may_bring(self, name: str) -> bool:
        """Whether it may record a value of this name."""
        prefix, rest = f"{self.name}/", name.removeprefix(f"{self.name}/")
        if not name.startswith(prefix) or rest == "loss" or rest.startswith("loss/"):
            return False
        return self.gives_values or rest in self.metrics or any(rest.startswith(f"{one}/") for one in self.metrics)


def check_values(
    sets: Sequence[HookSet], own: frozenset[str], sources: Sequence[Source]
) -> dict[str, Mapping[str, str]]:
    """Refuse what cannot be read or recorded; by source, the values that it may bring and that are read, and by whom.

    Args:
        sets: The sets of the run.
        own: Names of the values that the loop records.
        sources: What may bring more of them.

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
    awaited: dict[str, dict[str, str]] = {}
    for one in sets:
        for name in sorted(one.reads - {"*", *provided}):
            bringing = [source.name for source in sources if source.may_bring(name)]
            if bringing:
                awaited.setdefault(max(bringing, key=len), {})[name] = one.name
            elif name not in own:
                raise MissingValueError(
                    f"{one.name!r} reads {name!r}, which nothing in this run provides. The names that exist: "
                    f"{', '.join(known) or 'none'}. A set that records a value says so: "
                    f"provides=frozenset({{{name!r}}}).",
                    name,
                    known,
                )
    return dict(awaited)


def check_awaited(source: str, awaited: Mapping[str, str], recorded: Collection[str]) -> None:
    """Refuse what a source should have brought when it was over for the first time, and did not.

    Args:
        source: `"train"`, or an evaluation's name.
        awaited: Values that somebody reads, and who.
        recorded: The names that were recorded.

    Raises:
        MissingValueError: if one is not among them.
    """
    known = tuple(sorted(recorded))
    for name, reader in awaited.items():
        if name not in known:
            first = (
                "the first epoch did not bring: the step returned no such value"
                if source == "train"
                else f"the first evaluation {source!r} did not bring: neither its step nor a metric gave such a value"
            )
            raise MissingValueError(
                f"{reader!r} reads {name!r}, which {first}. The names that exist: {', '.join(known)}.",
                name,
                known,
            )
