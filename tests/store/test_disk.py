"""A local folder: what is written survives a power cut, killed writers leave nothing behind, a full disk says so."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

import pytest
from attrs import evolve

from trainhooks.errors import ObjectExistsError, StorageError, StorageProblem
from trainhooks.store import Experiment, open_store, probe
from trainhooks.store.disk import Disk
from trainhooks.store.failures import Act, Where
from trainhooks.store.stores import ObjectStorage


def age(path: Path) -> None:
    """Make a file look as if nobody had written to it for two hours."""
    then = time.time() - 7200
    os.utime(path, (then, then))


def recorded(base: Path) -> tuple[ObjectStorage, list[str]]:
    """A store, and the paths that it syncs, those under the base relative to it. A file is read when it is synced."""
    calls: list[str] = []

    def sync(path: Path) -> None:
        shown = str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
        calls.append(f"{shown}: {path.read_text()}" if path.is_file() else shown)

    store = cast("ObjectStorage", open_store(base))
    return evolve(store, disk=Disk(base, sync)), calls


@pytest.mark.parametrize("create", [True, False])
def test_a_file_is_synced_before_its_folders(tmp_path: Path, create: bool) -> None:
    store, calls = recorded(tmp_path)
    store.put("warm", b"", create=create)
    calls.clear()
    store.at("run-1").put("manifests/1.json", b"whole", create=create)
    assert calls == ["run-1/manifests/1.json: whole", "run-1/manifests", "run-1", "."]


def test_the_folders_above_are_synced_at_the_first_write(tmp_path: Path) -> None:
    """Another process may have made them a moment ago, and not have synced them yet."""
    store, calls = recorded(tmp_path)
    store.put("a", b"1")
    assert calls == [*(str(folder) for folder in tmp_path.parents), "a: 1", "."]
    calls.clear()
    store.put("b", b"2")
    assert calls == ["b: 2", "."]


def test_a_folder_that_is_made_is_synced_in_the_one_above(tmp_path: Path) -> None:
    base = tmp_path / "runs" / "digits"
    store, calls = recorded(base)
    store.put("a", b"1")
    assert calls == [*(str(folder) for folder in base.parents), "a: 1", "."]


def test_what_is_removed_is_synced_before_the_call_returns(tmp_path: Path) -> None:
    """The manifest of a checkpoint is gone from the disk before its data goes."""
    store, calls = recorded(tmp_path)
    for key in ("manifests/1.json", "manifests/2.json", "ckpt/1/model"):
        store.put(key, b"")
    calls.clear()
    store.delete(["manifests/1.json"])
    assert calls == ["manifests"]
    calls.clear()
    store.delete(["ckpt/1/model"])
    assert calls == ["."]


def test_a_failed_sync_is_an_error_of_the_write(tmp_path: Path) -> None:
    def sync(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    store = evolve(cast("ObjectStorage", open_store(tmp_path)), disk=Disk(tmp_path, sync))
    with pytest.raises(StorageError, match=r"^a could not be written to .*Input/output error") as raised:
        store.put("a", b"")
    assert raised.value.kind == "failed"


def test_folders_that_become_empty_are_removed(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs").at("run-1")
    for key in ("ckpt/1/model", "ckpt/2/model", "run.json"):
        store.put(key, b"")
    store.delete(["ckpt/1/model"])
    assert sorted(os.listdir(tmp_path / "runs/run-1/ckpt")) == ["2"]
    store.delete(["ckpt/2/model", "run.json"])
    assert os.listdir(tmp_path / "runs") == []


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    store = open_store(Experiment(project="digits", name="cnn", root=tmp_path / "runs"))
    assert store.list() == []
    store.delete(["none"])
    with pytest.raises(StorageError):
        store.get("none")
    assert os.listdir(tmp_path) == []


def test_objects_are_files_under_their_keys(tmp_path: Path) -> None:
    store = open_store(Experiment(project="digits", name="cnn", root=tmp_path))
    store.at("run-1").put("manifests/1.json", b"{}", create=True)
    assert (tmp_path / "digits/cnn/run-1/manifests/1.json").read_bytes() == b"{}"
    assert store.url == str(tmp_path / "digits/cnn")


def test_unfinished_files_are_in_no_list_and_dead_ones_are_swept(tmp_path: Path) -> None:
    store = open_store(tmp_path).at("run-1")
    store.put("run.json", b"{}")
    dead, alive, other_run = (
        tmp_path / name for name in ("run-1/ckpt/1/model#1", "run-1/state.json#12", "run-2/model#1")
    )
    for path in (dead, alive, other_run):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    for path in (dead, other_run):
        age(path)
    assert [one.key for one in store.list()] == ["run.json"]
    probe(store)
    assert [path.exists() for path in (dead, alive, other_run)] == [False, True, True]
    assert not (tmp_path / "run-1/ckpt").exists()
    assert sorted(os.listdir(tmp_path / "run-1")) == ["run.json", "state.json#12"]


ENDLESS = """
import sys
from trainhooks.store import open_store
def pieces():
    while True:
        yield bytes(1 << 20)
