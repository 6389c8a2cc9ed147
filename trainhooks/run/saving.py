"""Tying a run to its experiment: where it begins, what it may have changed, and what saves it."""

import logging
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from trainhooks.checkpoint import (
    POSITION,
    CheckpointSaver,
    Manifest,
    Resume,
    Start,
    Writer,
    begin_attempt,
    config_of,
    differences,
    find_start,
    restored_state,
    sweep,
    versions,
    write_facts,
)
from trainhooks.core import Progress
from trainhooks.errors import ResumeError
from trainhooks.loop import Bindings, DispatchTable, Live, begin_at, restore, restore_streams, within_epoch
from trainhooks.store import Experiment, open_store, probe

_log = logging.getLogger("trainhooks")


def start_of(
    experiment: Experiment, resume: Resume, data: Iterable[Any], accumulate: int, device: torch.device
) -> Start:
    """Where a run of this experiment begins. Reads alone.

    Raises:
        ResumeError: if what `resume` asks for is not there, or the data cannot go on from it.
        StorageError: if the experiment's place cannot be read.
    """

    def goes_on(manifest: Manifest) -> bool:
        position = manifest.extra.get(POSITION)
        return position == "between epochs" or position == within_epoch(data, accumulate) != "lost"

    return find_start(open_store(experiment), resume, goes_on, device)


def tie(
    live: Live, bindings: Bindings, table: DispatchTable, start: Start, objectives: Sequence[str]
) -> CheckpointSaver:
    """Let a run that is about to start save, and go on from its checkpoint if it has one.

    Raises:
        ResumeError: if something changed since the checkpoint that cannot change within a run.
        StorageError: if the experiment's place cannot be written.
    """
    run, folder, experiment = live.run, start.folder, live.run.experiment
    assert isinstance(experiment, Experiment)
    config = config_of(run, table, live.requests.evaluations, objectives, experiment.hyperparams)
    changes: list[str] = []
    if start.state is not None:
        changes = _changes(start, config)
        live.prepare = _going_on(live.prepare, start.state, bindings)
    probe(folder)
    facts = {"host": platform.node(), "pid": str(os.getpid()), **versions()}
    if start.manifest is None:
        write_facts(folder, {"project": experiment.project, "name": experiment.name, "config": config, **facts})
    resumed_from = None if start.manifest is None else start.manifest.step
    attempt = begin_attempt(folder, resumed_from=resumed_from, facts={**facts, "changes": "; ".join(changes)})
    sweep(folder, attempt)
    policies = bindings.keepers()
    writer = Writer(folder, attempt, list(policies.values()), versions=versions())
    saver = CheckpointSaver(folder, writer, policies, bindings.states, config)
    if start.state is not None:
        saver.newest = Progress(**start.state["progress"])
    live.saver, live.requests.saves = saver, True
    return saver


def _changes(start: Start, config: dict[str, Any]) -> list[str]:
    """What is not as it was when the checkpoint was made: said in the log, or refused."""
    assert start.state is not None
    assert start.manifest is not None
    found = differences(start.state["config"], config)
    if fixed := [str(one) for one in found if not one.may_change]:
        raise ResumeError(
            f"The run cannot go on from update {start.manifest.step} of {start.folder.url} with another configuration: "
            f"{'; '.join(fixed)} (in the checkpoint -> now). Give what it had, or begin afresh with resume='never'."
        )
    changes = [str(one) for one in found]
    _log.log(
        logging.WARNING if changes else logging.INFO,
        "Going on from update %d of %s%s.",
        start.manifest.step,
        start.folder.url,
        f", with changes: {'; '.join(changes)}" if changes else "",
    )
    return changes


def _going_on(prepare: Callable[[Live], None], state: dict[str, Any], bindings: Bindings) -> Callable[[Live], None]:
    """The preparation of a run, with its state put back once everything that holds it was made."""

    def prepare_and_restore(live: Live) -> None:
        begin_at(live, state)
        prepare(live)
        restore(live, state)
        bindings.restore_states(state["hooks"], restored_state)
        restore_streams(live, state)
        state.clear()  # else a second copy of the model would stay for the whole run

    return prepare_and_restore
