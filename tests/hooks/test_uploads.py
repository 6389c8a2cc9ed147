"""Files of the machine are in the run's folder, as they were at its points and at its end."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.kept import (
    Watched,
    artifacts,
    before_each_batch,
    experiment,
    fail_at,
    recording,
    run,
    run_of,
)
from trainhooks import BatchBegin, CloudDestination, PartialDestination, at_points, every, quarantine
from trainhooks.errors import HookDefinitionError, NoExperimentError, StorageError
from trainhooks.hooks import checkpoint, csv, upload
from trainhooks.store import open_store


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    opens = Watched()
    monkeypatch.setattr("trainhooks.hooks.uploads.open_store", opens)
    return opens


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "training.log"
    path.write_text("begun\n")
    return path


def appending(path: Path) -> Any:
    def append(updates: int) -> None:
        with path.open("a") as opened:
            opened.write(f"update {updates}\n")

    return before_each_batch(append)


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_log_is_in_the_run_as_it_is_in_the_end(kind: str, tmp_path: Path, log: Path) -> None:
    root = tmp_path / "runs" if kind == "folder" else f"memory://{tmp_path.name}-log"
    run(root, upload(log), appending(log))
    assert artifacts(root) == {"training.log": b"begun\nupdate 0\nupdate 1\nupdate 2\nupdate 3\n"}
    assert log.read_bytes() == artifacts(root)["training.log"]


def test_a_file_is_sent_at_each_point_and_at_the_end_if_it_changed(tmp_path: Path, log: Path, watched: Watched) -> None:
    seen: list[bytes] = []

    def look(updates: int) -> None:
        if updates in (2, 3):
            seen.append(artifacts(tmp_path / "runs")["training.log"])

    run(tmp_path / "runs", before_each_batch(look), appending(log), upload(log), updates=5)
    assert watched.puts == ["training.log"] * 3
    assert seen == [b"begun\nupdate 0\nupdate 1\n"] * 2


def test_points_may_be_of_any_unit(tmp_path: Path, log: Path, watched: Watched) -> None:
    when = at_points([1, 3], "updates") | every(1, "epochs")
    run(tmp_path / "runs", appending(log), upload(log, when=when), updates=5)
    assert watched.puts == ["training.log"] * 5  # after 1, 2 (an epoch), 3, 4 (an epoch), and at the end


def test_a_file_that_did_not_change_is_not_sent_again(tmp_path: Path, log: Path, watched: Watched) -> None:
    def touch(updates: int) -> None:
        os.utime(log, (1_000_000 + updates, 1_000_000 + updates))

    run(tmp_path / "runs", before_each_batch(touch), upload(log, when=every(1, "updates")))
    assert watched.puts == ["training.log"]


def test_a_file_that_changed_and_kept_its_size_is_sent_again(tmp_path: Path, log: Path, watched: Watched) -> None:
    def change(updates: int) -> None:
        log.write_text(f"at {updates}\n")
        os.utime(log, (1_000_000 + updates, 1_000_000 + updates))

    run(tmp_path / "runs", before_each_batch(change), upload(log, when=every(1, "updates")))
    assert watched.puts == ["training.log"] * 4
    assert artifacts(tmp_path / "runs") == {"training.log": b"at 3\n"}


def test_a_change_that_its_time_does_not_show_is_sent_at_the_end(tmp_path: Path, log: Path, watched: Watched) -> None:
    def change(updates: int) -> None:
        log.write_text(f"at {updates}\n")
        os.utime(log, (1_000_000, 1_000_000))

    run(tmp_path / "runs", before_each_batch(change), upload(log, when=every(1, "updates")))
    assert watched.puts == ["training.log"] * 2
    assert artifacts(tmp_path / "runs") == {"training.log": b"at 3\n"}


def test_a_large_file_that_only_grows_is_sent_when_it_has_grown_by_an_eighth_and_at_the_end(
    tmp_path: Path, log: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainhooks.hooks.uploads.LARGE", 50)
    sizes: list[int] = []

    def grow(updates: int) -> None:
        log.write_bytes(b"x" * (100 + 10 * updates))
        sizes.append(len(watched.puts))

    run(tmp_path / "runs", before_each_batch(grow), upload(log, when=every(1, "updates")), updates=5)
    assert sizes == [0, 1, 1, 2, 2]  # at 100 and 120; 110 and 130 wait, 140 is the third
    assert watched.puts == ["training.log"] * 3
    assert artifacts(tmp_path / "runs") == {"training.log": b"x" * 140}


def test_a_large_file_that_shrank_is_sent(
    tmp_path: Path, log: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainhooks.hooks.uploads.LARGE", 50)

    def shrink(updates: int) -> None:
        log.write_bytes(b"x" * (100 - updates))

    run(tmp_path / "runs", before_each_batch(shrink), upload(log, when=every(1, "updates")))
    assert watched.puts == ["training.log"] * 4


def test_a_file_that_is_not_there_yet_is_left_out_with_one_warning(tmp_path: Path) -> None:
    late = tmp_path / "late.txt"

    def write(updates: int) -> None:
        if updates == 2:
            late.write_text("here")

    hook = upload([late, tmp_path / "plots" / "*.png"], when=every(1, "updates"))
    with pytest.warns(RuntimeWarning, match="upload found nothing at") as caught:
        run(tmp_path / "runs", before_each_batch(write), hook)
    assert [str(one.message) for one in caught] == [
        f"upload found nothing at {tmp_path}/plots/*.png, {tmp_path}/late.txt; it is left out."
    ]
    assert artifacts(tmp_path / "runs") == {"late.txt": b"here"}


def test_a_pattern_finds_files_by_their_path_from_its_last_fixed_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.log", "deep/b.log", "deep/er/c.log", "deep/d.txt", "with space.log"):
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "runs", upload("logs/**/*.log"))
    found = artifacts(tmp_path / "runs")
    assert {key: found[key] for key in ("a.log", "deep/b.log", "deep/er/c.log")} == {
        "a.log": b"a.log", "deep/b.log": b"deep/b.log", "deep/er/c.log": b"deep/er/c.log",
    }  # fmt: skip
    assert sorted(found.values()) == [b"a.log", b"deep/b.log", b"deep/er/c.log", b"with space.log"]


def test_what_is_in_the_own_folder_of_the_run_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "runs", upload("**", when=every(1, "updates")), checkpoint())
    assert artifacts(tmp_path / "runs") == {"a.txt": b"a"}


def test_a_run_that_fails_leaves_its_log(tmp_path: Path, log: Path) -> None:
    with pytest.raises(ValueError, match="broken"):
        run(tmp_path / "runs", appending(log), upload(log), fail_at(1))
    assert artifacts(tmp_path / "runs") == {"training.log": b"begun\nupdate 0\n"}


def test_a_run_that_goes_on_sends_only_what_is_not_there_as_it_is(tmp_path: Path, log: Path, watched: Watched) -> None:
    other = tmp_path / "other.log"
    other.write_text("other")
    hooks = (upload([log, other]), checkpoint())
    run(tmp_path / "runs", *hooks, updates=2)
    assert watched.puts == ["training.log", "other.log"]
    run(tmp_path / "runs", *hooks, updates=4, resume="must")
    assert watched.puts == ["training.log", "other.log"]
    run_of(tmp_path / "runs").delete(["artifacts/other.log"])
    run(tmp_path / "runs", *hooks, updates=6, resume="must")
    assert watched.puts == ["training.log", "other.log", "other.log"]


def test_a_table_goes_on_in_the_run_as_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    hooks = (recording("x", 0.5), csv(path), upload(path), checkpoint())
    run(tmp_path / "runs", *hooks, updates=3)
    run(tmp_path / "runs", *hooks, updates=6, resume="must")
    assert artifacts(tmp_path / "runs") == {"metrics.csv": path.read_bytes()}


def test_files_go_to_a_destination_of_the_hooks_own(tmp_path: Path, log: Path) -> None:
    own = PartialDestination(name="elsewhere", root=tmp_path / "mirror")
    run(tmp_path / "runs", upload(log, destination=own))
    (found,) = (tmp_path / "mirror" / "tests" / "elsewhere").glob("*/artifacts/training.log")
    assert found.read_text() == "begun\n"
    assert artifacts(tmp_path / "runs") == {}


def test_a_complete_destination_needs_no_experiment(tmp_path: Path, log: Path) -> None:
    own = PartialDestination(project="p", name="n", root=tmp_path, cloud=CloudDestination(mode=None))
    run(None, upload(log, destination=own))
    assert [one.key.partition("/")[2] for one in open_store(tmp_path / "p" / "n").list()] == ["artifacts/training.log"]


def test_a_destination_that_cannot_be_completed_is_refused_before_the_first_batch(log: Path) -> None:
    seen: list[BatchBegin] = []
    with pytest.raises(NoExperimentError, match="project, name, root, cloud") as caught:
        run(None, upload(log), {"on_batch_begin": seen.append})
    assert seen == []
    assert not any("While the run ended" in note for note in caught.value.__notes__)


def test_a_destination_that_cannot_be_written_is_refused_before_the_first_batch(tmp_path: Path, log: Path) -> None:
    seen: list[BatchBegin] = []
    own = PartialDestination(root=log / "below a file")
    with pytest.raises(StorageError, match="could not be written to"):
        run(tmp_path / "runs", upload(log, destination=own), {"on_batch_begin": seen.append})
    assert seen == []


def test_a_failure_to_send_ends_the_run(tmp_path: Path, log: Path, watched: Watched) -> None:
    watched.fault, watched.at_call = "fails before", 1
    with pytest.raises(StorageError, match=r"put artifacts/training\.log was refused"):
        run(tmp_path / "runs", upload(log))


def test_a_failure_to_send_is_a_warning_under_quarantine(tmp_path: Path, log: Path, watched: Watched) -> None:
    watched.fault, watched.at_call = "fails before", 1
    with pytest.warns(RuntimeWarning, match="'upload' raised and was switched off"):
        result = run(tmp_path / "runs", *quarantine(upload(log)))
    assert result.at.updates == 4
    assert artifacts(tmp_path / "runs") == {"training.log": b"begun\n"}, "it still hears the end"


@pytest.mark.parametrize("paths", [["a/x.log", "b/x.log"], ["c/*.log", "x.log"]])
def test_two_files_of_one_name_are_refused_before_the_first_batch(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.log").write_text("c")
    monkeypatch.chdir(tmp_path)
    seen: list[BatchBegin] = []
    with pytest.raises(HookDefinitionError, match=r"one name, 'artifacts/x\.log'"):
        run(tmp_path / "runs", upload(paths), {"on_batch_begin": seen.append})
    assert seen == []


def test_one_file_found_twice_is_sent_once(tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.log").write_text("x")
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "runs", upload(["x.log", "*.log", tmp_path / "x.log"]))
    assert watched.puts == ["x.log"]


def test_a_folder_is_refused_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(HookDefinitionError, match=r"is a folder; write '.*/\*\*'"):
        run(tmp_path / "runs", upload(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"paths": []}, "one or several, got none"),
        ({"paths": 3}, "a str or a Path each, got 3"),
        ({"paths": ["a", ""]}, "a str or a Path each, got ''"),
        ({"paths": "a", "when": 5}, r"when as a trigger, such as every\(1, 'epochs'\), got 5"),
        ({"paths": "a", "destination": experiment("runs")}, r"as a PartialDestination\(...\), got Experiment"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(arguments: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        upload(**arguments)


def test_a_file_that_was_removed_since_is_kept_as_it_was(tmp_path: Path, log: Path) -> None:
    def remove(updates: int) -> None:
        if updates == 3:
            log.unlink()

    with pytest.warns(RuntimeWarning, match=f"upload found nothing at {log}"):
        run(tmp_path / "runs", before_each_batch(remove), upload(log))
    assert artifacts(tmp_path / "runs") == {"training.log": b"begun\n"}
