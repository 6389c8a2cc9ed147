"""Which process this is, as the environment and the process group say."""

import os

import pytest
import torch

from tests.ranks import on_ranks
from trainhooks import Rank, RunDefinitionError
from trainhooks.distributed import is_restarted_by_a_launcher, join, rank_here, restart_count

NAMES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_RUN_ID",
)  # fmt: skip
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: Patch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def says(monkeypatch: Patch, **words: str) -> None:
    for name, text in words.items():
        monkeypatch.setenv(name, text)


def test_a_program_that_nobody_launched_is_one_process() -> None:
    assert rank_here() == Rank(index=0, world=1, local_index=0, local_world=1)


def test_what_a_launcher_says_is_the_rank(monkeypatch: Patch) -> None:
    says(monkeypatch, RANK="6", WORLD_SIZE="8", LOCAL_RANK="2", LOCAL_WORLD_SIZE="4")
    assert rank_here() == Rank(index=6, world=8, local_index=2, local_world=4)


def test_a_launcher_that_says_nothing_of_machines_uses_one(monkeypatch: Patch) -> None:
    says(monkeypatch, RANK="6", WORLD_SIZE="8")
    assert rank_here() == Rank(index=6, world=8, local_index=6, local_world=8)


def test_ranks_follow_one_another_on_each_machine(monkeypatch: Patch) -> None:
    says(monkeypatch, RANK="6", WORLD_SIZE="8", LOCAL_WORLD_SIZE="4")
    assert rank_here() == Rank(index=6, world=8, local_index=2, local_world=4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "rank 2 of 2, 0 of 2 on this machine"),
        ({"RANK": "1"}, "rank 1 of 1, 0 of 1 on this machine"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "rank -1 of 2, 1 of 2 on this machine"),
        ({"WORLD_SIZE": "0"}, "rank 0 of 0, 0 of 0 on this machine"),
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "4"}, "rank 0 of 2, 0 of 4 on this machine"),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "2"}, "rank 0 of 4, 2 of 2 on this machine"),
    ],
)
def test_a_rank_that_cannot_be_is_refused(monkeypatch: Patch, words: dict[str, str], said: str) -> None:
    says(monkeypatch, **words)
    with pytest.raises(RunDefinitionError, match=f"The environment says {said}, which cannot be; start the program by"):
        rank_here()


@pytest.mark.parametrize(("name", "text"), [("RANK", "first"), ("WORLD_SIZE", "2-"), ("LOCAL_RANK", "0.5")])
def test_what_is_no_number_is_refused(monkeypatch: Patch, name: str, text: str) -> None:
    says(monkeypatch, **{name: text})
    with pytest.raises(RunDefinitionError, match=f"The environment says {name}={text}, which is no whole number"):
        rank_here()


def test_the_restart_count_is_the_launchers(monkeypatch: Patch) -> None:
    assert restart_count() == 0
    says(monkeypatch, TORCHELASTIC_RESTART_COUNT="3")
    assert restart_count() == 3


def test_torchrun_names_its_job(monkeypatch: Patch) -> None:
    assert not is_restarted_by_a_launcher()
    says(monkeypatch, TORCHELASTIC_RUN_ID="42")
    assert is_restarted_by_a_launcher()


def rank_within_a_group() -> Rank:
    join(rank_here(), torch.device("cpu"))
    for name in NAMES:
        os.environ.pop(name, None)
    return rank_here()


def test_a_process_group_knows_better_than_the_environment() -> None:
    assert on_ranks(2, rank_within_a_group) == [
        Rank(index=0, world=2, local_index=0, local_world=2),
        Rank(index=1, world=2, local_index=1, local_world=2),
    ]
