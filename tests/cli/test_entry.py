"""The program itself, in a process of its own: what it prints where, and its exit codes."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path

import pytest

from tests.cli.left import Left, document
from trainhooks.cli import main
from trainhooks.cli.exits import UsageError, code_of
from trainhooks.errors import CheckpointError, OrderCycleError, StorageError, StorageModeError

ROOT = Path(__file__).resolve().parent.parent.parent


def program(*words: object, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-m", "trainhooks", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_script_of_the_package_is_this_program() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["trainhooks"].partition(":")
    assert getattr(import_module(module), function) is main


def test_the_program_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert capsys.readouterr().out == f"trainhooks {project['version']}\n"
    assert project["version"] == metadata("trainhooks")["Version"]


def test_the_package_shows_its_readme_and_every_extra_is_for_something() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (ROOT / project["readme"]).read_text(encoding="utf-8").startswith("# trainhooks")
    extras = project["optional-dependencies"]
    assert "testing" not in extras
    assert any(one.startswith("hypothesis") for one in extras["dev"])


def test_a_user_looks_verifies_copies_and_removes(left: Left, tmp_path: Path) -> None:
    listed = program("runs", "ls", "runs", folder=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.split()[2] for line in listed.stdout.splitlines()[1:]] == [
        left.older.name,
        left.newer.name,
        left.other.name,
    ]
    shown = program("runs", "show", "runs/digits/cnn", "--json", folder=tmp_path)
    assert (shown.returncode, document(shown.stdout)["url"]) == (0, str(left.newer))
    copied = program("runs", "sync", "runs", "copy", folder=tmp_path)
    assert (copied.returncode, copied.stdout.splitlines()[-1]) == (
        0,
        "17 records: 17 copied, 0 there, 0 conflict, 0 damaged.",
    )
    removed = program("runs", "rm", f"runs/text/lm/{left.other.name}", "--yes", folder=tmp_path)
    assert (removed.returncode, (left.root / "text").exists()) == (0, True)
    left.data(left.newer, 4).write_bytes(b"")
    bad = program("runs", "verify", "runs", folder=tmp_path)
    assert (bad.returncode, bad.stderr) == (1, "")
    assert "ckpt/0000000004-000001-" in bad.stdout
    good = program("runs", "verify", "copy", folder=tmp_path)
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "10 checkpoints read, all good.")


def test_hooks_in_the_current_folder_are_explained(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from trainhooks.hooks import history\nhooks = history()\n", encoding="utf-8")
    ended = program("explain", "mine:hooks", folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("on_record\n  1. history  as given\n\n# The loop:\n\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "trainhooks: error: the following arguments are required: command"),
        (("runs",), "trainhooks runs: error: the following arguments are required: verb"),
        (("runs", "ls"), "trainhooks runs ls: error: the following arguments are required: url"),
        (("runs", "sync", "a"), "trainhooks runs sync: error: the following arguments are required: target"),
    ],
)
def test_wrong_words_are_wrong_usage(words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == sentence


def test_a_place_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("ls", "show", "verify", "rm"):
        assert main(["runs", verb, "ftp://host/runs"]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("trainhooks: 'ftp://host/runs' is no place for results. ")
        assert printed.err.count("\n") == 1


@pytest.mark.server
def test_a_bucket_that_is_not_there_is_one_sentence(s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "ls", f"s3://{s3}-gone/runs"]) == 2
    assert f"there is no bucket '{s3}-gone'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (StorageModeError("x"), 2),
        (StorageError("x"), 2),
        (CheckpointError("x"), 1),
        (OrderCycleError("x", ("a", "a")), 1),
    ],
)
def test_codes_tell_what_is_bad_from_what_could_not_be_done(
    error: UsageError | StorageModeError | CheckpointError | OrderCycleError, code: int
) -> None:
    assert code_of(error) == code


def test_every_verb_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["explain"], ["runs"], *(["runs", verb] for verb in ("ls", "show", "verify", "rm", "sync"))):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert ended.value.code == 0
        assert "Exit codes: 0 good" in capsys.readouterr().out


def test_a_reader_that_has_enough_ends_the_program_quietly(left: Left) -> None:
    for copy in range(300):
        (left.newer / f"attempts/{copy + 2:06}.json").write_bytes(b"{}" + b" " * copy)
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "trainhooks", "runs", "show", str(left.newer)],
        cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(url: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainhooks.cli.overview.open_store", interrupted)
    assert main(["runs", "ls", "runs"]) == 130
    assert capsys.readouterr() == ("", "")
