"""What a run was made with is in its folder, once."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hooks.kept import artifacts, experiment, fail_at, index, run, run_of
from trainhooks import BatchBegin
from trainhooks.errors import HookDefinitionError, NoExperimentError, RunDefinitionError, StorageError
from trainhooks.hooks import checkpoint, save_source

HOUSE = Path(__file__).parents[2]
SCRIPT = """
import sys
from tests.hooks.kept import experiment, run
from trainhooks.hooks import checkpoint, save_source

root, updates, source = sys.argv[1:]
made_for = experiment(root, hyperparams={"lr": 0.1, "layers": (1, 2), "act": print})
run(root, save_source(source), checkpoint(), updates=int(updates), resume="auto", experiment=made_for)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with source, and what is none."""
    folder = tmp_path / "package"
    for name in (
        "model.py", "deep/layer.py", "data/vocabulary.txt", ".env", ".git/HEAD", "deep/.hidden.py",
        "__pycache__/model.cpython-311.pyc", "old.pyc", "venv/pyvenv.cfg", "venv/lib.py", "node_modules/x.js",
        "runs/tests/x.py",
    ):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    (folder / "link").symlink_to(folder, target_is_directory=True)
    (folder / "broken").symlink_to(folder / "nowhere")
    return folder


def file_of(root: Any, name: str, serial: int = 1) -> bytes:
    (found,) = (file["key"] for file in index(root, "source", serial)["files"] if file["name"] == name)
    return bytes(run_of(root).get(found))


def zipped(root: Any, serial: int = 1) -> dict[str, str]:
    with zipfile.ZipFile(BytesIO(file_of(root, "source.zip", serial))) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name).decode() for name in opened.namelist()}


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_script_its_source_and_its_commit_are_saved_again_only_if_something_changed(tmp_path: Path) -> None:
    house = tmp_path / "house"
    (house / "package").mkdir(parents=True)
    script, module = house / "train.py", house / "package" / "model.py"
    script.write_text(SCRIPT)
    module.write_text("# first\n")
    git(house, "init", "--quiet")
    git(house, "add", ".")
    git(house, "commit", "--quiet", "--message", "first")
    root = tmp_path / "runs"

    def go(updates: int) -> None:
        command = [sys.executable, str(script), str(root), str(updates), str(house / "package")]
        environment = {**os.environ, "PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    go(2)
    found = index(root, "source")
    assert found["hyperparams"] == {"lr": 0.1, "layers": [1, 2], "act": "print"}
    assert found["git"] == {"commit": git(house, "rev-parse", "HEAD"), "dirty": False}
    assert (found["python"], found["torch"]) == (sys.version.split()[0], torch.__version__)
    assert found["packages"]["attrs"] == version("attrs")
    assert file_of(root, "train.py").decode() == SCRIPT
    assert zipped(root) == {"package/model.py": "# first\n"}
    before = artifacts(root)
    go(4)
    assert artifacts(root) == before
    module.write_text("# second\n")
    go(6)
    assert set(artifacts(root)) > set(before)
    assert zipped(root, 2) == {"package/model.py": "# second\n"}
    assert index(root, "source", 2)["git"] == {"commit": git(house, "rev-parse", "HEAD"), "dirty": True}


def test_caches_secrets_environments_and_results_are_no_source(package: Path) -> None:
    root = package / "runs"
    run(root, save_source(package, packages=False))
    assert list(zipped(root)) == ["package/model.py", "package/data/vocabulary.txt", "package/deep/layer.py"]


def test_several_folders_are_side_by_side(tmp_path: Path, package: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.py").write_text("x")
    run(tmp_path / "elsewhere", save_source([f"{package / 'deep'}/", other], packages=False))
    assert zipped(tmp_path / "elsewhere") == {"deep/layer.py": "# deep/layer.py\n", "other/x.py": "x"}


def test_without_folders_there_is_no_zip_and_without_packages_no_list(tmp_path: Path) -> None:
    run(f"memory://{tmp_path.name}-source", save_source(packages=False))
    found = index(f"memory://{tmp_path.name}-source", "source")
    assert "packages" not in found
    assert "source.zip" not in [file["name"] for file in found["files"]]


def test_a_notebook_has_no_script_and_a_folder_without_git_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "runs", save_source(packages=False))
    found = index(tmp_path / "runs", "source")
    assert (found["files"], found["git"]) == ([], None)


def test_a_machine_without_git_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run(tmp_path / "runs", save_source(packages=False))
    assert index(tmp_path / "runs", "source")["git"] is None


def test_a_run_that_goes_on_saves_changed_hyperparameters(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    hooks = (save_source(packages=False), checkpoint())
    for updates, rate in ((2, 0.1), (4, 0.1), (6, 0.2)):
        run(root, *hooks, updates=updates, resume="auto", experiment=experiment(root, hyperparams={"lr": rate}))
    assert [index(root, "source", serial)["hyperparams"] for serial in (1, 2)] == [{"lr": 0.1}, {"lr": 0.2}]
    assert sum(key.endswith(".json") for key in artifacts(root)) == 2


def test_functions_and_numbers_among_hyperparameters_are_the_same_in_every_process(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    hyperparams = {"x": test_several_folders_are_side_by_side, "y": float("nan")}
    run(root, save_source(packages=False), experiment=experiment(root, hyperparams=hyperparams))
    name = "tests.hooks.test_sources.test_several_folders_are_side_by_side"
    assert index(root, "source")["hyperparams"] == {"x": name, "y": "NaN"}


def test_a_run_that_fails_later_has_its_source(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"):
        run(tmp_path / "runs", save_source(packages=False), fail_at(1))
    assert index(tmp_path / "runs", "source")["name"] == "source"


def refused(hook: Any, root: Any, kind: type[Exception], sentence: str) -> None:
    """A run with it raises this, and sees no batch."""
    seen: list[BatchBegin] = []
    with pytest.raises(kind, match=sentence):
        run(root, hook, {"on_batch_begin": seen.append})
    assert seen == []


def test_too_much_is_refused_before_the_first_batch_with_the_largest_files(tmp_path: Path, package: Path) -> None:
    (package / "data" / "images.bin").write_bytes(bytes(3_000))
    sentence = r"max_bytes is 2,000\. The largest files: package/data/images.bin \(3,000\), "
    refused(save_source(package, max_bytes=2_000), tmp_path / "elsewhere", RunDefinitionError, sentence)
    assert artifacts(tmp_path / "elsewhere") == {}


def test_a_folder_that_is_not_there_is_refused_before_the_first_batch(tmp_path: Path) -> None:
    sentence = "the source folder '.*/gone', and it is not there"
    refused(save_source(tmp_path / "gone"), tmp_path / "runs", RunDefinitionError, sentence)


def test_two_folders_of_one_name_are_refused_before_the_first_batch(tmp_path: Path) -> None:
    for one in ("a/src", "b/src"):
        (tmp_path / one).mkdir(parents=True)
    hook = save_source([tmp_path / "a/src", tmp_path / "b/src"])
    refused(hook, tmp_path / "runs", RunDefinitionError, r"both would be 'src' in source\.zip")


def test_a_run_without_an_experiment_is_refused_before_its_first_batch() -> None:
    refused(save_source(), None, NoExperimentError, "save_source writes into the folder of the run")


def test_what_cannot_be_written_ends_the_run_before_its_first_batch(tmp_path: Path) -> None:
    def block(ctx: Any) -> None:
        (tmp_path / "runs" / "tests" / "kept" / ctx.run.run_id / "artifacts").write_text("in the way")

    with pytest.raises(StorageError, match="artifacts/source/ could not be listed in"):
        run(tmp_path / "runs", {"on_train_loop_registration": block}, save_source(packages=False))


def test_the_zip_of_equal_files_is_equal(tmp_path: Path, package: Path) -> None:
    for name in ("one", "other"):
        os.utime(package / "model.py", (len(name), len(name)))
        run(tmp_path / name, save_source(package, packages=False))
    assert file_of(tmp_path / "one", "source.zip") == file_of(tmp_path / "other", "source.zip")
    one, other = (index(tmp_path / name, "source")["digest"] for name in ("one", "other"))
    assert one == other


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"folders": 3}, "folders, a str or a Path each, got 3"),
        ({"folders": ["src", ""]}, "folders, a str or a Path each, got ''"),
        ({"max_bytes": 0}, "max_bytes as a whole number from 1 on, got 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(arguments: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        save_source(**arguments)
