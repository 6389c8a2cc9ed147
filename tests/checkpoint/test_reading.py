"""Checkpoints are found and read whole or passed over, by us and by anybody who knows JSON and safetensors."""

import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import safetensors
import safetensors.torch
import torch
from attrs import define

from tests.checkpoint.faults import FaultyStore
from tests.checkpoint.runs import Run, state_of
from tests.checkpoint.trees import same
from trainhooks.checkpoint import Manifest, manifests_of, newest_whole, read, verify
from trainhooks.checkpoint.manifest import UnknownVersionError
from trainhooks.core import Keep
from trainhooks.errors import CheckpointError, StorageError
from trainhooks.store import ObjectInfo, Store, open_store

from .test_manifest import signed


def run_of_two() -> tuple[Store, Manifest]:
    """A folder with checkpoints of steps 1 and 2, and the newer one."""
    store = open_store("memory://")
    Run(store, policies=()).go(2)
    return store, manifests_of(store)[0]


def test_the_files_of_a_checkpoint_are_read_without_trainhooks(tmp_path: Path) -> None:
    """Keeps P15."""
    folder = tmp_path / "run"
    Run(open_store(str(folder))).go(1)
    (path,) = (folder / "manifests").iterdir()
    manifest = json.loads(path.read_text())
    files = {file["name"]: folder / file["key"] for file in manifest["files"]}
    model = safetensors.torch.load_file(files["model.safetensors"])
    assert same(model, state_of(1)["model"])
    assert list(safetensors.torch.load_file(files["optimizers.safetensors"])) == ["0.state.0.m"]
    opened: Any = safetensors.safe_open(files["model.safetensors"], framework="pt")
    with opened:
        assert opened.metadata() == {"format": "pt"}
    assert json.loads(files["state.json"].read_text()) == {
        "format": "trainhooks.state",
        "version": 1,
        "tree": {
            "model": {"w": {"$tensor": "model:w"}, "b": {"$tensor": "model:b"}},
            "optimizers": [
                {
                    "state": {"$dict": [[0, {"m": {"$tensor": "optimizers:0.state.0.m"}}]]},
                    "param_groups": [{"lr": 0.1, "params": [0]}],
                }
            ],
            "progress": {"updates": 1},
            "random": {"$tuple": [1, {"$float": "nan"}]},
        },
    }


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


OBJECTS = ("model.safetensors", "optimizers.safetensors", "state.json", "manifest")


