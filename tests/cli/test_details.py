"""`trainhooks runs show`: facts, attempts, checkpoints and the values over the steps."""

import io
import sys
from typing import Any

import pytest

from tests.cli.left import Left, document
from trainhooks.cli import main


def shown(url: object, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["runs", "show", str(url), "--json"]) == 0
    return document(capsys.readouterr().out)


def test_attempts_say_from_where_they_went_on_and_what_had_changed(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = shown(left.older, capsys)["attempts"]
    assert (first["number"], first["resumed_from"], first["changes"]) == (1, None, [])
    assert (second["number"], second["resumed_from"]) == (2, 4)
    assert second["changes"] == [
        "max_updates: None -> 5",
        "hyperparams.lr: 0.1 -> 0.2",
        "checkpoint: when every(2, 'updates') -> every_seconds(1e+09)",
        "checkpoint: keep_best ('val/score', 'max') -> None",
    ]


def test_checkpoints_are_told_newest_first_and_superseded_ones_are_marked(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    told = shown(left.older, capsys)["checkpoints"]
    assert [(one["step"], one["superseded"]) for one in told] == [(6, True), (4, False), (2, False), (1, False)]
    assert all(one["whole"] and not one["pinned"] for one in told)
    files = list(left.data(left.older, 2).parent.iterdir())
    assert told[2]["size"] == sum(path.stat().st_size for path in files)
    assert told[2]["metrics"]["val/score"] == 0.5


def test_facts_are_those_of_the_run(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    facts = shown(left.older, capsys)["facts"]
    assert facts["config"]["hyperparams"] == {"lr": 0.1}
    assert (facts["project"], facts["name"]) == ("digits", "cnn")


def test_curves_are_of_what_counts_with_the_epochs_whose_checkpoints_are_gone(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(left.older, capsys)["curves"]["val/score"] == [[1, 0.1], [2, 0.5], [4, 0.2]]
    curves = shown(left.newer, capsys)["curves"]
    assert curves["val/score"] == [[1, 0.5], [2, 0.25], [4, None], [6, 0.75]]
    assert [step for step, _ in curves["train/loss"]] == [6]
    assert shown(left.cnn, capsys)["run"] == left.newer.name


def test_everything_stands_in_the_text(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    left.data(left.older, 4).unlink()
    assert main(["runs", "show", str(left.older)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"digits / cnn / {left.older.name}\n{left.older}\nstarted 20")
    parts = dict(part.split("\n", 1) for part in text.split("\n\n")[1:])
    assert list(parts) == ["Facts", "Attempts", "Checkpoints", "Values"]
    rows = {title: [" ".join(line.split()) for line in part.splitlines()[1:]] for title, part in parts.items()}
    assert "config.hyperparams.lr 0.1" in rows["Facts"]
    assert "config.objectives loss" in rows["Facts"]
    assert "config.seed -" in rows["Facts"]
    changes = "max_updates: None -> 5; hyperparams.lr: 0.1 -> 0.2; checkpoint: when "
    assert rows["Attempts"][1].startswith(f"2 step 4 {changes}")
    ends = [row.rsplit(" val/score ", 1)[-1] for row in rows["Checkpoints"]]
    assert ends == ["0.6 superseded", "0.2 not whole", "0.5 best val/score", "0.1"]
    assert rows["Values"][1] == "val/score ▁█▃ 0.1 0.2 0.1 0.5 1 to 4"


def test_what_is_nan_has_no_part_in_least_and_most(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    main(["runs", "show", str(left.newer)])
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("val/score"))
    assert row.split() == ["val/score", "▅▁x█", "0.5", "0.75", "0.25", "0.75", "1", "to", "6"]


def test_tags_are_shown(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    assert [one["tags"] for one in shown(left.other, capsys)["checkpoints"]] == [["end"], ["end"]]


def test_a_state_that_cannot_be_read_leaves_the_curves_of_the_checkpoints(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    path = left.data(left.newer, 6, "state.json")
    path.write_bytes(b" " * path.stat().st_size)
    curves = shown(left.newer, capsys)["curves"]
    assert curves["val/score"] == [[1, 0.5], [2, 0.25], [4, None], [6, 0.75]]


def test_where_blocks_cannot_be_written_letters_are(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    main(["runs", "show", str(left.older)])
    out.seek(0)
    (row,) = (line for line in out if line.startswith("val/score"))
    assert row.split()[1] == "_@-"
    assert row.isascii()
