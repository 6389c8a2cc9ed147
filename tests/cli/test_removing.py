"""`trainhooks runs rm`: manifests go first, `run.json` last, nothing else, and only if somebody is sure."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from tests.checkpoint.faults import Death, FaultyStore
from tests.cli.left import Left, document, files
from trainhooks.checkpoint import manifests_of
from trainhooks.cli import main
from trainhooks.cli.finding import the_run
from trainhooks.cli.removing import remove
from trainhooks.store import open_store

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_run_is_removed_and_the_others_stay(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    older, newer = left.older, left.newer
    others = {name: data for name, data in files(left.root).items() if older.name not in name}
    count = len(files(older))
    assert main(["runs", "rm", str(older), "--yes"]) == 0
    assert files(left.root) == others
    assert not older.exists()
    assert newer.exists()
    assert capsys.readouterr().out == f"Removed {count} objects of {older}.\n"


def test_what_is_not_of_the_run_stays_and_is_told(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    (left.older / "notes.txt").write_text("mine")
    older, gone = left.older, set(files(left.older)) - {"notes.txt"}
    assert main(["runs", "rm", str(older), "--yes", "--json"]) == 0
    told = document(capsys.readouterr().out)
    assert (told["url"], set(told["removed"]), told["left"]) == (str(older), gone, ["notes.txt"])
    assert files(older) == {"notes.txt": b"mine"}


def test_manifests_go_first_and_the_facts_last(left: Left) -> None:
    for name in ("artifacts/source/000001.json", "records/000001.jsonl"):
        (left.older / name).parent.mkdir(parents=True)
        (left.older / name).write_bytes(b"{}")
    found = the_run(str(left.older))
    gone = list(remove(found))
    kinds = [key.partition("/")[0] for key in gone]
    assert list(dict.fromkeys(kinds)) == ["manifests", "ckpt", "artifacts", "records", "attempts", "run.json"]
    assert sorted(gone) == sorted(found.objects)


def test_wherever_it_is_interrupted_no_checkpoint_is_broken_and_it_can_be_done_again(left: Left) -> None:
    """Also where the process dies between two objects."""
    store, older = open_store(str(left.older)), str(left.older)
    for left_over in range(len(store.list()) - 1, -1, -1):
        found = the_run(older)  # it is still found
        with pytest.raises(Death):
            remove(evolve(found, store=FaultyStore(store, "dies after", at_call=1)))
        there = {one.key for one in store.list()}
        assert len(there) == left_over
        for manifest in manifests_of(store):
            assert {file.key for file in manifest.files} <= there


def test_nobody_to_ask_is_a_refusal(left: Left) -> None:
    before = files(left.root)
    ended = subprocess.run(
        [sys.executable, "-m", "trainhooks", "runs", "rm", str(left.older)],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == f"trainhooks: {left.older} is removed only if you say so: in a terminal, or by --yes.\n"
    assert files(left.root) == before


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("yes", 0), ("n", 1), ("", 1), ("yep", 1)])
def test_in_a_terminal_the_user_is_asked(
    left: Left, answer: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    older, before = left.older, files(left.root)
    size = sum(len(data) for data in files(older).values())
    terminal, our_end = pty.openpty()
    os.write(terminal, f"{answer}\n".encode())
    with open(our_end, encoding="utf-8") as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        assert main(["runs", "rm", str(older), "--json"]) == code
    os.close(terminal)
    printed = capsys.readouterr()
    assert printed.err.startswith(f"Remove {older}, 4 checkpoints, {size / 1024:.1f} KiB? [y/N] ")
    if code:
        assert files(left.root) == before
        assert printed.out == ""
    else:
        assert not older.exists()
        assert document(printed.out)["left"] == []


@pytest.mark.parametrize("place", ["", "digits", "digits/cnn", "text/lm"])
def test_more_than_a_run_is_not_removed(left: Left, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(left.root)
    assert main(["runs", "rm", str(left.root / place), "--yes"]) == 2
    assert "is not a run's own folder" in capsys.readouterr().err
    assert files(left.root) == before
