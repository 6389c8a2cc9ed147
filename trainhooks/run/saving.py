"""Tying a run to its experiment: where it begins, what it may have changed, and what saves it."""

import hashlib
import logging
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch

from trainhooks.checkpoint import (
    AVERAGES,
    BATCH_SIZE,
    FED,
    POSITION,
    Attempt,
    CheckpointSaver,
    Manifest,
    Resume,
    Start,
    Writer,
    begin_attempt,
    config_of,
    differences,
    find_start,
    find_start_together,
    part_of,
    placed,
    read,
    restored_state,
    sweep,
    unmark,
    versions,
    write_facts,
)
from trainhooks.core import Progress, Rank
from trainhooks.distributed import Ranks
from trainhooks.errors import ResumeError
from trainhooks.loop import (
    Bindings,
    DispatchTable,
    Live,
    State,
    batch_size_of,
    begin_at,
    place_now,
    restore,
    restore_streams,
    within_epoch,
)
from trainhooks.store import Experiment, Store, open_store, probe

from .placing import like_in
from .preparing import seed_everything

_log = logging.getLogger("trainhooks")


def start_of(
    experiment: Experiment,
    resume: Resume,
    data: Iterable[Any],
    accumulate: int,
    device: torch.device,
    ranks: Ranks | None = None,
) -> Start:
    """Where a run of this experiment begins; over ranks, the same on each. Reads alone.

    Raises:
        ResumeError: if what `resume` asks for is not there, or the data cannot go on from it.
        StorageError: if the experiment's place cannot be read.
    """
    world = 1 if ranks is None else ranks.rank.world

    def obstacle(manifest: Manifest) -> str | None:
        return _obstacle(manifest, within_epoch(data, accumulate, world), (world, batch_size_of(data)))

    store = open_store(experiment)
    if ranks is None:
        return find_start(store, resume, obstacle, partial(read, device=device))
    return find_start_together(ranks, store, resume, obstacle, device)


def _obstacle(manifest: Manifest, position: str, now: tuple[int, int | None]) -> str | None:
    """Why data with this position cannot go on at a checkpoint; `now`: processes, and samples of a batch in each."""
    made = manifest.extra.get(POSITION)
    begin = f"The checkpoint of update {manifest.step} was made within an epoch"
    if made == "between epochs":
        return None
    if made != position or made == "lost":
        return (
            f"{begin}, and this data cannot go on there: use trainhooks.data.seeded_loader, or a loader with "
            "state_dict and load_state_dict."
        )
    fed, size = (cast("int | None", manifest.extra.get(key)) for key in (FED, BATCH_SIZE))
    was = manifest.world_size, size
    if was == now or (made == "cursor" and place_now(fed or 0, was, now) is not None):
        return None
    return f"{begin} by {_processes(*was)}, at a place where {_processes(*now)} cannot go on."


def _processes(count: int, size: int | None) -> str:
    return f"{count} process{'' if count == 1 else 'es'}" + ("" if size is None else f" with batches of {size}")


def saved_hooks(start: Start, rank: Rank) -> frozenset[str]:
    """The names of the hook sets whose states a run takes from the checkpoint that it goes on from."""
    return frozenset() if start.state is None else frozenset(part_of(start.state, rank)["hooks"])


def tie(
    live: Live, bindings: Bindings, table: DispatchTable, start: Start, objectives: Sequence[str]
) -> CheckpointSaver:
    """Let a run that is about to start save, and go on from its checkpoint if it has one. All ranks call it.

    Raises:
        ResumeError: if something changed since the checkpoint that cannot change within a run.
        StorageError: if the experiment's place cannot be written.
    """
    run, ranks, experiment = live.run, live.ranks, live.run.experiment
    assert isinstance(experiment, Experiment)
    config = config_of(run, table, live.requests.evaluations, objectives, experiment.hyperparams)
    newest: Progress | None = None
    changes: list[str] = []
    if start.state is not None:
        changes = _changes(start, config, run.rank)
        newest = Progress(**start.state["progress"])
        live.prepare = _going_on(live.prepare, start, bindings)

    def begin() -> Attempt:
        return _begun(start, experiment, config, changes)

    attempt = begin() if ranks is None else ranks.from_first(begin)
    policies = bindings.keepers()
    sharded = live.together is not None and live.together.parallel.sharded
    writes = sharded or run.rank.index == 0
    writer = Writer(start.folder, attempt, list(policies.values()), versions=versions()) if writes else None
    saver = CheckpointSaver(
        start.folder, attempt, writer, policies, bindings.states, config, run.device, ranks=ranks, sharded=sharded,
        newest=newest,
    )  # fmt: skip
    live.saver, live.requests.saves = saver, True
    return saver


