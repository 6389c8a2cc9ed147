"""Processes that save are killed at random moments: what they leave is whole, and where it is not, it is noticed."""

import os
from pathlib import Path

from tests.checkpoint.kills import ELEMENTS, debris, is_well, killed, policies_of, store_of
from tests.checkpoint.runs import Run
from trainhooks.checkpoint import manifests_of

KILLS = int(os.environ.get("KILLS", "20"))
"""200 at night."""


def test_whatever_moment_a_process_is_killed_at_the_newest_is_whole_and_no_older_than_it_knows(tmp_path: Path) -> None:
    """Keeps P23 and P32."""
    wells: list[bool] = []
    saved = killed(
        tmp_path, "fresh", KILLS, seed=0, after_each=lambda steps: wells.append(is_well(tmp_path, "fresh", steps))
    )
    assert wells == [True] * KILLS
    assert len(saved) > KILLS / 4  # they were killed while they saved
    assert debris(tmp_path) == []


def test_checkpoints_written_over_each_other_do_not_survive_the_same_kills(tmp_path: Path) -> None:
    wells: list[bool] = []
    for seed in range(20):
        folder = tmp_path / str(seed)
        killed(folder, "reused", 5, seed, lambda steps: wells.append(is_well(folder, "reused", steps)))  # noqa: B023  # called at once
        if not all(wells):
            break
    assert not all(wells)


def test_the_harness_sees_a_lost_checkpoint_and_a_lost_best_one(tmp_path: Path) -> None:
    store = store_of(str(tmp_path), "fresh")
    run = Run(store, policies_of("fresh"), ELEMENTS)
    run.go(10)
    assert is_well(tmp_path, "fresh", run.acknowledged)
    assert not is_well(tmp_path, "fresh", [*run.acknowledged, 11])
    newest, best = manifests_of(store)
    assert (newest.step, best.step) == (10, 7)
    store.delete([best.key])
    assert not is_well(tmp_path, "fresh", run.acknowledged)