@pytest.mark.parametrize("damage", ["missing", "truncated", "longer", "empty", "first", "header", "middle", "last"])
@pytest.mark.parametrize("name", OBJECTS)
def test_a_checkpoint_with_a_damaged_object_is_passed_over_by_name_for_the_one_before(name: str, damage: str) -> None:
    """Keeps P24."""
    store, manifest = run_of_two()
    file = manifest.file(name)
    key = manifest.key if file is None else file.key
    data = bytes(store.get(key))
    altered = {
        "truncated": data[:-1], "longer": data + b" ", "empty": b"", "first": flipped(data, 0),
        "header": flipped(data, 20), "middle": flipped(data, len(data) // 2), "last": flipped(data, len(data) - 1),
    }  # fmt: skip
    store.delete([key])
    if damage != "missing":
        store.put(key, altered[damage])
    if (name, damage) == ("manifest", "missing"):
        found = newest_whole(store)  # as if it had never been
    elif (name, damage) == ("manifest", "longer"):
        found = newest_whole(store)
        assert found is not None
        assert found[0] == manifest  # white space after JSON means nothing
        return
    else:
        with pytest.warns(RuntimeWarning, match=key) as warned:
            found = newest_whole(store)
        assert len(warned) == 1
    assert found is not None
    assert found[0].step == 1
    assert same(found[1], state_of(1))


@pytest.mark.parametrize("name", OBJECTS[:3])
def test_verify_names_the_object_that_is_damaged(name: str) -> None:
    store, manifest = run_of_two()
    verify(store, manifest)
    file = manifest.file(name)
    assert file is not None
    store.put(file.key, flipped(bytes(store.get(file.key)), file.size - 1))
    with pytest.raises(CheckpointError, match=f"{file.key} cannot be read: it was altered: its sha256 is not"):
        verify(store, manifest)
    store.put(file.key, bytes(store.get(file.key))[:-1])
    with pytest.raises(
        CheckpointError, match=f"{file.key} cannot be read: it has {file.size - 1} bytes, not {file.size}"
    ):
        verify(store, manifest)
    store.delete([file.key])
    with pytest.raises(CheckpointError, match=f"{file.key} is missing"):
        verify(store, manifest)


def test_a_manifest_under_the_name_of_another_is_passed_over() -> None:
    """Keeps P24."""
    store, manifest = run_of_two()
    store.put("manifests/0000000009-000001.json", manifest.to_json())
    with pytest.warns(RuntimeWarning, match=r"0000000009-000001.json .* it was written under another name"):
        found = newest_whole(store)
    assert found is not None
    assert found[0] == manifest


def test_if_none_is_whole_there_is_none() -> None:
    store, _ = run_of_two()
    store.delete([one.key for one in store.list("ckpt/")])
    with pytest.warns(RuntimeWarning) as warned:
        assert newest_whole(store) is None
    assert len(warned) == 2
    assert newest_whole(open_store("memory://")) is None


@define
class Haunted:
    """A store that lists an object which nobody can read."""

    inner: Store
    url: str = "memory://"

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        ghost = ObjectInfo(key="manifests/0000000007-000001.json", size=9, modified=0.0)
        return [*self.inner.list(prefix), *([ghost] if ghost.key.startswith(prefix) else [])]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_a_manifest_that_is_listed_and_not_there_is_passed_over() -> None:
    """Keeps P24."""
    store, manifest = run_of_two()
    with pytest.warns(RuntimeWarning, match=r"manifests/0000000007-000001.json in memory:// is passed over"):
        found = newest_whole(cast("Store", Haunted(store)))
    assert found is not None
    assert found[0] == manifest


def test_only_what_is_accepted_is_looked_at() -> None:
    store, manifest = run_of_two()
    store.delete([file.key for file in manifest.files])
    found = newest_whole(store, lambda one: one.step == 1)
    assert found is not None
    assert found[0].step == 1
    assert newest_whole(store, lambda one: one.step == 3) is None


def test_a_store_that_does_not_answer_says_nothing_about_the_checkpoints() -> None:
    """Keeps P24."""
    store, manifest = run_of_two()
    reached = 0
    while True:
        faulty = FaultyStore(store, "fails before", reached + 1)
        try:
            found = newest_whole(faulty)
        except StorageError:
            reached += 1
            continue
        break
    assert reached == len(faulty.calls) == 8  # two lists, one token, two manifests, three files
    assert found is not None
    assert found[0] == manifest


def test_who_reads_while_the_newest_is_replaced_gets_it_or_the_newer_one_and_no_warning() -> None:
    """Keeps P27."""
    steps: list[int] = []
    while True:
        inner = open_store("memory://")
        run = Run(inner, policies=(Keep(last=1),))
        run.go(1)
        reader = FaultyStore(inner, meanwhile={len(steps) + 1: partial(run.go, 1)})
        found = newest_whole(reader)
        assert found is not None
        assert same(found[1], state_of(found[0].step))
        if len(steps) == len(reader.calls):
            break
        steps.append(found[0].step)
    assert steps == [2] * 7  # two lists, a token and a manifest, and each of the three files: then all is read again


def test_a_part_is_read_without_the_files_of_the_others() -> None:
    store, manifest = run_of_two()
    counting = FaultyStore(store)
    assert same(read(counting, manifest, part="model"), state_of(2)["model"])
    assert [one.rpartition("/")[2] for one in counting.calls] == ["state.json", "model.safetensors"]
    assert same(read(store, manifest, part="random"), state_of(2)["random"])
    with pytest.raises(CheckpointError, match="has no 'scaler'"):
        read(store, manifest, part="scaler")


def test_what_a_later_version_wrote_is_refused_not_passed_over() -> None:
    store, manifest = run_of_two()
    data: dict[str, Any] = json.loads(manifest.to_json())
    store.put(manifest.key, signed(data | {"version": 2}))
    with pytest.raises(UnknownVersionError, match=f"{manifest.key} in {store.url} cannot be read: it is of version 2"):
        newest_whole(store)


def test_a_tensor_that_was_read_may_be_changed_and_owns_its_memory() -> None:
    store, manifest = run_of_two()
    state = cast("dict[str, Any]", read(store, manifest))
    weight: torch.Tensor = state["model"]["w"]
    assert weight.untyped_storage().nbytes() == 20
    weight.add_(1)
    assert torch.equal(weight, state_of(2)["model"]["w"] + 1)


def test_a_folder_that_was_moved_is_read_where_it_is_now(tmp_path: Path) -> None:
    """Keeps P14."""
    Run(open_store(str(tmp_path / "old"))).go(2)
    (tmp_path / "old").rename(tmp_path / "new")
    moved = open_store(str(tmp_path / "new"))
    Run(moved).go(1)
    assert manifests_of(moved)[0].step == 3
    assert not (tmp_path / "old").exists()