def _begun(start: Start, experiment: Experiment, config: dict[str, Any], changes: Sequence[str]) -> Attempt:
    """Begin an attempt in the run's folder, which is seen to take what is written."""
    folder: Store = start.folder
    probe(folder)
    facts = {"host": platform.node(), "pid": str(os.getpid()), **versions()}
    if start.manifest is None:
        write_facts(folder, {"project": experiment.project, "name": experiment.name, "config": config, **facts})
    resumed_from = None if start.manifest is None else start.manifest.step
    attempt = begin_attempt(folder, resumed_from=resumed_from, facts={**facts, "changes": "; ".join(changes)})
    if resumed_from is not None:
        unmark(folder)
    sweep(folder, attempt)
    return attempt


def _changes(start: Start, config: dict[str, Any], rank: Rank) -> list[str]:
    """What is not as it was when the checkpoint was made: said in the log, by rank 0, or refused."""
    assert start.state is not None
    assert start.manifest is not None
    found = differences(start.state["config"], config)
    if fixed := [str(one) for one in found if not one.may_change]:
        raise ResumeError(
            f"The run cannot go on from update {start.manifest.step} of {start.folder.url} with another configuration: "
            f"{'; '.join(fixed)} (in the checkpoint -> now). Give what it had, or begin afresh with resume='never'."
        )
    changes = [str(one) for one in found]
    if rank.index == 0:
        _log.info(
            "Going on from update %d of %s%s.%s",
            start.manifest.step,
            start.folder.url,
            f", with changes: {'; '.join(changes)}" if changes else "",
            _of_another_world(start.manifest.world_size, rank.world),
        )
    return changes


def _of_another_world(was: int, now: int) -> str:
    if was == now:
        return ""
    return (
        f" With {_processes(now, None)} instead of {was} the run is not bit for bit what it would have been: the batch "
        "of an update is split and summed in another way"
        + (", and the processes that are new have random streams of their own." if now > was else ".")
    )


def _going_on(prepare: Callable[[Live], None], start: Start, bindings: Bindings) -> Callable[[Live], None]:
    """The preparation of a run, with its state put back once everything that holds it was made."""
    state, manifest = start.state, start.manifest
    assert state is not None
    assert manifest is not None

    def prepare_and_restore(live: Live) -> None:
        own = part_of(state, live.run.rank)
        own.pop(AVERAGES, None)  # the sets that keep them have them in their states
        begin_at(live, own)
        prepare(live)
        if live.ranks is not None:
            own = cast("State", placed(own, start.folder, manifest, like_in(live), live.run.device))
        restore(live, own)
        bindings.restore_states(own["hooks"], restored_state)
        if own["random"] is None:
            seed_everything(_new_seed(live.run.seed, live.run.rank, live.at, state["random"]))
        restore_streams(live, own)
        own.clear()
        state.clear()  # else a second copy of the model would stay for the whole run

    return prepare_and_restore


def _new_seed(seed: int | None, rank: Rank, at: Progress, random: dict[str, Any]) -> int:
    """A seed for a rank that did not exist before: of the run's seed, or of the stream that rank 0 goes on with."""
    origin = str(seed).encode() if seed is not None else random["torch_cpu"].numpy().tobytes()
    text = origin + f"/{rank.index}/{at.updates}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")
