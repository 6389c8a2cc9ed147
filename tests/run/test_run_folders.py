"""What a run leaves in its folder: readable without us, and movable."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tests.loop.programs import linear
from tests.run.saved import experiment, run, state_of, steps
from trainhooks import BatchEnd, Save, every, load_weights
from trainhooks.hooks import checkpoint, ema, history, torch_scheduler

READER = """
import hashlib, json, sys
from pathlib import Path
from safetensors.torch import load_file

run = Path(sys.argv[1])
found = {}
for path in sorted((run / "manifests").iterdir()):
    manifest = json.loads(path.read_text())
    files = {one["name"]: run / one["key"] for one in manifest["files"]}
    for one in manifest["files"]:
        data = (run / one["key"]).read_bytes()
        assert len(data) == one["size"] and hashlib.sha256(data).hexdigest() == one["sha256"]
    state = json.loads(files["state.json"].read_text())
    found[manifest["step"]] = {
        "weights": {name: value.tolist() for name, value in load_file(files["model.safetensors"]).items()},
        "updates": state["tree"]["progress"]["updates"], "hooks": sorted(state["tree"]["hooks"]),
        "lr": state["tree"]["optimizers"][0]["param_groups"][0]["lr"], "metrics": manifest["metrics"],
    }
assert "trainhooks" not in sys.modules
print(json.dumps(found))
"""


def folder_of(root: Path) -> Path:
    (found,) = root.glob("tests/saving/*")
    return found


def test_a_checkpoint_is_read_with_json_and_safetensors_alone(tmp_path: Path) -> None:
    """Keeps P15."""
    model = linear()
    hooks = [
        checkpoint(when=every(2, "updates"), keep_last=None), ema(0.5), history(),
        torch_scheduler(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), unit="updates"),
    ]  # fmt: skip
    run(tmp_path, hooks, model=model, updates=4)
    command = [sys.executable, "-I", "-c", READER, str(folder_of(tmp_path))]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert list(found) == ["2", "4"]
    assert found["4"]["weights"] == state_of(model)
    assert (found["4"]["updates"], found["4"]["lr"]) == (4, 0.1 * 0.5**4)
    assert found["4"]["hooks"] == ["ema", "history", "torch_scheduler"]


def test_a_folder_that_was_moved_goes_on_and_touches_nothing_outside(tmp_path: Path) -> None:
    """Keeps P14."""
    hooks = checkpoint(when=every(2, "updates"), keep_last=1, keep_best=("train/loss", "min"))
    old, new, copy = tmp_path / "old", tmp_path / "new", tmp_path / "copy"
    run(old, hooks, updates=6)
    shutil.copytree(old, copy)
    before = contents(copy)
    shutil.move(old, new)
    result = run(new, hooks, updates=12, resume="must")
    assert steps(result) == sorted({steps(result)[0], 12})
    assert not old.exists()
    assert contents(copy) == before
    for which in ("latest", "best"):
        model = linear(seed=4)
        manifest = load_weights(model, experiment(new), which=cast("Any", which))
        assert manifest.step in steps(result)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_compiled_model_is_saved_under_the_names_of_the_bare_one(tmp_path: Path) -> None:
    """Keeps P16, for torch.compile."""

    def save(ctx: BatchEnd) -> Save:
        return Save()

    compiled = cast("nn.Module", torch.compile(linear(), backend="eager"))
    assert set(compiled.state_dict()) == {"_orig_mod.weight", "_orig_mod.bias"}
    run(tmp_path, {"on_batch_end": save}, model=compiled, updates=2, seed=1)
    bare = linear(seed=6)
    load_weights(bare, experiment(tmp_path))
    assert state_of(bare) == {name.removeprefix("_orig_mod."): value for name, value in state_of(compiled).items()}
    again = cast("nn.Module", torch.compile(linear(seed=7), backend="eager"))
    result = run(tmp_path, {"on_batch_end": save}, model=again, updates=2, seed=1, resume="must")
    assert (result.at.updates, state_of(again)) == (2, state_of(compiled))


def test_a_run_says_what_it_is(tmp_path: Path) -> None:
    def save(ctx: BatchEnd) -> Save:
        return Save()

    run(tmp_path, {"on_batch_end": save}, updates=2, seed=7)
    run(tmp_path, {"on_batch_end": save}, updates=3, seed=7, resume="must")
    folder = folder_of(tmp_path)
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["project"], facts["name"]) == ("tests", "saving")
    assert (facts["config"]["seed"], facts["config"]["max_updates"]) == (7, 2)
    assert facts["torch"] == torch.__version__
    attempts = [json.loads(one.read_text()) for one in sorted((folder / "attempts").iterdir())]
    assert [one["resumed_from"] for one in attempts] == [None, 2]
    assert attempts[1]["facts"]["changes"] == "max_updates: 2 -> 3"


def test_two_runs_of_an_experiment_have_folders_of_their_own(tmp_path: Path) -> None:
    def save(ctx: BatchEnd) -> Save:
        return Save()

    ids = list[str]()

    def note(ctx: BatchEnd) -> None:
        ids.append(ctx.run.run_id)

    hooks: Any = [{"on_batch_end": save}, {"name": "note", "on_batch_end": note}]
    first, second = linear(), linear(seed=5)
    run(tmp_path, hooks, model=first, updates=1)
    run(tmp_path, hooks, model=second, updates=1)
    assert sorted(one.name for one in tmp_path.glob("tests/saving/*")) == sorted(ids)
    assert len(set(ids)) == 2
    model = linear(seed=6)
    load_weights(model, experiment(tmp_path))
    assert torch.equal(model.weight, second.weight)
