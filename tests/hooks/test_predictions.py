"""What the model said in an evaluation is kept whole, and what is written can be read without us."""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tests.loop.programs import Batch, batches, equal, linear, mean_loss, sgd, squares
from tests.ranks import on_ranks
from trainhooks import (
    Evaluation,
    HookDict,
    HookSet,
    MissingValueError,
    StepOutput,
    TrainResult,
    ddp,
    every,
    named,
    train,
)
from trainhooks.data import seeded_loader
from trainhooks.distributed import rank_here
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks.predictions import Predictions, collect_predictions, write_predictions
from trainhooks.run import evaluate, predict

VAL = batches(3, size=2, seed=5)
TEST = batches(1, seed=6)


def run(
    *hooks: HookSet | HookDict, model: nn.Module | None = None, evaluations: Sequence[Evaluation] | None = None
) -> TrainResult:
    model = linear() if model is None else model
    own = [Evaluation("val", VAL), Evaluation("test", TEST, when=every(3, "updates"))]
    return train(
        model, batches(2), squares, sgd(model), epochs=2, hooks=list(hooks),
        evaluations=own if evaluations is None else evaluations,
    )  # fmt: skip


def said(model: nn.Module, data: Sequence[Batch]) -> Tensor:
    with torch.no_grad():
        return torch.cat([cast("Tensor", model(x)) for x, _ in data])


def targets(data: Sequence[Batch]) -> Tensor:
    return torch.cat([y for _, y in data])


def kept(result: TrainResult, name: str = "collect_predictions") -> Predictions:
    state = result.hook_states[name]
    assert isinstance(state, Predictions)
    return state


def tensors(predictions: Predictions) -> list[Tensor]:
    assert predictions.y_pred is not None
    assert predictions.y_test is not None
    return [predictions.y_pred, predictions.y_test]


def test_the_newest_evaluation_is_kept_whole_and_in_order() -> None:
    model = linear()
    predictions = kept(run(collect_predictions("val"), model=model))
    assert equal(tensors(predictions), [said(model, VAL), targets(VAL)])
    assert (predictions.name, predictions.updates, predictions.batches) == ("val", 4, None)


def test_two_evaluations_are_kept_apart() -> None:
    hooks = collect_predictions("val"), named("of_test", collect_predictions("test"))
    result = run(*hooks)
    assert equal([tensors(kept(result))[1]], [targets(VAL)])
    assert equal([tensors(kept(result, "of_test"))[1]], [targets(TEST)])
    assert kept(result, "of_test").updates == 3


def test_a_run_finds_the_set_as_new() -> None:
    """Keeps P12."""
    hook = collect_predictions("val")
    first, second = (tensors(kept(run(hook))) for _ in range(2))
    assert equal(first, second)


def test_a_prediction_has_no_end_at_which_to_write(tmp_path: Path) -> None:
    def predict_step(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, None]:
        return model(batch[0]), batch[1], None

    with pytest.warns(RuntimeWarning, match="predict never calls .*'write_predictions' on on_evaluation_begin"):
        predictions = predict(linear(), VAL, predict_step, hooks=write_predictions(tmp_path))
    with pytest.raises(HookDefinitionError, match="acts at the end of an evaluation, and a prediction has none"):
        list(predictions)


def test_an_evaluation_that_the_run_does_not_have_is_refused_before_it_starts() -> None:
    """Keeps P03."""
    with pytest.raises(MissingValueError, match=r"reads 'vall/loss', .*exist: test/loss, train/loss, val/loss"):
        run(collect_predictions("vall"))
    with pytest.raises(MissingValueError, match="reads 'vall/loss'"):
        run(write_predictions("never", name="vall"))


def written(path: Path) -> dict[str, Any]:
    contents: dict[str, Any] = torch.load(path, weights_only=True)
    return contents


def test_each_evaluation_has_a_file_that_plain_torch_reads(tmp_path: Path) -> None:
    model = linear()
    run(write_predictions(tmp_path / "deep"), model=model)
    files = {path.name: written(path) for path in (tmp_path / "deep").iterdir()}
    assert sorted(files) == ["test-00000003.pt", "val-00000002.pt", "val-00000004.pt"]
    last = files["val-00000004.pt"]
    assert list(last) == ["y_pred", "y_test", "name", "updates", "epochs"]
    assert equal([last["y_pred"], last["y_test"]], [said(model, VAL), targets(VAL)])
    assert (last["name"], last["updates"], last["epochs"]) == ("val", 4, 2)
    assert (files["test-00000003.pt"]["name"], files["test-00000003.pt"]["epochs"]) == ("test", 1)
    assert not torch.equal(files["val-00000002.pt"]["y_pred"], last["y_pred"])


