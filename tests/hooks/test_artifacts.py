"""What a run came to is kept at its end: whole, or not to be seen."""

import json
import math
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.checkpoint.faults import Death, FaultyStore
from tests.hooks.kept import artifacts, fail_at, index, recording, run, run_of, stop_at
from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import BatchBegin, HookSet, TrainEnd, named, quarantine, train
from trainhooks.errors import HookDefinitionError, NoExperimentError, StorageError
from trainhooks.hooks import checkpoint, early_stopping, ema, save_at_end
from trainhooks.hooks.artifacts import Piece, newest_index, publish
from trainhooks.store import open_store, slug

HOUSE = Path(__file__).parents[2]


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A place of each kind that needs no server."""
    return tmp_path / "runs" if request.param == "folder" else f"memory://{tmp_path.name}-{id(request)}"


def loaded(root: Any, key: str) -> Any:
    return torch.load(BytesIO(run_of(root).get(key)), weights_only=True)


def test_a_completed_run_leaves_its_weights_its_metrics_and_how_it_ended(root: Any) -> None:
    model = linear()
    result = run(root, save_at_end(), model=model)
    found = index(root, "final")
    assert (found["format"], found["version"], found["name"]) == ("trainhooks.artifact", 1, "final")
    assert found["end"] == {"kind": "Completed"}
    assert found["at"] == {"updates": 4, "batches": 4, "epochs": 2, "epoch": 1, "batch": 1}
    assert found["metrics"] == {"train/loss": result.metrics["train/loss"]}
    assert found["results"] is None
    assert [file["name"] for file in found["files"]] == ["model.pt"]
    weights = loaded(root, found["files"][0]["key"])
    assert list(weights) == ["weight", "bias"]
    assert torch.equal(weights["weight"], model.weight)
    assert torch.equal(weights["bias"], model.bias)


@pytest.mark.parametrize(
    "leaves", [ema(0.5, apply_at_end=True), early_stopping("train/loss", mode="max", restore_best=True)]
)
def test_the_weights_are_those_that_the_run_leaves_whatever_was_given_first(root: Any, leaves: HookSet) -> None:
    model, plain = linear(), linear()
    measured: list[Tensor] = []

    def results(ctx: TrainEnd) -> dict[str, object]:
        measured.append(cast("Any", ctx.run.model).weight.detach().clone())
        return {}

    run(root, save_at_end(results), leaves, model=model)
    run(None, model=plain)
    (file,) = index(root, "final")["files"]
    weights = loaded(root, file["key"])
    assert torch.equal(weights["weight"], model.weight)
    assert torch.equal(measured[0], model.weight)
    assert not torch.equal(model.weight, plain.weight)


def test_a_stopped_run_says_who_stopped_it(root: Any) -> None:
    run(root, save_at_end(), stop_at(3))
    assert index(root, "final")["end"] == {"kind": "Stopped", "reason": "enough", "by": ["stopping"]}


def test_a_run_that_fails_leaves_no_artifact(root: Any) -> None:
    """Keeps P05."""
    with pytest.raises(ValueError, match="broken"):
        run(root, save_at_end(), fail_at(3))
    assert artifacts(root) == {}


def test_a_run_that_is_interrupted_leaves_no_artifact(root: Any) -> None:
    """Keeps P05."""

    def interrupt(ctx: BatchBegin) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, save_at_end(), {"on_batch_begin": interrupt})
    assert artifacts(root) == {}


def test_results_are_read_back_equal_and_files_are_copied(root: Any, tmp_path: Path) -> None:
    report = tmp_path / "report of it.html"
    report.write_text("<p>good</p>")
    big = torch.arange(1_000_000.0)

    def results(ctx: TrainEnd) -> dict[str, object]:
        weight = cast("nn.Linear", ctx.run.model).weight
        return {
            "weight": weight, "slice": big[10:13], "table": {"rows": [(1, 2.5), (2, math.inf)], 3: None},
            "name": "größe", "flag": True, "bytes": b"\x00", "model": report,
        }  # fmt: skip

    model = linear()
    run(root, save_at_end(results), model=model)
    files = {file["name"]: file for file in index(root, "final")["files"]}
    assert list(files) == ["model.pt", "results.pt", "model"]
    found = loaded(root, files["results.pt"]["key"])
    assert torch.equal(found.pop("weight"), model.weight)
    assert found.pop("slice").tolist() == [10.0, 11.0, 12.0]
    assert found == {
        "table": {"rows": [(1, 2.5), (2, math.inf)], 3: None}, "name": "größe", "flag": True, "bytes": b"\x00",
    }  # fmt: skip
    assert files["results.pt"]["size"] < 10_000
    assert files["model"]["key"].endswith("/files/model/report-of-it-3b82eb6b.html")
    assert bytes(run_of(root).get(files["model"]["key"])) == report.read_bytes()


def test_numbers_of_numpy_are_kept_as_plain_ones(root: Any) -> None:
    numpy = pytest.importorskip("numpy")
    run(root, save_at_end(lambda ctx: {"score": numpy.float64(0.5)}))
    found = loaded(root, index(root, "final")["files"][1]["key"])
    assert type(found["score"]) is float
    assert found == {"score": 0.5}


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ([1], "a mapping from names to values, got list"),
        ({1: 2}, "have names, got 1 for one"),
        ({"table": [0, object()]}, r"table\[1\] is of the class object"),
        ({"plot": Path("nowhere.png")}, "'plot' of save_at_end is the path 'nowhere.png'; no file is there"),
    ],
)
def test_results_that_cannot_be_kept_are_an_error_after_the_weights_were(
    root: Any, results: Any, sentence: str
) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        run(root, save_at_end(lambda ctx: results))
    found = index(root, "final")
    assert [file["name"] for file in found["files"]] == ["model.pt"]
    assert found["results"].startswith("failed: HookDefinitionError: ")


def test_results_that_raise_are_raised_after_the_weights_were_saved(root: Any) -> None:
    def results(ctx: TrainEnd) -> dict[str, object]:
        raise ValueError("no test set")

    with pytest.raises(ValueError, match="no test set"):
        run(root, save_at_end(results))
    assert index(root, "final")["results"] == "failed: ValueError: no test set"


def test_a_run_that_goes_on_and_ends_again_leaves_both_ends(root: Any) -> None:
    hooks = (save_at_end(), checkpoint(), recording("x", 1.0))
    run(root, *hooks, updates=2)
    run(root, *hooks, updates=4, resume="must")
    assert [index(root, "final", serial)["at"]["updates"] for serial in (1, 2)] == [2, 4]
    assert sorted(index(root, "final", 2)["metrics"]) == ["train/loss", "x"]


def test_metrics_from_before_a_resume_are_among_the_newest(root: Any) -> None:
    run(root, save_at_end(), checkpoint(), recording("early", 1.0), updates=2)
    run(root, save_at_end(), checkpoint(), updates=4, resume="must")
    assert index(root, "final", 2)["metrics"]["early"] == 1.0


def test_metrics_that_json_has_no_number_for_are_null_and_words(root: Any) -> None:
    run(root, save_at_end(), recording("nan", math.nan), recording("inf", math.inf))
    metrics = index(root, "final")["metrics"]
    assert (metrics["nan"], metrics["inf"]) == (None, "inf")


def test_names_are_those_of_the_model_without_its_compilation(root: Any) -> None:
    class Compiled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._orig_mod = linear()

        def forward(self, x: Tensor) -> Tensor:
            return cast("Tensor", self._orig_mod(x))

    run(root, save_at_end(), model=Compiled())
    assert list(loaded(root, index(root, "final")["files"][0]["key"])) == ["weight", "bias"]


def test_two_of_them_have_folders_of_their_own(root: Any) -> None:
    run(root, save_at_end(), named("other", save_at_end(name="über alles")))
    assert {key.partition("/")[0] for key in artifacts(root)} == {"final", slug("über alles")}


def test_a_run_without_an_experiment_is_refused_before_its_first_batch() -> None:
    seen: list[BatchBegin] = []
    model = linear()
    with pytest.raises(NoExperimentError, match="save_at_end writes into the folder of the run") as caught:
        train(
            model, batches(2), squares, sgd(model), epochs=1, hooks=[save_at_end(), {"on_batch_begin": seen.append}]
        )  # fmt: skip
    assert seen == []
    assert not any("While the run ended" in note for note in caught.value.__notes__)


def in_the_way(ctx: TrainEnd) -> dict[str, object]:
    """A file where the artifacts would be, so that they cannot be written."""
    folder = Path(cast("Any", ctx.run.experiment).root) / "tests" / "kept" / ctx.run.run_id
    (folder / "artifacts").write_text("in the way")
    return {}


def test_what_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="artifacts/final/ could not be listed in"):
        run(tmp_path, save_at_end(in_the_way))


def test_what_cannot_be_written_is_a_warning_under_quarantine(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="'save_at_end' raised and was switched off"):
        result = run(tmp_path, *quarantine(save_at_end(in_the_way)))
    assert result.at.updates == 4


@pytest.mark.parametrize("fault", ["dies before", "dies after"])
def test_an_artifact_is_whole_or_invisible_at_whichever_call_its_writer_dies(root: Any, fault: Any) -> None:
    data = tuple(Piece(name, name, name.encode() * 100) for name in ("one", "two"))
    calls = 4  # list, two files, index
    for at_call in range(1, calls + 1):
        inner = open_store(root).at(f"{fault}-{at_call}")
        with pytest.raises(Death):
            publish(FaultyStore(inner, fault, at_call), "final", data, {})
        is_there = newest_index(inner, "final") is not None
        assert is_there == (at_call == calls and fault == "dies after")
        publish(inner, "final", data, {"again": True})
        newest = newest_index(inner, "final")
        assert newest is not None
        found = json.loads(bytes(inner.get(newest.key)))
        assert [bytes(inner.get(file["key"])) for file in found["files"]] == [b"one" * 100, b"two" * 100]
        assert newest.key == f"artifacts/final/{1 + is_there:06d}.json"


DYING = """
import os, sys
import trainhooks.hooks.artifacts as artifacts
from tests.hooks.kept import run
from trainhooks.hooks import save_at_end
from trainhooks.store import open_store, slug
from trainhooks.store.stores import ObjectStorage

put = ObjectStorage.put

def dying(store, key, data, *, create=False):
    if key == "artifacts/final/000001.json":
        os._exit(9)
    put(store, key, data, create=create)

ObjectStorage.put = dying
run(sys.argv[1], save_at_end(lambda ctx: {"x": 1}))
"""


def test_of_a_process_that_dies_before_the_index_no_artifact_is_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DYING, str(tmp_path)]
    done = subprocess.run(command, cwd=HOUSE, check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    assert sorted(key.rpartition("/")[2] for key in artifacts(tmp_path)) == ["model.pt", "results.pt"]
    assert newest_index(run_of(tmp_path), "final") is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"results": {"x": 1}}, "results as a function of the TrainEnd"),
        ({"name": ""}, "name as a string that is not empty, got ''"),
        ({"name": 3}, "name as a string that is not empty, got 3"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(arguments: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        save_at_end(**arguments)
