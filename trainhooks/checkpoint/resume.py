"""Where a run begins: at the newest whole checkpoint of its experiment, at an older one, or afresh."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Set
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeAlias, cast, final

from attrs import frozen

from trainhooks.errors import ResumeError
from trainhooks.store import Store, new_run_id

from .manifest import Manifest, canonical
from .reading import manifests_of, newest_whole, verify
from .tree import Tree

Resume: TypeAlias = Literal["never", "auto", "must"] | int
"""How `train` begins: afresh; at the newest checkpoint if there is one; at it or not at all; or at an update count."""

Load: TypeAlias = Callable[[Store, Manifest], Tree]
"""Reads the state in a checkpoint; raises CheckpointError if it is damaged."""

Obstacle: TypeAlias = Callable[[Manifest], str | None]
"""Why the data of this run cannot go on exactly where a checkpoint was made; None if it can."""

PREEMPTED = "PREEMPTED"


@final
@frozen
class Start:
    """Where a run begins."""

    folder: Store
    """The run's own."""
    run_id: str
    manifest: Manifest | None = None
    """The checkpoint that it goes on from; None for a fresh start."""
    state: dict[str, Any] | None = None
    """What that holds."""


def find_start(
    store: Store, resume: Resume, obstacle: Obstacle, load: Load, passed: Set[str] = frozenset()
) -> Start:
    """Find where a run begins. Reads alone; warns of what a run that cannot go on at the newest place loses.

    With "auto" it begins afresh only where no checkpoint of the experiment is whole.

    Args:
        store: The experiment's folder, with a folder for each of its runs.
        resume: As given to `train`.
        obstacle: Why the data cannot go on at a checkpoint.
        load: Reads the state in a checkpoint.
        passed: The places of checkpoints that are damaged for another rank.

    Raises:
        ResumeError: if what `resume` asks for is not there, or the data cannot go on from it.
    """
    if resume == "never":
        return afresh(store)
    if isinstance(resume, int):
        return _at_update(store, resume, obstacle, load, passed)
    unfit: Manifest | None = None
    for folder, run_id in runs_of(store):
        visible = manifests_of(folder)
        if resume == "must" and visible and (why := obstacle(visible[0])):
            raise ResumeError(why)
        fits = partial(_fits, run_id, passed, obstacle)
        if (found := newest_whole(folder, fits, load=load)) is not None:
            _warn_of_loss(visible[0], found[0], obstacle)
            if unfit is not None:
                _warn_of_an_earlier_run(unfit, run_id, found[0], obstacle)
            return _there(folder, run_id, found)
        if unfit is None:
            unfit = _newest_unfit(folder, run_id, passed, obstacle)
    if resume == "must":
        raise ResumeError(f"resume='must', but there is no whole checkpoint in {store.url}.")
    if unfit is not None:
        raise ResumeError(
            f"{obstacle(unfit)} {store.url} has no other that it could go on from; write resume='never' to begin "
            "afresh beside it."
        )
    return afresh(store)


def _newest_unfit(folder: Store, run_id: str, passed: Set[str], obstacle: Obstacle) -> Manifest | None:
    """The newest checkpoint that is whole, though the data cannot go on from it."""

    def hinders(manifest: Manifest) -> bool:
        return place_of(run_id, manifest) not in passed and obstacle(manifest) is not None

    found = newest_whole(folder, hinders, load=_verified)
    return None if found is None else found[0]


def _verified(folder: Store, manifest: Manifest) -> Tree:
    verify(folder, manifest)
    return {}


def place_of(run_id: str, manifest: Manifest) -> str:
    """Where a checkpoint is among those of an experiment."""
    return f"{run_id}/{manifest.key}"


def _fits(run_id: str, passed: Set[str], obstacle: Obstacle, manifest: Manifest) -> bool:
    return place_of(run_id, manifest) not in passed and obstacle(manifest) is None


def afresh(store: Store) -> Start:
    """A run that begins from nothing, in a folder of its own."""
    run_id = new_run_id(datetime.now(UTC))
    return Start(store.at(run_id), run_id)


def write_facts(folder: Store, facts: Mapping[str, object]) -> None:
    """Write what never changes of a run, where people and programs find it: `run.json`."""
    folder.put("run.json", canonical(facts), create=True)


def mark_preempted(folder: Store, facts: Mapping[str, object]) -> None:
    """Leave word in a run's folder that its processes left on a signal, and that the run is not complete."""
    folder.put(PREEMPTED, canonical(facts))


def unmark(folder: Store) -> None:
    """Take that word back: the run goes on."""
    folder.delete([PREEMPTED])


def runs_of(store: Store) -> Iterator[tuple[Store, str]]:
    """The runs of an experiment that have a folder, the newest first."""
    ids = {one.key.partition("/")[0] for one in store.list() if "/" in one.key}
    return ((store.at(run_id), run_id) for run_id in sorted(ids, reverse=True))


def _there(folder: Store, run_id: str, found: tuple[Manifest, object]) -> Start:
    manifest, state = found
    return Start(folder, run_id, manifest, cast("dict[str, Any]", state))


def _at_update(store: Store, step: int, obstacle: Obstacle, load: Load, passed: Set[str]) -> Start:
    steps: set[int] = set()
    for folder, run_id in runs_of(store):
        steps |= {one.step for one in manifests_of(folder)}
        fits = partial(_fits, run_id, passed, lambda one: None if one.step == step else "another update")
        if (found := newest_whole(folder, fits, load=load)) is not None:
            if (why := obstacle(found[0])) is not None:
                raise ResumeError(why)
            return _there(folder, run_id, found)
    there = ", ".join(map(str, sorted(steps))) or "none"
    raise ResumeError(f"resume={step}, but {store.url} has no whole checkpoint of that update; those of: {there}.")


def _warn_of_loss(newest: Manifest, found: Manifest, obstacle: Obstacle) -> None:
    if newest.key != found.key and (why := obstacle(newest)) is not None:
        warnings.warn(
            f"{why} The run goes on from update {found.step}, so {newest.step - found.step} updates are trained again.",
            RuntimeWarning,
            stacklevel=5,
        )


def _warn_of_an_earlier_run(newest: Manifest, run_id: str, found: Manifest, obstacle: Obstacle) -> None:
    warnings.warn(
        f"{obstacle(newest)} The run {run_id}, which began before, goes on from update {found.step} instead.",
        RuntimeWarning,
        stacklevel=5,
    )