def test_a_name_limits_the_files_to_one_evaluation_and_nothing_is_kept(tmp_path: Path) -> None:
    result = run(write_predictions(str(tmp_path), name="test"))
    assert [path.name for path in tmp_path.iterdir()] == ["test-00000003.pt"]
    state = kept(result, "write_predictions")
    assert (state.y_pred, state.y_test, state.batches) == (None, None, None)


def test_a_function_gives_the_path_and_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "newest.pt"
    path.write_text("old", encoding="utf-8")
    run(write_predictions(lambda ctx: path, name="val"))
    assert written(path)["updates"] == 4
    assert os.listdir(tmp_path) == ["newest.pt"]


def told_of_ranks(folder: Path, samples: int) -> tuple[int, list[str]]:
    """How many items this rank kept, and the files that it wrote."""
    data = seeded_loader(TensorDataset(torch.arange(float(samples))[:, None]), batch_size=4, seed=0, shuffle=False)

    def step(model: nn.Module, batch: tuple[Tensor]) -> StepOutput[Tensor]:
        return StepOutput(model(batch[0]).mean(), weight=float(len(batch[0])), output=batch[0], target=batch[0] * 2)

    model, own = nn.Linear(1, 1), folder / f"rank{rank_here().index}"
    result = train(
        model, data, step, sgd(model), epochs=1, parallel=ddp(), evaluations=[Evaluation("val", data)],
        hooks=[collect_predictions("val"), write_predictions(own)],
    )  # fmt: skip
    kept = result.hook_states["collect_predictions"]
    assert isinstance(kept, Predictions)
    files = sorted(one.name for one in own.iterdir()) if own.exists() else []
    return 0 if kept.y_pred is None else len(kept.y_pred), files


@pytest.mark.parametrize(("samples", "shares"), [(10, (4, 4, 2)), (7, (4, 3, 0))])
def test_over_ranks_each_keeps_its_own_and_rank_0_writes_those_of_all(
    tmp_path: Path, samples: int, shares: tuple[int, ...]
) -> None:
    found = on_ranks(3, told_of_ranks, tmp_path, samples)
    assert [kept for kept, _ in found] == list(shares)
    assert [files for _, files in found] == [["val-00000001.pt"], [], []]
    written = torch.load(tmp_path / "rank0" / "val-00000001.pt", weights_only=True)
    assert written["y_pred"].flatten().tolist() == list(range(samples))
    assert torch.equal(written["y_test"], written["y_pred"] * 2)


def test_a_step_without_a_target_leaves_none(tmp_path: Path) -> None:
    def no_target(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        output = squares(model, batch)
        return StepOutput(output.loss, weight=output.weight, output=output.output)

    evaluations = [Evaluation("val", VAL, step=no_target)]
    result = run(collect_predictions("val"), write_predictions(tmp_path), evaluations=evaluations)
    assert kept(result).y_test is None
    assert written(tmp_path / "val-00000004.pt")["y_test"] is None


class Saved:
    """What a graph keeps of a tensor; it goes when the graph does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def test_it_works_in_a_lone_evaluation_and_keeps_no_graph_alive(tmp_path: Path) -> None:
    """Keeps P61, for this hook."""
    graphs: list[weakref.ref[Saved]] = []
    alive: list[int] = []

    def pack(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        graphs.append(weakref.ref(saved))
        return saved

    def live(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        alive.append(sum(one() is not None for one in graphs))
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
            return squares(model, batch)

    data, model = VAL * 4, linear()
    evaluate(model, data, live, name="alone", hooks=write_predictions(tmp_path))
    per_batch = len(graphs) // len(data)
    assert per_batch > 0
    assert max(alive) == 0
    assert equal([written(tmp_path / "alone-00000000.pt")["y_pred"]], [said(model, data)])


def scalar_output(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    output = squares(model, batch)
    return StepOutput(output.loss, weight=output.weight, output=output.loss, target=output.target)


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (
            mean_loss,
            r"collect_predictions puts batches together .* the output of a batch of the evaluation 'val' is None",
        ),
        (scalar_output, r"the output of a batch of the evaluation 'val' is a 0-d torch\.float32 tensor"),
    ],
)
def test_outputs_that_are_no_tensors_of_whole_batches_are_refused(step: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        run(collect_predictions("val"), evaluations=[Evaluation("val", VAL, step=step)])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cast("Any", collect_predictions)(3), "collect_predictions takes the name of an evaluation, .* got 3"),
        (lambda: collect_predictions(""), "takes the name of an evaluation, such as 'val', got ''"),
        (lambda: write_predictions("x", name=""), "write_predictions takes the name of an evaluation"),
        (lambda: cast("Any", write_predictions)(3), "takes a folder, or a function that gives a path, got 3"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        make()
