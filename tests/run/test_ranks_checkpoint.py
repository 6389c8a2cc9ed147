"""Runs of two processes save as one: one manifest, bare names, no rank waits for a store, all hear of it at once."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.ranks import on_ranks
from tests.run.ranked import Engine, Told, before_each_put, network, store_of, stored_by, told
from tests.run.saved import experiment
from tests.run.several import me
from trainhooks import BatchEnd, HookSet, at_points, ddp, load_weights
from trainhooks.checkpoint import manifests_of

AT_2_AND_7 = at_points([2, 7], "updates")


def writes_noted(folder: Path, engine: Engine) -> tuple[Told, list[str]]:
    written: list[str] = []
    before_each_put(written.append)
    return told(folder, engine, 8, save=AT_2_AND_7), written


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_one_rank_writes_one_manifest_for_each_checkpoint(tmp_path: Path, engine: Engine) -> None:
    """Keeps P25."""
    (first, by_first), (second, by_second) = on_ranks(2, writes_noted, tmp_path, engine, fresh=True)
    manifests = manifests_of(store_of(tmp_path))
    assert first.steps == second.steps == [2, 7]
    assert [one.step for one in manifests] == [7, 2]
    keys = [one.key for one in reversed(manifests)]
    assert stored_by(tmp_path)["manifests"] == keys
    assert [key for key in by_first if key.startswith("manifests/")] == keys
    assert stored_by(tmp_path)["attempts"] == ["attempts/000001.json"]
    assert [key.rpartition("/")[2] for key in by_second] == (
        [] if engine == "ddp" else ["model.1.safetensors", "optimizers.1.safetensors", "state.1.safetensors"] * 2
    )
    assert [one.world_size for one in manifests] == [2, 2]
    assert stored_by(tmp_path)["run.json"] == ["run.json"]


def model_saved(folder: Path, engine: Engine) -> Told:
    return told(folder, engine, 7, save=at_points([7], "updates"))


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_files_hold_the_models_own_keys_and_values_and_need_no_trainhooks(tmp_path: Path, engine: Engine) -> None:
    """Keeps P15 and P16."""
    first, _ = on_ranks(2, model_saved, tmp_path, engine, fresh=True)
    run = Path(store_of(tmp_path).url.removeprefix("file://"))
    [manifest] = [json.loads(one.read_text()) for one in (run / "manifests").iterdir()]
    files = {one["name"]: run / one["key"] for one in manifest["files"]}
    found = load_file(files["model.safetensors"])
    if engine == "fsdp":
        shards = json.loads(files["shards.json"].read_text())["tensors"]
        found |= put_together({name: one for name, one in shards.items() if name.startswith("model:")}, files)
    assert {name: one.tolist() for name, one in found.items()} == first.model
    assert found.keys() == network().state_dict().keys()


load_file = cast("Callable[[Path], dict[str, Tensor]]", safetensors.torch.load_file)


def put_together(shards: Mapping[str, Mapping[str, Any]], files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Whole tensors, as somebody without this package would make them."""
    whole: dict[str, Tensor] = {}
    for full, one in shards.items():
        name = full.removeprefix("model:")
        whole[name] = torch.full(one["shape"], float("nan"))
        for part in one["slices"]:
            place = tuple(slice(begin, begin + size) for begin, size in zip(part["begin"], part["shape"], strict=True))
            whole[name][place] = load_file(files[part["file"]])[name]
    return whole


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_one_process_loads_the_weights_that_several_saved(tmp_path: Path, engine: Engine) -> None:
    first, _ = on_ranks(2, model_saved, tmp_path, engine, fresh=True)
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    manifest = load_weights(model, experiment(tmp_path))
    assert manifest.step == 7
    assert {name: one.tolist() for name, one in model.state_dict().items()} == first.model


def held_up(folder: Path, engine: Engine, stalled: int) -> tuple[Told, list[str]]:
    """A run whose first file on one rank is not written before that rank has made its tenth update.

    From then on rank 0 gives the store some time, so that it hears of the checkpoint before the run is over.
    """
    gone_on, too_long = threading.Event(), list[str]()

    def wait(key: str) -> None:
        if key.startswith("ckpt/") and me() == stalled and not gone_on.wait(200):
            too_long.append(key)

    def ends(ctx: BatchEnd) -> None:
        if ctx.at.updates >= 10:
            gone_on.set()
            until = time.monotonic() + 1.0
            while me() == 0 and not manifests_of(store_of(folder)) and time.monotonic() < until:
                time.sleep(0.01)

    before_each_put(wait)
    return told(folder, engine, 20, save=at_points([2], "updates"), more=(HookSet(on_batch_end=ends),)), too_long


@pytest.mark.parametrize(("engine", "stalled"), [("ddp", 0), ("fsdp", 0), ("fsdp", 1)])
def test_all_ranks_train_on_while_one_writes_and_hear_of_it_at_one_boundary(
    tmp_path: Path, engine: Engine, stalled: int
) -> None:
    """Keeps P30."""
    (first, waited), (second, waited_too) = on_ranks(2, held_up, tmp_path, engine, stalled, fresh=True)
    assert waited == waited_too == []
    assert first.heard == second.heard
    [(at, step)] = first.heard
    assert step == 2
    assert at >= 10


def ended_slowly(folder: Path) -> Told:
    """A run whose last checkpoint takes longer than its ranks wait for one another."""

    def wait(key: str) -> None:
        if key.startswith("ckpt/") and key.endswith("state.json"):
            threading.Event().wait(8)

    before_each_put(wait)
    return told(folder, "ddp", 5, save=at_points([5], "updates"), parallel=ddp(timeout=6))


def test_the_end_waits_for_a_store_longer_than_ranks_wait_for_one_another(tmp_path: Path) -> None:
    first, second = on_ranks(2, ended_slowly, tmp_path, fresh=True)
    assert first.steps == second.steps == [5]
    assert first.heard == second.heard == [(5, 5)]


def test_a_checkpoint_that_training_waits_for_is_there_at_the_next_batch(tmp_path: Path) -> None:
    first, second = on_ranks(2, foreground, tmp_path, "fsdp", fresh=True)
    assert first == second == [(3, [2]), (4, [2])]


def foreground(folder: Path, engine: Engine) -> list[tuple[int, list[int]]]:
    seen: list[tuple[int, list[int]]] = []

    def ends(ctx: BatchEnd) -> None:
        if ctx.at.updates in (3, 4):
            seen.append((ctx.at.updates, [one.step for one in manifests_of(store_of(folder))]))

    told(folder, engine, 5, save=at_points([2], "updates"), background=False, more=(HookSet(on_batch_end=ends),))
    return seen