open_store(sys.argv[1]).put("ckpt/1/model", pieces())
"""


def test_a_writer_that_is_killed_leaves_no_object(tmp_path: Path) -> None:
    folder = tmp_path / "ckpt/1"
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)]) as writer:
        while not (folder / "model#1").exists() and writer.poll() is None:
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    assert os.listdir(folder) == ["model#1"]
    store = open_store(tmp_path)
    assert store.list() == []
    store.put("ckpt/1/model", b"whole")
    assert [(one.key, one.size) for one in store.list()] == [("ckpt/1/model", 5)]
    age(folder / "model#1")
    probe(store)
    assert os.listdir(folder) == ["model"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False).returncode != 0:
        pytest.skip("this machine does not let root mount a tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("form", ["one buffer", "pieces"])
def test_a_full_disk_is_an_error_and_what_was_there_stays(
    small_disk: Path, form: Literal["one buffer", "pieces"]
) -> None:
    """Keeps P69."""
    store = open_store(small_disk / "runs")
    store.put("ckpt/1/model", b"whole")
    large = bytes(8 << 20)
    with pytest.raises(StorageError, match=r"^ckpt/2/model could not be written .* the disk or the quota is full"):
        store.put("ckpt/2/model", large if form == "one buffer" else (large[: 1 << 20] for _ in range(8)))
    assert bytes(store.get("ckpt/1/model")) == b"whole"
    assert [one.key for one in store.list()] == ["ckpt/1/model"]
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["model"]
    store.put("ckpt/2/model", bytes(1 << 20))


def test_a_read_only_disk_is_found_out_before_training(small_disk: Path) -> None:
    """Keeps P69."""
    store = open_store(small_disk / "runs")
    store.put("manifests/1.json", b"{}")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for place in (store, open_store(small_disk / "new")):
        with pytest.raises(StorageError, match=r"the file system is read-only\. Choose another folder") as raised:
            probe(place)
        assert raised.value.kind == "read-only"
    assert bytes(store.get("manifests/1.json")) == b"{}"


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match="could not be written to"):
        open_store(tmp_path / "runs").put("a", b"")
    with pytest.raises(StorageError, match="could not be written to"):
        open_store(tmp_path).put("runs/a", b"")
    assert (tmp_path / "runs").read_text() == "a file"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, "space"),
        (errno.EDQUOT, "space"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.EPERM, "permission"),
        (errno.ENOTDIR, "key"),
        (errno.EIO, "failed"),
    ],
)
def test_errors_of_the_system_are_told_apart(number: int, kind: StorageProblem) -> None:
    """Obstore has them in its text alone; syncing and making folders raise them as they are."""
    from obstore.exceptions import GenericError

    act: Act = "written to"
    text = f"Generic LocalFileSystem error: Unable to write: {os.strerror(number)} (os error {number})"
    for error in (OSError(number, os.strerror(number)), GenericError(text)):
        assert Where("local", "/runs").failure(error, act, "a", "/runs").kind == kind


def test_a_store_that_was_there_first_keeps_its_object(tmp_path: Path) -> None:
    open_store(tmp_path).put("attempts/1.json", b"first", create=True)
    with pytest.raises(ObjectExistsError):
        open_store(tmp_path).put("attempts/1.json", b"second", create=True)
    assert os.listdir(tmp_path / "attempts") == ["1.json"]
