"""`trainhooks runs verify`: every object of every checkpoint is read; what is damaged is named, and the code is 1."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from tests.checkpoint.faults import FaultyStore
from tests.cli.left import Left, document
from trainhooks.cli import main
from trainhooks.cli.finding import find_runs
from trainhooks.cli.folder import read_folder
from trainhooks.cli.verifying import verdicts_of
from trainhooks.errors import StorageError
from trainhooks.store import open_store


def test_whole_runs_are_good(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "verify", str(left.root)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "10 checkpoints read, all good."
    assert [line.split()[0] for line in lines] == ["good"] * 10
    size = sum(path.stat().st_size for path in left.data(left.older, 6).parent.iterdir())
    assert lines[3] == (
        f"good     manifests/0000000006-000001.json in {left.older}: 4 files, {size / 1024:.1f} KiB"  # superseded
    )


def altered(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (altered, "cannot be read: it was altered: its sha256 is not that of the manifest"),
        (truncated, "cannot be read: it has {} bytes, not {}"),
        (removed, "is missing"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "optimizers.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize("step", [1, 6])
def test_any_damaged_object_is_named(
    left: Left, damage: Callable[[Path], None], why: str, name: str, step: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = left.data(left.older, step, name)
    size = path.stat().st_size
    damage(path)
    assert main(["runs", "verify", str(left.older), "--json"]) == 1
    told = document(capsys.readouterr().out)
    assert told["damaged"] == 1
    (found,) = (one for one in told["verdicts"] if one["damage"] is not None)
    assert (found["step"], found["key"]) == (step, f"manifests/{step:010d}-000001.json")
    assert found["damage"] == f"{path.relative_to(left.older)} {why.format(size - 1, size)}"
    main(["runs", "verify", str(left.older)])
    text = capsys.readouterr().out
    assert f"damaged  {found['key']} in {left.older}: {found['damage']}\n" in text
    assert text.endswith("4 checkpoints read, 1 record damaged.\n")


def test_damaged_records_are_named_too(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    path = left.older / "manifests/0000000002-000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": 3}))
    (left.newer / "run.json").write_bytes(b"")
    (left.newer / "manifests/0000000008-000001.json").write_bytes(
        (left.newer / "manifests/0000000006-000001.json").read_bytes()
    )
    assert main(["runs", "verify", str(left.cnn), "--json"]) == 1
    damaged = [one for one in document(capsys.readouterr().out)["verdicts"] if one["damage"]]
    assert [(one["url"], one["key"], one["damage"]) for one in damaged] == [
        (
            str(left.older),
            "manifests/0000000002-000001.json",
            "it was altered: its digest is not that of its content",
        ),
        (str(left.newer), "manifests/0000000008-000001.json", "it was written under another name"),
        (str(left.newer), "run.json", "it is not JSON (Expecting value: line 1 column 1 (char 0))"),
    ]


def test_nothing_to_verify_is_not_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "verify", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"trainhooks: There is no run in {tmp_path}.\n")


def test_a_checkpoint_that_is_removed_while_it_is_read_is_not_damaged(left: Left) -> None:
    (found,) = find_runs(str(left.newer))
    store = open_store(str(left.newer))
    run = read_folder(found)
    verdicts = verdicts_of(run)
    assert next(verdicts).step == 1
    store.delete([run.manifests[2].key])
    store.delete([file.key for file in run.manifests[2].files])
    assert [(one.step, one.damage) for one in verdicts] == [(4, None), (6, None)]


def test_a_store_that_fails_says_nothing_of_the_checkpoints(left: Left) -> None:
    (found,) = find_runs(str(left.newer))
    run = read_folder(found)
    failing = FaultyStore(found.store, "fails before", at_call=1)
    with pytest.raises(StorageError, match="was refused"):
        list(verdicts_of(evolve(run, found=evolve(found, store=failing))))
