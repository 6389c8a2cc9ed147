"""What the processes of a run tell each other, on real process groups."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.ranks import HOUSE, on_ranks, torchrun
from trainhooks import OrderCycleError, RunDefinitionError
from trainhooks.distributed import Ranks, join, rank_here

WORLDS = pytest.mark.parametrize("world", [2, 3])


def joined(timeout: float | None = None) -> Ranks:
    return join(rank_here(), torch.device("cpu"), timeout)


def exchange() -> dict[str, Any]:
    ranks = joined()
    index = ranks.rank.index
    values = torch.tensor([float(index + 1), 10.0])
    found: dict[str, object] = {
        "any of none": ranks.any(False),
        "any of the last": ranks.any(index == ranks.rank.world - 1),
        "most": ranks.most(-2.5 - index),
        "gather": ranks.gather({"from": index}),
        "gather to first": ranks.gather_to_first((index, "text")),
        "from first": ranks.from_first(lambda: f"said by rank {index}"),
        "sum": ranks.sum_later(values).wait().tolist(),
        "in place": values.tolist(),
    }
    means = [torch.tensor([3.0 * index]), torch.tensor([[1.0, 6.0 * index]])]
    ranks.average(means)
    return {**found, "average": [one.tolist() for one in means]}


@WORLDS
def test_every_rank_learns_the_same(world: int) -> None:
    everybody = {
        "any of none": False,
        "any of the last": True,
        "most": -2.5,
        "gather": [{"from": index} for index in range(world)],
        "from first": "said by rank 0",
        "sum": [{2: 3.0, 3: 6.0}[world], 10.0 * world],
        "in place": [{2: 3.0, 3: 6.0}[world], 10.0 * world],
        "average": [[{2: 1.5, 3: 3.0}[world]], [[1.0, {2: 3.0, 3: 6.0}[world]]]],
    }
    first = [(index, "text") for index in range(world)]
    assert on_ranks(world, exchange) == [
        {**everybody, "gather to first": first if index == 0 else []} for index in range(world)
    ]


def nan_of_one_rank() -> tuple[float, bool]:
    ranks = joined()
    return ranks.most(float("inf") if ranks.rank.index == 1 else 0.0), ranks.any(ranks.rank.index == 0)


def test_numbers_go_as_doubles_and_may_be_infinite() -> None:
    assert on_ranks(2, nan_of_one_rank) == [(float("inf"), True)] * 2


def sums_while_the_host_goes_on(folder: Path) -> float:
    """Rank 1 begins its sum once rank 0, whose sum is on its way, has gone on."""
    ranks = joined()
    if ranks.rank.index == 1:
        wait_for(folder / "gone on")
    sums = ranks.sum_later(torch.ones(1))
    (folder / "gone on").touch()
    return sums.wait().item()


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def test_a_sum_is_waited_for_where_it_is_read_and_not_before(tmp_path: Path) -> None:
    assert on_ranks(2, sums_while_the_host_goes_on, tmp_path) == [2.0, 2.0]


class OfNoSecondMakingError(Exception):
    """It is not built from its message alone, so pickle cannot build it again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def what_make_raises(kind: str) -> tuple[str, str, bool]:
    ranks = joined()

    def make() -> object:
        if kind == "plain":
            raise RunDefinitionError("nothing to resume")
        if kind == "no second making":
            raise OfNoSecondMakingError("this", "that")
        if kind == "of the house":
            raise OrderCycleError("a before b before a", ("a", "b", "a"))
        return threading.Lock()  # cannot be pickled

    try:
        ranks.from_first(make)
    except Exception as error:
        return type(error).__name__, str(error), ranks.any(ranks.rank.index == 1)  # they can still talk
    raise AssertionError("nothing was raised")


