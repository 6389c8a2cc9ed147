"""A manifest is canonical JSON that says so itself; what was altered, or is of another version, is refused."""

import hashlib
import json
import math
from typing import Any

import pytest
from attrs import evolve

from trainhooks.checkpoint.manifest import Manifest, StoredFile, UnknownVersionError, canonical
from trainhooks.errors import CheckpointError

FILE = StoredFile(name="state.json", key="ckpt/0000001200-000002-ab/state.json", size=7, sha256="ab" * 32)
MANIFEST = Manifest(
    step=1200, epoch=3, epochs=2, attempt=2, serial=1, nonce="ab", created="2026-11-23T03:41:00.000+00:00",
    metrics={"val/acc": 0.5, "val/loss": math.nan, "up": math.inf, "down": -math.inf}, tags=("end",), pinned=True,
    resumable=False, monitors=(("val/acc", "max"),), world_size=8, files=(FILE,), versions={"torch": "2"},
    extra={"later": [1]},
)  # fmt: skip


def data_of(manifest: Manifest) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(manifest.to_json())
    return data


def signed(data: dict[str, Any]) -> bytes:
    """The JSON of a manifest whose digest is right, whatever it says."""
    rest = {name: value for name, value in data.items() if name != "digest"}
    return canonical({**rest, "digest": hashlib.sha256(canonical(rest)).hexdigest()})


def test_a_manifest_comes_back_as_it_was() -> None:
    restored = Manifest.from_json(MANIFEST.to_json())
    assert math.isnan(restored.metrics["val/loss"])
    numbers = {name: value for name, value in MANIFEST.metrics.items() if not math.isnan(value)}
    assert evolve(restored, metrics=numbers | {"up": math.inf}) == evolve(MANIFEST, metrics=numbers)
    assert restored.to_json() == MANIFEST.to_json()


def test_it_is_canonical_json_without_nan_with_the_digest_of_the_rest() -> None:
    """Keeps P15."""
    data = data_of(MANIFEST)
    assert MANIFEST.to_json() == signed(data)
    assert data["metrics"] == {"val/acc": 0.5, "val/loss": None, "up": "Infinity", "down": "-Infinity"}
    assert (data["format"], data["version"], data["later"]) == ("trainhooks.checkpoint", 1, [1])
    assert data["files"] == [{"name": FILE.name, "key": FILE.key, "size": 7, "sha256": FILE.sha256}]
    assert b" " not in MANIFEST.to_json()


def test_its_key_sorts_by_step_and_names_attempt_and_serial() -> None:
    assert MANIFEST.key == "manifests/0000001200-000002-1.json"
    assert MANIFEST.prefix == "ckpt/0000001200-000002-ab/"
    assert evolve(MANIFEST, serial=0).key == "manifests/0000001200-000002.json"


def test_every_altered_byte_is_noticed() -> None:
    text = MANIFEST.to_json()
    for position in range(len(text)):
        altered = text[:position] + bytes([text[position] ^ 1]) + text[position + 1 :]
        with pytest.raises(CheckpointError):
            Manifest.from_json(altered)
    for length in range(len(text)):
        with pytest.raises(CheckpointError):
            Manifest.from_json(text[:length])


def test_keys_of_a_later_writer_are_kept() -> None:
    text = signed(data_of(MANIFEST) | {"new": {"a": None}})
    assert Manifest.from_json(text).extra == {"later": [1], "new": {"a": None}}
    assert Manifest.from_json(text).to_json() == text


def test_another_version_is_refused_as_such() -> None:
    with pytest.raises(UnknownVersionError, match=r"version 2 of trainhooks.checkpoint, .* reads version 1"):
        Manifest.from_json(signed(data_of(MANIFEST) | {"version": 2}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": "other"}, "does not say that it is a trainhooks.checkpoint"),
        ({"step": -1}, "-1 is no count"),
        ({"step": "1"}, "'1' is no count"),
        ({"files": [{"name": "x"}]}, "it is not a manifest"),
        ({"files": 3}, "it is not a manifest"),
        ({"files": [{"name": "x", "key": "../x", "size": 1, "sha256": "ab"}]}, "'../x' is no place"),
        ({"files": [{"name": "x", "key": "ckpt/../../x", "size": 1, "sha256": "ab"}]}, "no place"),
        ({"files": [{"name": "x", "key": "/ckpt/x", "size": 1, "sha256": "ab"}]}, "no place"),
        ({"files": [{"name": "x", "key": "ckpt/x", "size": -1, "sha256": "ab"}]}, "size or digest of 'ckpt/x'"),
        ({"files": [{"name": "x", "key": "ckpt/x", "size": 1, "sha256": "xy"}]}, "size or digest of 'ckpt/x'"),
        ({"metrics": {"a": []}}, "it is not a manifest"),
    ],
)
def test_what_is_whole_but_no_manifest_is_refused(changed: dict[str, Any], said: str) -> None:
    """Keeps P14: no file outside the run's folder is ever read or removed."""
    with pytest.raises(CheckpointError, match=said):
        Manifest.from_json(signed(data_of(MANIFEST) | changed))
    lacking = data_of(MANIFEST)
    del lacking["nonce"]
    with pytest.raises(CheckpointError, match="nonce"):
        Manifest.from_json(signed(lacking))


def test_an_extra_key_cannot_take_the_place_of_a_field() -> None:
    with pytest.raises(CheckpointError, match="'step' is a key of every manifest"):
        evolve(MANIFEST, extra={"step": 3}).to_json()
