"""`trainhooks runs sync`: a copy is equal or not visible, whenever it is interrupted, and nothing is overwritten."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

from tests.checkpoint.faults import Death, Fault, FaultyStore
from tests.cli.left import Left, document, files
from trainhooks.checkpoint import Writer, begin_attempt, manifests_of, newest_whole, verify, write_facts
from trainhooks.cli import main
from trainhooks.cli.copying import Copied, copy_run
from trainhooks.cli.finding import find_runs, the_run
from trainhooks.errors import StorageError
from trainhooks.store import Store, open_store


def contents(store: Store) -> dict[str, bytes]:
    return {one.key: bytes(store.get(one.key)) for one in store.list()}


def counts(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    told = document(capsys.readouterr().out)
    return {word: told[word] for word in ("copied", "there", "conflict", "damaged") if told[word]}


def sync(source: object, target: object, code: int = 0) -> None:
    assert main(["runs", "sync", str(source), str(target), "--json"]) == code


def test_runs_are_copied_to_any_store_and_back(
    left: Left, elsewhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync(left.root, elsewhere)
    assert counts(capsys) == {"copied": 3 + 4 + 10}
    assert contents(open_store(elsewhere)) == files(left.root)
    sync(left.root, elsewhere)
    assert counts(capsys) == {"there": 3 + 4 + 10}
    assert main(["runs", "verify", elsewhere]) == 0
    assert capsys.readouterr().out.endswith("10 checkpoints read, all good.\n")
    sync(elsewhere, tmp_path / "back")
    assert files(tmp_path / "back") == files(left.root)


def test_what_came_since_is_added_and_what_is_gone_stays(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = files(left.newer)
    later = left.newer / "manifests/0000000006-000001.json"
    kept = later.read_bytes()
    later.unlink()
    sync(left.newer, tmp_path / "copy")
    assert not any("0000000006" in name for name in files(tmp_path / "copy"))  # data alone is no checkpoint
    later.write_bytes(kept)
    store = open_store(str(left.newer))
    store.delete(["manifests/0000000001-000001.json"])
    capsys.readouterr()
    sync(left.newer, tmp_path / "copy")
    assert counts(capsys) == {"copied": 1, "there": 4}
    assert files(tmp_path / "copy") == whole


def test_what_hooks_left_beside_the_checkpoints_is_copied_before_them(left: Left, tmp_path: Path) -> None:
    mine = {
        "artifacts/source/000001-ab/train.py": b"import trainhooks",
        "artifacts/source/000001.json": b"{}",
        "records/000001.jsonl": b"",
    }
    for name, data in mine.items():
        (left.newer / name).parent.mkdir(parents=True, exist_ok=True)
        (left.newer / name).write_bytes(data)
    found, copy = the_run(str(left.newer)), open_store(str(tmp_path / "copy"))
    done = [one.key for one in copy_run(found, copy)]
    assert done[2:5] == list(mine)
    assert {key.partition("/")[0] for key in done[5:]} == {"manifests"}
    assert contents(copy) == files(left.newer)
    assert [one.outcome for one in copy_run(found, copy)] == ["there"] * len(done)
    copy.put("records/000001.jsonl", b"{}")
    changed = [one for one in copy_run(found, copy) if one.outcome != "there"]
    assert [(one.key, one.outcome) for one in changed] == [("records/000001.jsonl", "conflict")]
    assert bytes(copy.get("records/000001.jsonl")) == b"{}"


def test_other_files_of_the_folder_are_not_copied(left: Left, tmp_path: Path) -> None:
    whole = files(left.newer)
    (left.newer / "notes.txt").write_text("mine")
    sync(left.newer, tmp_path / "copy")
    assert files(tmp_path / "copy") == whole


@pytest.mark.parametrize("fault", ["dies before", "dies after", "fails before"])
def test_whenever_it_is_interrupted_what_is_visible_is_whole_and_it_can_be_gone_on_with(
    left: Left, tmp_path: Path, fault: Fault
) -> None:
    found, whole, call = the_run(str(left.older)), files(left.older), 0
    while True:
        call += 1
        copy = open_store(str(tmp_path / f"copy{call}"))
        faulty = FaultyStore(copy, fault, at_call=call)
        try:
            list(copy_run(found, faulty))
        except (Death, StorageError):
            pass
        else:
            break
        for manifest in manifests_of(copy):
            verify(copy, manifest)
        assert [one.outcome for one in copy_run(found, copy) if one.outcome not in ("copied", "there")] == []
        assert contents(copy) == whole
    assert call == 1 + len(whole) + 1  # the listing, each object once, and then no call is left to fail


def test_a_run_that_went_on_in_both_places_is_not_copied(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    sync(left.newer, copy)
    begin_attempt(open_store(str(copy)), resumed_from=2)
    begin_attempt(open_store(str(left.newer)), resumed_from=4)
    (left.newer / "run.json").rename(left.newer / "run.json.old")
    before = files(copy)
    capsys.readouterr()
    sync(left.newer, copy, code=1)
    told = document(capsys.readouterr().out)
    assert [(one["key"], one["outcome"], one["why"]) for one in told["records"]] == [
        ("attempts/000002.json", "conflict", "the other place has another object under this key")
    ]
    assert files(copy) == before


@pytest.mark.parametrize("kind", ["manifest", "data", "data of another size under its manifest"])
def test_another_object_under_a_key_is_a_conflict_and_stays(
    left: Left, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Left(Path(shutil.copytree(left.root, tmp_path / "copy")))
    manifest = copy.newer / "manifests/0000000004-000001.json"
    changed = manifest if kind == "manifest" else copy.data(copy.newer, 4)
    changed.write_bytes(changed.read_bytes() + b" " if kind != "data" else b"\xff" * changed.stat().st_size)
    if kind == "data":
        manifest.unlink()
    (copy.newer / "manifests/0000000006-000001.json").unlink()
    before = files(copy.root)
    sync(left.newer, copy.newer, code=1)
    told = document(capsys.readouterr().out)
    key = "manifests/0000000004-000001.json"
    why = "the other place has another object under this key"
    (conflict,) = (one for one in told["records"] if one["outcome"] == "conflict")
    data = "" if kind == "manifest" else f"{copy.data(copy.newer, 4).relative_to(copy.newer)}: "
    assert (conflict["key"], conflict["why"]) == (key, f"{data}{why}")
    assert told["copied"] == 1  # the checkpoint after it
    after = files(copy.root)
    assert {name: after[name] for name in before} == before


def test_data_that_was_lost_in_the_copy_is_copied_again(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Left(Path(shutil.copytree(left.root, tmp_path / "copy")))
    copy.data(copy.newer, 4).unlink()
    sync(left.root, copy.root)
    assert counts(capsys) == {"copied": 1, "there": 16}
    assert files(copy.root) == files(left.root)


def test_a_damaged_checkpoint_is_told_and_not_published(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = left.data(left.newer, 4)
    data.write_bytes(b"\xff" * data.stat().st_size)
    lost = left.data(left.newer, 2)
    lost.unlink()
    path = left.newer / "manifests/0000000001-000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": 3}))
    sync(left.newer, tmp_path / "copy", code=1)
    told = document(capsys.readouterr().out)
    assert {one["key"]: one["why"] for one in told["records"] if one["why"]} == {
        "manifests/0000000001-000001.json": "it was altered: its digest is not that of its content",
        "manifests/0000000002-000001.json": f"There is no {lost.relative_to(left.newer)} in {left.newer}.",
        "manifests/0000000004-000001.json": f"{data.relative_to(left.newer)} was altered: its sha256 is not that of "
        "the manifest",
    }
    assert (told["damaged"], told["copied"]) == (3, 3)
    found = newest_whole(open_store(str(tmp_path / "copy")))
    assert found is not None
    assert found[0].step == 6
    assert not any("0000000004" in name and "model" in name for name in files(tmp_path / "copy"))


def test_a_checkpoint_that_is_removed_while_it_is_copied_is_left_out(left: Left, tmp_path: Path) -> None:
    (found,) = find_runs(str(left.newer))
    (gone,) = (one for one in manifests_of(found.store) if one.step == 2)

    def retire() -> None:
        found.store.delete([gone.key])
        found.store.delete([file.key for file in gone.files])

    copy = open_store(str(tmp_path / "copy"))
    source = FaultyStore(found.store)
    done: list[Copied] = []
    for one in copy_run(evolve(found, store=source), copy):
        done.append(one)
        if one.key.endswith("0000000001-000001.json"):
            source.meanwhile[len(source.calls) + 2] = retire  # after its manifest was read
    assert [one.key[10:20] for one in done if one.key.startswith("manifests/")] == [
        "0000000001",
        "0000000004",
        "0000000006",
    ]
    assert [one.step for one in manifests_of(copy)] == [6, 4, 1]


def test_large_objects_are_copied_in_parts(tmp_path: Path) -> None:
    folder = open_store(str(tmp_path / "run"))
    write_facts(folder, {"project": "digits"})
    writer = Writer(folder, begin_attempt(folder, resumed_from=None))
    weight = torch.arange(9_000_000, dtype=torch.float32)  # 34 MiB: more than two chunks
    tree: dict[str, Any] = {"model": {"w": weight}, "optimizers": []}
    writer.save(tree, step=1, epoch=0, epochs=0, background=False)
    writer.close()
    sync(tmp_path / "run", tmp_path / "copy")
    assert files(tmp_path / "copy") == files(tmp_path / "run")