@WORLDS
@pytest.mark.parametrize(
    ("kind", "first", "others"),
    [
        ("plain", ("RunDefinitionError", "nothing to resume"), ("RunDefinitionError", "nothing to resume")),
        (
            "no second making",
            ("OfNoSecondMakingError", "this and that"),
            ("RuntimeError", "Rank 0 raised OfNoSecondMakingError: this and that"),
        ),
        (
            "of the house",
            ("OrderCycleError", "a before b before a"),
            ("OrderCycleError", "a before b before a"),
        ),
        (
            "no pickle",
            ("TypeError", "cannot pickle '_thread.lock' object"),
            ("TypeError", "cannot pickle '_thread.lock' object"),
        ),
    ],
)
def test_what_rank_0_raises_every_rank_raises(
    world: int, kind: str, first: tuple[str, str], others: tuple[str, str]
) -> None:
    assert on_ranks(world, what_make_raises, kind) == [(*first, True), *[(*others, True)] * (world - 1)]


def meetings() -> list[object]:
    first = joined()
    one = first.gather(first.rank.index)
    dist.destroy_process_group()
    between = dist.is_initialized()
    second = joined()
    two = second.gather(second.rank.index * 10)
    return [one, between, two, dist.is_initialized()]


def test_a_process_may_end_the_group_and_join_again() -> None:
    assert on_ranks(3, meetings) == [[[0, 1, 2], False, [0, 10, 20], True]] * 3


def guest() -> tuple[list[int], bool]:
    dist.init_process_group("gloo")
    own = dist.group.WORLD
    ranks = joined()
    return ranks.gather(ranks.rank.index), dist.group.WORLD is own


def test_a_group_of_the_users_own_is_used() -> None:
    assert on_ranks(2, guest) == [([0, 1], True)] * 2


def copied() -> list[object]:
    ranks = joined()
    tensors = [torch.full((2,), float(ranks.rank.index)), torch.tensor(5 * ranks.rank.index)]
    ranks.copy_from_first([*tensors, torch.empty(3, device="meta")])
    return [one.tolist() for one in tensors]


def test_every_rank_gets_the_tensors_of_the_first() -> None:
    assert on_ranks(3, copied) == [[[0.0, 0.0], 0]] * 3


def late(folder: Path) -> str:
    ranks = joined(timeout=4)  # joining takes its time too, where a machine is busy
    if ranks.rank.index == 1:
        wait_for(folder / "given up")
        return "late"
    try:
        ranks.any(True)
    except RuntimeError as error:
        return "Timed out" if "Timed out" in str(error) else str(error)
    finally:
        (folder / "given up").touch()
    return "not noticed"


def test_a_collective_that_lacks_a_rank_fails_after_the_timeout(tmp_path: Path) -> None:
    assert on_ranks(2, late, tmp_path) == ["Timed out", "late"]


@pytest.mark.slow
def test_ranks_that_the_launcher_restarts_meet_again() -> None:
    """The launcher's store outlives its processes, so what those wrote must not be taken for the living."""
    ended = torchrun("tests.distributed.dying", "after", max_restarts=1)
    assert (ended.returncode, ended.stdout.splitlines()) == (0, ["round 1: [0, 1]"] * 2), ended.stderr


LEAVING = """
import atexit, sys
from pathlib import Path
import torch
from torch import nn
from tests.distributed.test_group import joined

torch.set_num_threads(1)
names = lambda: [one.read_text().strip() for one in Path("/proc/self/task").glob("*/comm")]
atexit.register(lambda: print("pt_gloo_runloop" in names()))  # called after what is registered later
joined()
model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
model(torch.ones(2)).sum().backward()
del model
if len(sys.argv) > 1:
    raise LookupError
"""


@pytest.mark.parametrize(("arguments", "code", "there"), [((), 0, "False"), (("raise",), 1, "True")])
def test_a_group_that_was_made_here_ends_with_a_program_that_ends_well(
    arguments: tuple[str, ...], code: int, there: str
) -> None:
    one = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", LEAVING, *arguments],
        env={**os.environ, **one, "PYTHONPATH": str(HOUSE)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout.split()) == (code, [there]), ended.stderr
