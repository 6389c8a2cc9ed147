"""What a metric gives: a number, a mapping, a vector; what is more than that is left out."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import ClasswiseWrapper, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score

from tests.loop.programs import linear, sgd
from trainhooks import (
    EpochEnd,
    Evaluation,
    EvaluationEnd,
    HookDefinitionError,
    MissingValueError,
    RunDefinitionError,
    evaluate,
    supervised,
    train,
)
from trainhooks.hooks import early_stopping

Numbers = dict[str, float]
DATA: Final = [
    (torch.tensor([[1.0, 0.0, 0.0]] * 3), torch.tensor([0, 1, 0])),
    (torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([1])),
]
STEP: Final = supervised(cross_entropy)


class Counted:
    """An object that computes `value`."""

    def __init__(self, value: object) -> None:
        self.value = value

    def update(self, output: Any, target: Any) -> None: ...
    def compute(self) -> Any:
        return self.value

    def reset(self) -> None: ...


def as_function(value: object) -> Callable[[Any, Any], Any]:
    return lambda output, target: value


GIVEN: Final[list[tuple[object, Numbers]]] = [
    (1, {"m": 1.0}),
    (True, {"m": 1.0}),
    (0.5, {"m": 0.5}),
    (torch.tensor(0.5), {"m": 0.5}),
    (torch.tensor([[0.5]]), {"m": 0.5}),
    (torch.tensor(True), {"m": 1.0}),
    (torch.tensor(3), {"m": 3.0}),
    (numpy.float32(0.5), {"m": 0.5}),
    (numpy.int64(2), {"m": 2.0}),
    (numpy.bool_(True), {"m": 1.0}),
    (numpy.array(0.5), {"m": 0.5}),
    ({"a": 0.5, "b": torch.tensor(1.0)}, {"m/a": 0.5, "m/b": 1.0}),
    ({"a": {"b": 1}, 3: numpy.float64(2.0)}, {"m/a/b": 1.0, "m/3": 2.0}),
    ({"a": torch.tensor([1.0, 2.0])}, {"m/a/0": 1.0, "m/a/1": 2.0}),
    (torch.tensor([0.5, 1.0, 2.0]), {"m/0": 0.5, "m/1": 1.0, "m/2": 2.0}),
    (numpy.array([1, 2]), {"m/0": 1.0, "m/1": 2.0}),
    ([0.5, True], {"m/0": 0.5, "m/1": 1.0}),
    ((torch.tensor(1.0), 2.0), {"m/0": 1.0, "m/1": 2.0}),
    ({}, {}),
    ([], {}),
]


@pytest.mark.parametrize("form", [Counted, as_function])
@pytest.mark.parametrize(("value", "expected"), GIVEN, ids=range(len(GIVEN)))
def test_numbers_mappings_and_vectors_are_recorded_part_by_part(
    form: Callable[[object], Any], value: object, expected: Numbers
) -> None:
    found = evaluate(linear(), DATA, STEP, name="val", metrics={"m": form(value)})
    assert dict(found) == {"val/loss": found["val/loss"], **{f"val/{name}": one for name, one in expected.items()}}


@pytest.mark.parametrize("form", [Counted, as_function])
@pytest.mark.parametrize("value", ["high", None, 1j, torch.tensor(1j), {"a": "high"}, ["a", "b"], {1, 2}, object()])
def test_what_is_no_number_is_refused_by_name(form: Callable[[object], Any], value: object) -> None:
    with pytest.raises(
        HookDefinitionError, match=r"The metric 'm(/a)?' gave .*; a metric gives a number, a mapping of"
    ):
        evaluate(linear(), DATA, STEP, metrics={"m": form(value)})


MATRICES: Final = [
    torch.ones(2, 2), numpy.ones((2, 2)), [[1.0, 2.0]], (torch.ones(3), torch.ones(3)), torch.ones(1, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize("form", [Counted, as_function])
@pytest.mark.parametrize("value", MATRICES, ids=range(len(MATRICES)))
def test_a_matrix_is_left_out_with_one_warning_in_a_run(form: Callable[[object], Any], value: object) -> None:
    model = linear()
    evaluations = [Evaluation("val", DATA, step=wide(), metrics={"m": form(value), "n": as_function({"a": value})})]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train(
            model, targets(), supervised(nn.functional.mse_loss), sgd(model), epochs=3, evaluations=evaluations
        )
    assert set(result.metrics) == {"train/loss", "val/loss"}
    said = sorted(str(one.message) for one in caught)
    assert len(said) == 2
    assert said[0].startswith("The metric 'm' of the evaluation 'val' gave more than a vector of numbers, ")
    assert said[1].startswith("The metric 'n/a' of the evaluation 'val' gave more than")
    assert max(map(len, said)) < 250


def wide() -> Any:
    def step(model: nn.Module, batch: Any) -> Any:
        return STEP(lambda x: x, batch)  # type: ignore[arg-type]

    return step


def targets() -> list[tuple[Tensor, Tensor]]:
    return [(torch.ones(2, 3), torch.ones(2, 2))]


def test_functions_are_averaged_by_weight_part_by_part() -> None:
    def per_class(output: Tensor, target: Tensor) -> Tensor:
        return torch.stack([(target == one).float().mean() for one in range(2)])

    def named(output: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        return dict(zip("ab", per_class(output, target), strict=True))

    found = evaluate(linear(), DATA, wide(), metrics={"v": per_class, "d": named})
    expected = {"v/0": 0.5, "v/1": 0.5, "d/a": 0.5, "d/b": 0.5}
    assert {name: found[f"evaluation/{name}"] for name in expected} == pytest.approx(expected)


def test_metrics_of_torchmetrics_that_are_several_are_recorded_under_their_names() -> None:
    metrics = {
        "m": MetricCollection([MulticlassAccuracy(3), MulticlassF1Score(3)], prefix="p_"),
        "class": ClasswiseWrapper(MulticlassAccuracy(3, average=None)),
        "each": MulticlassAccuracy(3, average=None),
    }
    found = evaluate(linear(), DATA, wide(), name="val", metrics=metrics)
    each = {f"val/class/multiclassaccuracy_{one}" for one in range(3)} | {f"val/each/{one}" for one in range(3)}
    assert set(found) == {"val/loss", "val/m/p_MulticlassAccuracy", "val/m/p_MulticlassF1Score"} | each
    assert [found[f"val/each/{one}"] for one in range(3)] == [1.0, 0.5, 0.0]
    with pytest.warns(RuntimeWarning, match="The metric 'c' of the evaluation 'val' gave more than a vector"):
        assert set(evaluate(linear(), DATA, wide(), name="val", metrics={"c": MulticlassConfusionMatrix(3)})) == {
            "val/loss"
        }


def training(metrics: Mapping[str, Any], hooks: Any) -> Any:
    model = linear()
    evaluations = [Evaluation("val", DATA, step=wide(), metrics=metrics)]
    step = supervised(nn.functional.mse_loss)
    return train(model, targets(), step, sgd(model), epochs=3, evaluations=evaluations, hooks=hooks)


def test_a_part_can_be_monitored_read_and_transformed() -> None:
    seen: list[object] = []

    def transform(ctx: EvaluationEnd, metrics: Mapping[str, float]) -> Mapping[str, float]:
        return {**metrics, "val/least": min(metrics["val/each/0"], metrics["val/each/1"])}

    def end(ctx: EpochEnd) -> None:
        seen.append((ctx.metrics["val/each/1"], ctx.metrics["val/least"]))

    reading = {"reads": {"val/each/1", "val/least"}, "on_epoch_end": end}
    hooks = [
        early_stopping("val/each/1", mode="max", patience=2),
        reading,
        {"transform_metrics": transform, "provides": {"val/least"}},
    ]
    result = training({"each": MulticlassAccuracy(3, average=None)}, hooks)
    assert seen == [(0.5, 0.5)] * 3
    assert result.end.reason.startswith("val/each/1 was best at update 1 (0.5) and did not improve for 2 values")


def test_a_transform_cannot_take_the_name_of_another_value_of_the_loop() -> None:
    for name in ("train/loss", "test/loss"):

        def transform(ctx: EvaluationEnd, metrics: Mapping[str, float], name: str = name) -> Mapping[str, float]:
            return {**metrics, name: 0.0} if ctx.name == "val" else metrics

        model = linear()
        evaluations = [Evaluation(one, DATA, step=wide()) for one in ("val", "test")]
        with pytest.raises(RunDefinitionError, match=f"of 'odd' gave '{name}' in the evaluation 'val', which"):
            train(
                model, targets(), supervised(nn.functional.mse_loss), sgd(model), epochs=1, evaluations=evaluations,
                hooks={"name": "odd", "transform_metrics": transform},
            )  # fmt: skip


@pytest.mark.parametrize("read", ["val/each/3", "val/each", "val/c"])
def test_a_part_that_never_comes_is_refused_after_the_first_evaluation(read: str) -> None:
    """Keeps P03."""
    ended: list[int] = []
    metrics = {"each": MulticlassAccuracy(3, average=None), "c": MulticlassConfusionMatrix(3)}

    def end(ctx: EpochEnd) -> None:
        ended.append(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(MissingValueError, match=f"reads '{read}', which the first evaluation 'val' did not bring"):
            training(metrics, [early_stopping(read, mode="max"), {"on_epoch_end": end}])
    assert ended == []


def test_two_metrics_that_give_one_name_are_refused() -> None:
    metrics = {"a": as_function({"b": 1.0}), "a/b": as_function(1.0)}
    sentence = "both its metric 'a' and its metric 'a/b' give a value named 'a/b'"
    for form in (metrics, {name: Counted(metric(0, 0)) for name, metric in metrics.items()}):
        with pytest.raises(RunDefinitionError, match=sentence):
            evaluate(linear(), DATA, wide(), metrics=form)
