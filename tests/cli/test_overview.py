"""`trainhooks runs ls`: a row a run, and what a row says is what is there."""

import json
from pathlib import Path

import pytest

from tests.cli.left import Left, document
from trainhooks.cli import main


def test_a_row_says_what_the_run_left(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "ls", str(left.older), "--json"]) == 0
    began = left.older.name
    assert document(capsys.readouterr().out) == [
        {
            "url": str(left.older),
            "project": "digits",
            "name": "cnn",
            "run": began,
            "started": f"{began[:4]}-{began[4:6]}-{began[6:8]}T{began[9:11]}:{began[11:13]}:{began[13:15]}+00:00",
            "steps": 4,
            "newest_whole": {"step": 4, "manifest": "manifests/0000000004-000001.json"},
            "attempts": 2,
            "best": [
                {
                    "metric": "val/score",
                    "mode": "max",
                    "value": 0.5,
                    "step": 2,
                    "manifest": "manifests/0000000002-000001.json",
                }
            ],
            "unreadable": {},
        }
    ]


def test_the_table_has_a_line_for_each_run(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "ls", str(left.root)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "project"
    rows = [" ".join(line.split())[:-20] for line in lines]  # without when it began
    assert rows == [
        f"digits cnn {left.older.name} 4 4 2 val/score 0.5 at 2",
        f"digits cnn {left.newer.name} 6 6 1 val/score 0.25 at 2",
        f"text lm {left.other.name} 3 3 1 val/score 0 at 1",
    ]


def test_a_checkpoint_without_all_its_data_is_not_whole(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    left.data(left.newer, 6).unlink()
    left.data(left.newer, 4, "state.json").write_bytes(b"{}")
    main(["runs", "ls", str(left.newer), "--json"])
    (row,) = document(capsys.readouterr().out)
    assert (row["steps"], row["newest_whole"]["step"]) == (6, 2)


def test_what_cannot_be_read_is_told_and_the_rest_is_listed(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    (left.newer / "manifests/0000000006-000001.json").write_bytes(b"{")
    (left.newer / "run.json").write_bytes(b"[]")
    (left.newer / "attempts/000001.json").write_bytes(b'{"number": "1"}')
    assert main(["runs", "ls", str(left.root)]) == 0
    printed = capsys.readouterr()
    assert f"{left.newer.name}  4      4" in printed.out
    assert printed.err == f"3 records of {left.newer} cannot be read; see trainhooks runs verify.\n"
    main(["runs", "ls", str(left.newer), "--json"])
    (row,) = document(capsys.readouterr().out)
    assert row["unreadable"] == {
        "attempts/000001.json": "it does not say that it is a trainhooks.attempt",
        "manifests/0000000006-000001.json": "it is not JSON (Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1))",
        "run.json": "it is not a JSON object",
    }
    assert (row["project"], row["name"]) == ("digits", "cnn")  # after the folders


def test_a_manifest_of_a_later_version_does_not_hide_the_other_runs(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    path = left.newer / "attempts/000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    assert main(["runs", "ls", str(left.cnn), "--json"]) == 0
    older, newer = document(capsys.readouterr().out)
    assert older["unreadable"] == {}
    assert "it is of version 2 of trainhooks.attempt" in newer["unreadable"]["manifests/"]
    assert newer["steps"] == 6


def test_a_place_without_runs_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "ls", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"There is no run in {tmp_path}.\n")
    assert main(["runs", "ls", str(tmp_path), "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"
