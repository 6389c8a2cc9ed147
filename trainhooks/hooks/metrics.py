"""Hooks on the metrics of evaluations and epochs: renamed, or shown as lines of text."""

import math
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TextIO, cast, final

from attrs import field, frozen

from trainhooks.core import EpochEnd, EvaluationEnd, HookSet, Metrics, TrainEnd, factory, name_of, stateful
from trainhooks.errors import HookDefinitionError, MissingValueError, shown


@final
@frozen(kw_only=True)
class Renamed:
    """What `rename_metrics` has met."""

    met: frozenset[str] = frozenset()
    """The old names that evaluations of the run had."""
    known: frozenset[str] = frozenset()
    """All names that evaluations of the run had."""


@factory
def rename_metrics(
    names: Mapping[str, str] | Callable[[str], str], *, strict: bool = True, provides: Collection[str] = ()
) -> HookSet:
    """Give the values of evaluations other names, before anybody sees or records them.

    A new name is one to monitor: `early_stopping("accuracy", mode="max")`. The old one is gone.

    Args:
        names: New names by old ones, both whole, such as `{"val/acc": "val/accuracy"}`; or a function that takes each
            name and returns the new one, or the same.
        strict: Whether an old name that does not exist is refused, at the first end of the evaluation with which it
            begins. One that begins with no evaluation of the run is warned of when the run ends.
        provides: For a function, the new names that other hooks read.

    Raises:
        HookDefinitionError: if `names` is neither, or gives two values one name; in the run, if the function does.
        MissingValueError: in the run, if an old name does not exist and `strict` is true, with the names that do.

    Example:
        >>> rename_metrics({"val/acc": "val/accuracy"}).provides
        frozenset({'val/accuracy'})
    """
    new_name, old_names = _renaming(names)
    unmet = old_names if strict else frozenset[str]()
    provided = frozenset(provides) if callable(names) else frozenset(names.values())

    def transform_metrics(ctx: EvaluationEnd, metrics: Metrics, state: Renamed) -> tuple[Renamed, Metrics]:
        for name in sorted(unmet - set(metrics)):
            if name.startswith(f"{ctx.name}/"):
                raise _missing(name, metrics)
        seen = Renamed(met=state.met | (unmet & set(metrics)), known=state.known | set(metrics))
        return seen, _with_new_names(new_name, metrics)

    def on_train_end(ctx: TrainEnd, state: Renamed) -> tuple[Renamed, None]:
        if state.known and (missed := sorted(unmet - state.met)):
            warnings.warn(
                f"rename_metrics was to rename {missed[0]!r}, which no evaluation of this run had. The names that "
                f"they had: {', '.join(sorted(state.known))}.",
                RuntimeWarning,
                stacklevel=2,
            )
        return state, None

    if not unmet:
        return HookSet(
            name="rename_metrics", provides=provided,
            transform_metrics=lambda ctx, metrics: _with_new_names(new_name, metrics),
        )  # fmt: skip
    return stateful(
        "rename_metrics", Renamed, provides=provided, transform_metrics=transform_metrics, on_train_end=on_train_end
    )


def _renaming(names: object) -> tuple[Callable[[str], str], frozenset[str]]:
    """The function from old to new names, and the old names as far as they are given."""
    if callable(names):
        return cast("Callable[[str], str]", names), frozenset()
    pairs: Mapping[object, object] = cast("Mapping[object, object]", names) if isinstance(names, Mapping) else {}
    if not pairs or not all(isinstance(one, str) and one for pair in pairs.items() for one in pair):
        raise HookDefinitionError(
            "rename_metrics takes new names by old ones, such as {'val/acc': 'val/accuracy'}, or a function from name "
            f"to name, got {names!r}."
        )
    given = cast("Mapping[str, str]", pairs)
    if len(set(given.values())) < len(given):
        raise HookDefinitionError(f"rename_metrics gives two values one name: {dict(given)!r}.")
    return (lambda name: given.get(name, name)), frozenset(given)


