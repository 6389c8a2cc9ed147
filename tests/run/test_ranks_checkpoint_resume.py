"""Runs of two processes that stop and go on are, on each of them, the run that did not stop."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from tests.ranks import on_ranks
from tests.run.ranked import Engine, Told, store_of, stored_by, told
from tests.run.several import me
from trainhooks import BatchEnd, HookSet, at_points, every, for_rank, stateful
from trainhooks.checkpoint import manifests_of, mark_preempted
from trainhooks.errors import CheckpointError, ResumeError
from trainhooks.hooks import checkpoint
from trainhooks.store.stores import ObjectStorage

UPDATES = 12


def stopped_and_gone_on(folder: Path, engine: Engine, stop: int) -> Told:
    first = told(folder, engine, stop, save=every(1, "updates"))
    second = told(folder, engine, UPDATES, "must", save=every(1, "updates"))
    return evolve(second, read=first.read + second.read)


def trained_at_once(folder: Path, engine: Engine) -> Told:
    return told(folder, engine, UPDATES, save=every(1, "updates"))


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_each_rank_goes_on_bit_for_bit_within_an_epoch_and_between_two(tmp_path: Path, engine: Engine) -> None:
    """Keeps P17, P18 and P20."""
    at_once = on_ranks(2, trained_at_once, tmp_path / "at once", engine, fresh=True)
    assert at_once[0].states != at_once[1].states  # each draws from a stream of its own
    for stop in (3, 7, 9):
        gone_on = on_ranks(2, stopped_and_gone_on, tmp_path / str(stop), engine, stop, fresh=True)
        for before, after in zip(at_once, gone_on, strict=True):
            assert evolve(after, steps=[], heard=[]) == evolve(before, steps=[], heard=[])


def counter() -> HookSet:
    def count(ctx: BatchEnd, seen: int) -> tuple[int, None]:
        return seen + 1, None

    return stateful("counter", int, on_batch_end=count)


def summing() -> HookSet:
    def add(ctx: BatchEnd, total: Tensor) -> tuple[Tensor, None]:
        return total + ctx.at.updates, None

    return stateful("sum", lambda: torch.zeros(2), on_batch_end=add)


def on_the_second_rank_alone(folder: Path) -> list[str]:
    more = (for_rank(1, counter()), for_rank(1, summing()))
    first = told(folder, "ddp", 4, save=every(1, "updates"), more=more)
    second = told(folder, "ddp", 6, "must", save=every(1, "updates"), more=more)
    return [first.states, second.states]


def test_a_set_that_one_rank_alone_calls_keeps_its_state_with_tensors_and_without(tmp_path: Path) -> None:
    first, second = on_ranks(2, on_the_second_rank_alone, tmp_path, fresh=True)
    assert ["counter" in states or "sum" in states for states in first] == [False, False]
    assert ["'counter': 4, 'sum': tensor([10., 10.])" in second[0], "'counter': 6" in second[1]] == [True, True]
    assert "'sum': tensor([21., 21.])" in second[1]


def kept_by_a_set_of_the_second_rank(folder: Path) -> list[int]:
    keeping = for_rank(1, checkpoint(when=None, keep_last=None, keep_best=("train/loss", "min")))
    return told(folder, "ddp", 7, save=at_points([99], "updates"), more=(keeping,)).steps


def test_what_a_set_of_another_rank_wants_saved_is_saved(tmp_path: Path) -> None:
    assert on_ranks(2, kept_by_a_set_of_the_second_rank, tmp_path, fresh=True) == [[7], [7]]
    [manifest] = manifests_of(store_of(tmp_path))
    assert manifest.monitors == (("train/loss", "min"),)
    assert not manifest.pinned  # the set's own policy says whether it stays


def saved_twice(folder: Path, engine: Engine) -> None:
    assert told(folder, engine, 4, save=at_points([2, 4], "updates")).steps == [2, 4]


def damaged_for_one(folder: Path, reader: int, engine: Engine, file: str) -> tuple[int, list[str]]:
    """Go on where one rank cannot read the newest checkpoint."""
    stream = ObjectStorage.stream

    def stream_or_not(self: ObjectStorage, key: str) -> Any:
        if me() == reader and "0000000004" in key and key.endswith(file):
            raise CheckpointError("its bytes are gone")
        return stream(self, key)

    pytest.MonkeyPatch().setattr(ObjectStorage, "stream", stream_or_not)
    begun: list[int] = []

    def ends(ctx: BatchEnd) -> None:
        begun.append(ctx.at.updates)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told(folder, engine, 5, "must", save=at_points([1, 3], "updates"), more=(HookSet(on_batch_end=ends),))
    return begun[0], [str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)]


@pytest.mark.parametrize(
    ("engine", "reader", "file"),
    [("ddp", 0, "model.safetensors"), ("ddp", 1, "state.json"), ("fsdp", 1, "model.1.safetensors")],
)
def test_what_one_rank_cannot_read_all_pass_over_for_the_same_older_one(
    tmp_path: Path, engine: Engine, reader: int, file: str
) -> None:
    """Keeps P24."""
    on_ranks(2, saved_twice, tmp_path, engine, fresh=True)
    (begun, said), (begun_too, said_too) = on_ranks(2, damaged_for_one, tmp_path, reader, engine, file, fresh=True)
    assert begun == begun_too == 3
    assert said_too == []
    assert any("is damaged and passed over" in one and f"rank {reader}: " in one for one in said)


def refused(folder: Path, resume: Any) -> str:
    with pytest.raises(ResumeError) as caught:
        told(folder, "ddp", 4, resume)
    return str(caught.value)


def test_what_rank_0_does_not_find_every_rank_refuses(tmp_path: Path) -> None:
    first, second = on_ranks(2, refused, tmp_path, "must", fresh=True)
    assert first == second
    assert first.startswith("resume='must', but there is no whole checkpoint in ")


def test_the_mark_of_a_preempted_run_is_gone_once_it_goes_on(tmp_path: Path) -> None:
    on_ranks(2, told, tmp_path, "ddp", 4, fresh=True)
    store = store_of(tmp_path)
    mark_preempted(store, {"signal": 15, "step": 4, "attempt": 1})
    assert json.loads(bytes(store.get("PREEMPTED"))) == {"signal": 15, "step": 4, "attempt": 1}
    on_ranks(2, told, tmp_path, "ddp", 5, "must", fresh=True)
    assert "PREEMPTED" not in stored_by(tmp_path)
    assert stored_by(tmp_path)["attempts"] == ["attempts/000001.json", "attempts/000002.json"]
