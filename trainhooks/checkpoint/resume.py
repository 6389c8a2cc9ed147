"""Where a run begins: at the newest whole checkpoint of its experiment, at an older one, or afresh."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, cast, final

import torch
from attrs import frozen

from trainhooks.errors import ResumeError
from trainhooks.store import Store, new_run_id

from .manifest import Manifest, canonical
from .reading import manifests_of, newest_whole

Resume: TypeAlias = Literal["never", "auto", "must"] | int
"""How `train` begins: afresh; at the newest checkpoint if there is one; at it or not at all; or at an update count."""

GoesOn: TypeAlias = Callable[[Manifest], bool]
"""Whether the data of this run can go on exactly where a checkpoint was made."""


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


def find_start(store: Store, resume: Resume, goes_on: GoesOn, device: torch.device) -> Start:
    """Find where a run begins. Reads alone; warns of what a run that cannot go on at the newest place loses.

    Args:
        store: The experiment's folder, with a folder for each of its runs.
        resume: As given to `train`.
        goes_on: Whether the data can go on at a checkpoint.
        device: Where the tensors of hook states go that were not on the CPU.

    Raises:
        ResumeError: if what `resume` asks for is not there, or the data cannot go on from it.
    """
    if resume == "never":
        return afresh(store)
    if isinstance(resume, int):
        return _at_update(store, resume, goes_on, device)
    unfit: Manifest | None = None
    for folder, run_id in runs_of(store):
        visible = manifests_of(folder)
        unfit = unfit or next((one for one in visible if not goes_on(one)), None)
        if resume == "must" and visible and not goes_on(visible[0]):
            raise ResumeError(_cannot_go_on(visible[0]))
        if (found := newest_whole(folder, goes_on, device=device)) is not None:
            _warn_of_loss(visible[0], found[0], goes_on)
            return _there(folder, run_id, found)
    if resume == "must":
        raise ResumeError(f"resume='must', but there is no whole checkpoint in {store.url}.")
    if unfit is not None:
        warnings.warn(
            f"{_cannot_go_on(unfit)} There is no other, so the run begins afresh.", RuntimeWarning, stacklevel=4
        )
    return afresh(store)


def afresh(store: Store) -> Start:
    """A run that begins from nothing, in a folder of its own."""
    run_id = new_run_id(datetime.now(UTC))
    return Start(store.at(run_id), run_id)


def write_facts(folder: Store, facts: Mapping[str, object]) -> None:
    """Write what never changes of a run, where people and programs find it: `run.json`."""
    folder.put("run.json", canonical(facts), create=True)


def runs_of(store: Store) -> Iterator[tuple[Store, str]]:
    """The runs of an experiment that have a folder, the newest first."""
    ids = {one.key.partition("/")[0] for one in store.list() if "/" in one.key}
    return ((store.at(run_id), run_id) for run_id in sorted(ids, reverse=True))


def _there(folder: Store, run_id: str, found: tuple[Manifest, object]) -> Start:
    manifest, state = found
    return Start(folder, run_id, manifest, cast("dict[str, Any]", state))


def _at_update(store: Store, step: int, goes_on: GoesOn, device: torch.device) -> Start:
    steps: set[int] = set()
    for folder, run_id in runs_of(store):
        steps |= {one.step for one in manifests_of(folder)}
        if (found := newest_whole(folder, lambda one: one.step == step, device=device)) is not None:
            if not goes_on(found[0]):
                raise ResumeError(_cannot_go_on(found[0]))
            return _there(folder, run_id, found)
    there = ", ".join(map(str, sorted(steps))) or "none"
    raise ResumeError(f"resume={step}, but {store.url} has no whole checkpoint of that update; those of: {there}.")


def _warn_of_loss(newest: Manifest, found: Manifest, goes_on: GoesOn) -> None:
    if newest.key != found.key and not goes_on(newest):
        warnings.warn(
            f"{_cannot_go_on(newest)} The run goes on from update {found.step}, so {newest.step - found.step} updates "
            "are trained again.",
            RuntimeWarning,
            stacklevel=5,
        )


def _cannot_go_on(manifest: Manifest) -> str:
    return (
        f"The checkpoint of update {manifest.step} was made within an epoch, and this data cannot go on there: use "
        "trainhooks.data.seeded_loader, or a loader with state_dict and load_state_dict."
    )
