"""A model that predicts the same for every item of an evaluation is noticed."""

import math
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.hooks.reads import Reads
from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import Completed, Evaluation, HookSet, MissingValueError, StepOutput, Stopped, TrainResult, train
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks.sameness import stop_on_constant_predictions


def run(
    predictions: Sequence[object], *hooks: HookSet, epochs: int = 1, name: str = "val", losses: float = 0.5
) -> TrainResult:
    """A run whose evaluation, at the end of each epoch of two updates, predicts this, batch by batch."""

    def predict(model: nn.Module, batch: int) -> StepOutput[object]:
        return StepOutput(torch.tensor(losses), weight=1.0, output=predictions[batch])

    model = linear()
    evaluation = Evaluation(name, range(len(predictions)), step=predict)
    return train(model, batches(2), squares, sgd(model), epochs=epochs, evaluations=[evaluation], hooks=hooks)


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


ROW = torch.tensor([[0.25, -1.0, 3.0]])
ALIKE: dict[str, list[Tensor]] = {
    "scalars": [ones(4), ones(4), ones(1)],
    "rows": [ROW.repeat(2, 1), ROW, ROW.repeat(3, 1)],
    "an empty batch": [ones(0), ones(2), ones(0), ones(1)],
    "numbers of classes": [torch.tensor([2, 2]), torch.tensor([2])],
}
DIFFERENT: dict[str, list[Tensor]] = {
    "within a batch": [torch.tensor([1.0, 1.0, 0.5])],
    "from batch to batch": [ones(3), ones(3) * 2],
    "in an early batch alone": [torch.tensor([1.0, 2.0]), ones(3)],
    "in one element of a row": [ROW, ROW + torch.tensor([0.0, 0.0, 1e-6])],
    "elements that are the same in each row": [torch.tensor([[1.0, 1.0], [2.0, 2.0]])],
    "shapes": [ones(2, 3), ones(2, 4)],
    "NaN": [torch.full((4,), math.nan)],
    "one item": [ones(1)],
    "no item": [ones(0)],
}


@pytest.mark.parametrize("predictions", ALIKE.values(), ids=ALIKE)
def test_a_run_stops_when_all_predictions_are_the_same(predictions: list[Tensor]) -> None:
    result = run(predictions, stop_on_constant_predictions("val"), epochs=9)
    items = sum(map(len, predictions))
    assert result.end == Stopped(
        f"all {items} predictions of 'val' are the same", ("stop_on_constant_predictions",)
    )  # fmt: skip
    assert result.at.updates == 2


@pytest.mark.parametrize("predictions", DIFFERENT.values(), ids=DIFFERENT)
def test_a_run_goes_on_when_predictions_differ(predictions: list[Tensor]) -> None:
    assert run(predictions, stop_on_constant_predictions("val")).end == Completed()


def test_a_given_value_is_what_every_element_must_equal() -> None:
    zeros = torch.zeros(3, 2)
    result = run([zeros, zeros], stop_on_constant_predictions("val", value=0.0))
    assert isinstance(result.end, Stopped)
    assert result.end.reason == "all 6 predictions of 'val' equal 0"
    for other in ([zeros, ones(3, 2)], [ones(3, 2)], [ROW.repeat(2, 1)]):
        assert run(other, stop_on_constant_predictions("val", value=0.0)).end == Completed()
    shapes = [torch.zeros(2, 3), torch.zeros(2, 4)]
    assert isinstance(run(shapes, stop_on_constant_predictions("val", value=0)).end, Stopped)


def test_the_class_rather_than_its_score_can_be_compared() -> None:
    def predicted(output: object) -> Tensor:
        return cast("dict[str, Tensor]", output)["logits"].argmax(-1)

    outputs = [{"logits": torch.tensor([[0.1, 0.9], [0.2, 0.8]])}, {"logits": torch.tensor([[0.3, 0.7]])}]
    assert isinstance(run(outputs, stop_on_constant_predictions("val", prediction_of=predicted)).end, Stopped)
    outputs.append({"logits": torch.tensor([[0.7, 0.3]])})
    assert run(outputs, stop_on_constant_predictions("val", prediction_of=predicted)).end == Completed()


def test_a_warning_at_each_evaluation_instead() -> None:
    hook = stop_on_constant_predictions("val", only_warn=True)
    with pytest.warns(RuntimeWarning) as caught:
        assert run([ones(4)], hook, epochs=3).end == Completed()
    assert [str(one.message) for one in caught] == [
        f"At update {update}, all 4 predictions of 'val' are the same." for update in (2, 4, 6)
    ]


def test_each_evaluation_is_looked_at_anew() -> None:
    """The predictions of an epoch are all the same, and differ from the last epoch's; those before them differ."""
    answers = iter([ones(2), ones(2) * 2, ones(2), ones(2), ones(2)])

    def predict(model: nn.Module, batch: int) -> StepOutput[object]:
        return StepOutput(torch.tensor(0.5), output=next(answers))

    model = linear()
    result = train(
        model, batches(2), squares, sgd(model), epochs=9, evaluations=[Evaluation("val", range(2), step=predict)],
        hooks=stop_on_constant_predictions("val"),
    )  # fmt: skip
    assert (type(result.end), result.at.epochs) == (Stopped, 2)


def test_predictions_of_other_evaluations_are_left_alone() -> None:
    model = linear()
    evaluations = [
        Evaluation("val", range(2), step=lambda model, batch: StepOutput(torch.tensor(0.5), output=ones(2))),
        Evaluation("test", range(2), step=lambda model, batch: StepOutput(torch.tensor(0.5), output="no tensor")),
    ]
    hook = stop_on_constant_predictions("val", only_warn=True)
    with pytest.warns(RuntimeWarning) as caught:
        train(model, batches(2), squares, sgd(model), epochs=2, evaluations=evaluations, hooks=hook)
    assert [str(one.message) for one in caught] == [
        f"At update {update}, all 4 predictions of 'val' are the same." for update in (2, 4)
    ]


def test_an_evaluation_that_the_run_does_not_have_is_refused() -> None:
    """Keeps P03."""
    with pytest.raises(MissingValueError, match=r"'stop_on_constant_predictions' reads 'vall/loss'.* val/loss"):
        run([ones(2)], stop_on_constant_predictions("vall"))


def test_one_value_is_read_in_an_evaluation_however_many_batches_it_has() -> None:
    """Keeps P57, for evaluations."""
    counts: list[int] = []
    for hooks in ([], [stop_on_constant_predictions("val")]):
        with Reads() as reads:
            run([torch.rand(4, 3) for _ in range(7)], *hooks, epochs=3)
        counts.append(reads.count)
    assert counts[1] == counts[0] + 3


@pytest.mark.parametrize("output", [None, 0.5, torch.tensor(0.5), [torch.ones(2)]])
def test_what_is_no_tensor_of_predictions_is_refused(output: object) -> None:
    with pytest.raises(
        HookDefinitionError, match=r"tensors of predictions, items first, and got .*; give prediction_of"
    ):
        run([output], stop_on_constant_predictions("val"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"evaluation": ""}, "takes an evaluation's name first, such as 'val', got ''"),
        ({"value": "0"}, "takes value as a number or None, got '0'"),
        ({"prediction_of": 3}, "takes prediction_of as a function, got 3; write prediction_of=lambda output"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        cast("Any", stop_on_constant_predictions)(**{"evaluation": "val", **arguments})
