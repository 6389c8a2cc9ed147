"""Where one of several processes cannot write its part, or dies at it: all learn of it, and older ones are whole."""

import os
import signal
import warnings
from pathlib import Path

import pytest

from tests.ranks import on_ranks
from tests.run.ranked import Engine, before_each_put, store_of, stored_by, told
from tests.run.several import me
from trainhooks import BatchEnd, HookSet, at_points
from trainhooks.checkpoint import manifests_of, newest_whole, verify
from trainhooks.cli.entry import main
from trainhooks.errors import CheckpointError, StorageError

PLACES = [("ddp", 0, "model.safetensors"), ("fsdp", 0, "state.json"), ("fsdp", 1, "model.1.safetensors")]


def fail_on(rank: int, file: str, step: int) -> None:
    """Let a rank fail to write a file of the checkpoint of one update."""

    def fail(key: str) -> None:
        if me() == rank and key.startswith(f"ckpt/{step:010d}") and key.endswith(f"/{file}"):
            raise StorageError("The disk is full.")

    before_each_put(fail)


def failing(folder: Path, engine: Engine, rank: int, file: str, last: int) -> tuple[str, int]:
    """A run whose second checkpoint fails: what is raised, and after how many updates."""
    fail_on(rank, file, step=7)
    made: list[int] = []

    def ends(ctx: BatchEnd) -> None:
        made.append(ctx.at.updates)

    with pytest.raises(CheckpointError) as caught:
        told(folder, engine, last, save=at_points([2, 7], "updates"), more=(HookSet(on_batch_end=ends),))
    return str(caught.value), made[-1]


@pytest.mark.parametrize(("engine", "rank", "file"), PLACES)
@pytest.mark.parametrize("last", [7, 16])
def test_a_save_that_fails_on_one_rank_is_an_error_on_all_at_one_boundary(
    tmp_path: Path, engine: Engine, rank: int, file: str, last: int
) -> None:
    """Keeps P26 and P29."""
    (first, at), (second, at_too) = on_ranks(2, failing, tmp_path, engine, rank, file, last, fresh=True)
    assert at == at_too
    for said in (first, second):
        assert "The checkpoint of step 7 was not saved: ckpt/0000000007" in said
        assert said.endswith("The disk is full.")
    assert (f"Rank {rank}: " in first) == (engine == "fsdp")
    store = store_of(tmp_path)
    [manifest] = manifests_of(store)
    assert manifest.step == 2
    verify(store, manifest)


def going_on(folder: Path, engine: Engine, rank: int, file: str) -> tuple[list[int], list[str]]:
    fail_on(rank, file, step=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        steps = told(folder, engine, 9, save=at_points([2, 7], "updates"), on_failure="warn").steps
    said = [str(one.message) for one in caught if "was not saved" in str(one.message)]
    return steps, said


@pytest.mark.parametrize(("engine", "rank", "file"), PLACES)
def test_a_run_that_only_warns_of_a_failed_save_saves_the_next_one_and_clears_away(
    tmp_path: Path, engine: Engine, rank: int, file: str
) -> None:
    (steps, said), (steps_too, said_too) = on_ranks(2, going_on, tmp_path, engine, rank, file, fresh=True)
    assert steps == steps_too == [7]
    assert len(said) == 1
    assert said_too == []
    assert {key.split("/")[1][:10] for key in stored_by(tmp_path)["ckpt"]} == {"0000000007"}


def without_its_last(folder: Path, engine: Engine, rank: int, file: str) -> str:
    fail_on(rank, file, step=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(CheckpointError) as caught:
            told(folder, engine, 7, save=at_points([2, 7], "updates"), on_failure="warn")
    return str(caught.value)


@pytest.mark.parametrize(("engine", "rank", "file"), PLACES)
def test_no_rank_completes_a_run_whose_last_checkpoint_is_not_there(
    tmp_path: Path, engine: Engine, rank: int, file: str
) -> None:
    """Keeps P29."""
    first, second = on_ranks(2, without_its_last, tmp_path, engine, rank, file, fresh=True)
    assert first == second
    assert first.endswith("The disk is full.")


def dying(folder: Path, engine: Engine, rank: int, file: str) -> None:
    def die(key: str) -> None:
        if me() == rank and key.startswith("ckpt/0000000007") and key.endswith(f"/{file}"):
            os.kill(os.getpid(), signal.SIGKILL)

    told(folder, engine, 3, save=at_points([3], "updates"))
    before_each_put(die)
    told(folder, engine, 16, "must", save=at_points([7], "updates"))


@pytest.mark.parametrize(("engine", "rank", "file"), [*PLACES, ("fsdp", 1, "state.1.safetensors")])
def test_a_rank_that_is_killed_while_it_writes_leaves_the_older_checkpoint_whole(
    tmp_path: Path, engine: Engine, rank: int, file: str
) -> None:
    """Keeps P23."""
    with pytest.raises(AssertionError):
        on_ranks(2, dying, tmp_path, engine, rank, file, fresh=True)
    found = newest_whole(store_of(tmp_path))
    assert found is not None
    assert found[0].step == 3
    told_after = on_ranks(2, told, tmp_path, engine, 4, "must", fresh=True)
    assert [one.updates for one in told_after] == [4, 4]
    assert {key.split("/")[1][:10] for key in stored_by(tmp_path)["ckpt"]} == {"0000000003"}


def saved_twice(folder: Path) -> None:
    told(folder, "fsdp", 7, save=at_points([2, 7], "updates"))


@pytest.mark.parametrize("file", ["model.1.safetensors", "shards.json"])
def test_a_part_that_is_damaged_is_found_and_passed_over(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keeps P24."""
    on_ranks(2, saved_twice, tmp_path, fresh=True)
    store = store_of(tmp_path)
    assert main(["runs", "verify", str(tmp_path)]) == 0
    stored = manifests_of(store)[0].file(file)
    assert stored is not None
    data = bytearray(store.get(stored.key))
    data[-3] ^= 1
    store.put(stored.key, bytes(data))
    with pytest.warns(RuntimeWarning, match=f"damaged and passed over: {stored.key} cannot be read"):
        found = newest_whole(store)
    assert found is not None
    assert found[0].step == 2
    assert main(["runs", "verify", str(tmp_path)]) == 1
    assert f"{stored.key} cannot be read" in capsys.readouterr().out
