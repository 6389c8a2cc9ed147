"""Which store a destination, a path or a URL stands for, and the keys in a run's folder."""

import os
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainhooks.errors import StorageModeError
from trainhooks.store import (
    CloudDestination,
    Destination,
    Experiment,
    data_prefix,
    manifest_key,
    new_run_id,
    open_store,
    parse_manifest_key,
    slug,
)

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(autouse=True)
def azure_account(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3a://bucket/", "s3://bucket"),
        ("S3://bucket/some/prefix/", "s3://bucket/some/prefix"),
        ("gs://bucket/prefix", "gs://bucket/prefix"),
        ("az://container/prefix", "az://container/prefix"),
        ("azure://container", "az://container"),
        ("file:///some%20where/runs", "/some where/runs"),
        ("/some/where", "/some/where"),
        ("memory://", "memory://"),
        ("memory://name/prefix", "memory://name/prefix"),
    ],
)
def test_a_url_names_a_store(given: str, shown: str) -> None:
    assert open_store(given).url == shown


def test_a_path_is_of_the_folder_in_which_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    store = open_store("runs")
    assert store.url == str(tmp_path / "runs")
    assert open_store("~/runs").url == "/home/somebody/runs"
    monkeypatch.chdir("/")
    store.put("a", b"")
    assert (tmp_path / "runs/a").exists()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("ftp://host/runs", "ftp://host/runs"),
        ("s3://", "s3://"),
        ("s3:///prefix", "s3:///prefix"),
        ("s3://id:secret@bucket/prefix", "bucket/prefix"),
        ("az://container?sig=secret", "az://container"),
    ],
)
def test_a_url_of_no_store_is_refused_without_its_secrets(given: str, shown: str) -> None:
    with pytest.raises(
        StorageModeError, match=rf"^'{re.escape(shown)}' is no place for results\. Write a path, 's3:"
    ) as raised:
        open_store(given)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("cloud", "root", "shown"),
    [
        (None, "/runs", "/runs/digits/cnn"),
        (CloudDestination(mode="local"), "/runs", "/runs/digits/cnn"),
        (CloudDestination(mode="AWS", bucket="bucket"), "/runs", "s3://bucket/digits/cnn"),
        (CloudDestination(mode="s3", bucket="bucket", prefix="a/b/"), "/runs", "s3://bucket/a/b/digits/cnn"),
        (CloudDestination(mode="gcs", bucket="bucket", prefix="a"), "/runs", "gs://bucket/a/digits/cnn"),
        (CloudDestination(mode="azure", bucket="container"), "/runs", "az://container/digits/cnn"),
        (None, "s3://bucket/a", "s3://bucket/a/digits/cnn"),
    ],
)
def test_an_experiment_has_a_folder(cloud: CloudDestination | None, root: str, shown: str) -> None:
    experiment = Experiment(project="digits", name="cnn", root=root, cloud=cloud)
    assert open_store(experiment).url == open_store(Destination("digits", "cnn", root, cloud)).url == shown


def test_names_of_experiments_become_parts_of_keys(tmp_path: Path) -> None:
    open_store(Experiment(project="../other", name="a/b", root=tmp_path)).put("run.json", b"")
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.relative_to(tmp_path).parts == (slug("../other"), slug("a/b"), "run.json")


def test_memory_is_empty_each_time_but_for_one_that_has_a_name() -> None:
    open_store("memory://").put("a", b"")
    assert open_store("memory://").list() == []
    open_store("memory://of-this-test").put("a", b"")
    assert [one.key for one in open_store("memory://of-this-test").list()] == ["a"]


@given(st.text(), st.text())
def test_slugs_are_parts_of_keys_and_different_for_different_names(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._=-]{1,110}", slug(one))
    assert slug(one) not in (".", "..")
    assert (slug(one) == slug(other)) == (one == other)
    assert slug(slug(one)) == slug(one)


def test_a_good_name_is_its_own_slug() -> None:
    for name in ("cnn", "ResNet-50_v1.5=x", ".hidden", "x" * 100):
        assert slug(name) == name
    assert len(slug("x" * 101)) == 109


@given(st.integers(0, 10**12), st.integers(1, 10**8), st.integers(0, 100))
def test_a_manifest_is_found_again_by_its_key(step: int, attempt: int, serial: int) -> None:
    key = manifest_key(step, attempt, serial)
    assert parse_manifest_key(key) == (step, attempt, serial)


def test_keys_sort_by_step_and_then_by_attempt() -> None:
    numbers = [(0, 1), (1, 1), (1, 2), (9, 1), (10, 1), (1200, 1), (1200, 10), (10**9, 1)]
    assert sorted(manifest_key(*each) for each in reversed(numbers)) == [manifest_key(*each) for each in numbers]


@pytest.mark.parametrize(
    "key",
    [
        "manifests/1200-1.json",
        "manifests/0000001200-000001.json.tmp",
        "manifests/0000001200-000001-0.json",
        "manifests/00000001200-000001.json",
        "x/manifests/0000001200-000001.json",
        "ckpt/0000001200-000001-a1b2c3d4/model.safetensors",
        "manifests/0000001200-000001.json\n",
    ],
)
def test_other_keys_are_no_manifests(key: str) -> None:
    assert parse_manifest_key(key) is None


def test_data_of_a_checkpoint_is_in_a_folder_of_its_own() -> None:
    assert data_prefix(1200, 3, "a1b2c3d4") == "ckpt/0000001200-000003-a1b2c3d4/"


def test_ids_of_runs_sort_as_they_began_and_are_all_different() -> None:
    begin = datetime(2026, 11, 23, 3, 41, tzinfo=UTC)
    moments = [begin + timedelta(milliseconds=each) for each in (0, 1, 500, 999, 1000, 60_000)]
    ids = [new_run_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"20261123T034[12]\d\dZ-[0-9a-f]{8}", each) for each in ids)
    assert len({new_run_id(begin) for _ in range(50)}) > 45
    assert new_run_id(begin, b"\x00\xff") == "20261123T034100Z-000000ff"
    assert new_run_id(begin.astimezone(timezone(timedelta(hours=5))), b"\x00\xff") == "20261123T034100Z-000000ff"


def test_opening_writes_nothing(tmp_path: Path) -> None:
    open_store(Experiment(project="digits", name="cnn", root=tmp_path / "runs")).at("run-1")
    assert os.listdir(tmp_path) == []