def _with_new_names(new_name: Callable[[str], str], metrics: Metrics) -> Metrics:
    renamed: dict[str, float] = {}
    sources: dict[str, str] = {}
    for old, value in metrics.items():
        new: object = new_name(old)
        if not isinstance(new, str) or not new:
            raise HookDefinitionError(
                f"{name_of(new_name)!r} takes a name and returns one, but made {shown(new)} of {old!r}."
            )
        if new in renamed:
            raise HookDefinitionError(f"rename_metrics gives {sources[new]!r} and {old!r} one name, {new!r}.")
        renamed[new], sources[new] = value, old
    return renamed


def _missing(name: str, metrics: Metrics) -> MissingValueError:
    known = tuple(sorted(metrics))
    return MissingValueError(
        f"rename_metrics is to rename {name!r}, which does not exist. The names that do: {', '.join(known)}. Write "
        "rename_metrics(..., strict=False) to leave out what is not there.",
        name,
        known,
    )


@final
@frozen(kw_only=True)
class Reported:
    """What `performance_report` has shown."""

    values: Mapping[str, float] = field(factory=dict[str, float])
    """The values as last shown, by name."""
    times: Mapping[str, int] = field(factory=dict[str, int])
    """How often each had been recorded then."""


@factory
def performance_report(*, names: Collection[str] = ("*",), stream: TextIO | None = None) -> HookSet:
    """Print a table of the metrics at each epoch's end, and at the end of each evaluation within an epoch.

    The table of an epoch has every value recorded in it, that of an evaluation what is new since the last table. Each
    value has a line: its name, what it is now, what it was when it was last shown, and the change. The lines are plain
    text and as wide as the names need. Only rank 0 prints.

    Args:
        names: The values to show, in this order; `"*"` for all others, by name.
        stream: Where to; None for standard output, looked up whenever a table is printed.

    Raises:
        HookDefinitionError: if `names` is empty or no collection of names.
        MissingValueError: when the run starts, if nothing provides a name.

    Example:
        >>> performance_report(names=["val/acc", "val/loss"]).reads == {"val/acc", "val/loss"}
        True
    """
    _check_collection(names)

    def show(
        ctx: EpochEnd | EvaluationEnd, state: Reported, title: str, told: Mapping[str, int]
    ) -> tuple[Reported, None]:
        times = {name: ctx.metrics.recorded(name) for name in _chosen(names, ctx.metrics)}
        chosen = {name: ctx.metrics[name] for name, count in times.items() if count != told.get(name)}
        if not chosen:
            return state, None
        out = stream or sys.stdout
        out.write("".join(f"{line}\n" for line in _table(title, chosen, state.values)))
        out.flush()
        return Reported(values={**state.values, **chosen}, times={**state.times, **times}), None

    def on_evaluation_end(ctx: EvaluationEnd, state: Reported) -> tuple[Reported, None]:
        if ctx.at.epochs != ctx.since.epochs:  # else the epoch's table has it
            return state, None
        return show(ctx, state, f"{ctx.name} at update {ctx.at.updates}", state.times)

    def on_epoch_end(ctx: EpochEnd, state: Reported) -> tuple[Reported, None]:
        return show(ctx, state, f"epoch {ctx.at.epoch + 1} at update {ctx.at.updates}", {})

    return stateful(
        "performance_report", Reported, reads=frozenset(names), ranks=frozenset({0}),
        on_evaluation_end=on_evaluation_end, on_epoch_end=on_epoch_end,
    )  # fmt: skip


def _check_collection(names: object) -> None:
    given: Collection[object] = cast("Collection[object]", names) if isinstance(names, Collection) else ()
    if isinstance(names, str) or not given or not all(isinstance(one, str) and one for one in given):
        raise HookDefinitionError(
            f"names is a collection of names of values, such as ['val/loss'], got {names!r}."
        )


def _chosen(names: Collection[str], metrics: Metrics) -> Iterator[str]:
    """The names to show of those that are there; some may come twice."""
    for name in names:
        if name == "*":
            yield from sorted(metrics)
        elif name in metrics:
            yield name


def _table(title: str, values: Mapping[str, float], before: Mapping[str, float]) -> Iterator[str]:
    width = max(len(title), *map(len, values))
    yield f"{title:<{width}}  {'now':>12}  {'before':>12}  {'change':>12}"
    for name, now in values.items():
        then = before.get(name, math.nan)
        columns = f"{name:<{width}}  {now:>12.6g}"
        yield f"{columns}  {then:>12.6g}  {now - then:>+12.6g}" if name in before else columns
