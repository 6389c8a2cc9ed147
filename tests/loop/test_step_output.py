"""What a step gives back: the forms of its fields, sums and ratios, and values in training and evaluations."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchEnd,
    EpochEnd,
    Evaluation,
    EvaluationEnd,
    HookDefinitionError,
    HookDict,
    LossReady,
    MissingValueError,
    Objective,
    Ratio,
    RunDefinitionError,
    StepOutput,
    TrainhooksError,
    evaluate,
    train,
)

FORMS: Final[Mapping[str, Callable[[float], float | Tensor]]] = {
    "int": int,
    "float": float,
    "tensor": torch.tensor,
    "count": lambda size: torch.tensor(int(size)),
}
UNEVEN: Final = [*batches(2), *batches(1, size=2, seed=2), *batches(1, size=3, seed=3)]


def summed(weight: Callable[[float], float | Tensor]) -> Callable[[nn.Module, Batch], StepOutput[Tensor]]:
    """A step whose loss is a sum over samples."""

    def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        x, y = batch
        loss = nn.functional.mse_loss(model(x), y, reduction="none").mean(1).sum()
        return StepOutput(loss, weight=weight(float(len(y))), reduction="sum")

    return step


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("form", FORMS)
def test_a_summed_loss_trains_and_is_recorded_as_its_mean(form: str, accumulate: int) -> None:
    def trained(step: Any) -> tuple[list[Tensor], list[float], Mapping[str, float]]:
        model, seen = linear(), list[float]()

        def see(ctx: BatchEnd) -> None:
            seen.append(ctx.loss.item())

        def ready(ctx: LossReady, loss: Tensor) -> Tensor:
            seen.append(loss.item())
            return loss

        hooks: HookDict = {"on_batch_end": see, "transform_loss": ready}
        result = train(model, UNEVEN, step, sgd(model), epochs=2, accumulate=accumulate, hooks=hooks)
        return weights(model), seen, result.metrics

    ours, theirs = trained(summed(FORMS[form])), trained(squares)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(ours[0], theirs[0], strict=True))
    assert ours[1] == pytest.approx(theirs[1])
    assert ours[2] == pytest.approx(dict(theirs[2]))


@pytest.mark.parametrize("form", FORMS)
def test_a_sum_over_no_items_changes_nothing_and_has_no_part_in_a_mean(form: str) -> None:
    weigh = FORMS[form]

    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        x, y = batch
        mask = x[:, 0] > 5.0 if len(y) == 4 else x[:, 0] < 9.0
        loss = ((model(x) - y).square().mean(1) * mask).sum()
        return StepOutput(loss, weight=weigh(float(mask.sum())), reduction="sum")

    model, odd = linear(), linear()
    found = train(model, UNEVEN, step, torch.optim.SGD(model.parameters(), 0.1), epochs=1, accumulate=4)
    expected = train(odd, UNEVEN[2:], squares, torch.optim.SGD(odd.parameters(), 0.1), epochs=1, accumulate=2)
    assert found.metrics == pytest.approx(expected.metrics)
    assert all(map(torch.allclose, weights(model), weights(odd)))


def test_a_summed_loss_of_half_precision_is_divided_by_more_items_than_its_type_can_count() -> None:
    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(model(batch[0]).sum() * 0.0 + 5e4, weight=torch.tensor(100_000), reduction="sum")

    data = [(x.half(), y.half()) for x, y in batches(1)]
    assert evaluate(linear().half(), data, step)["evaluation/loss"] == pytest.approx(0.5, rel=1e-3)


def test_an_evaluation_takes_a_summed_loss_too() -> None:
    ours, theirs = (evaluate(linear(), UNEVEN, step) for step in (summed(float), squares))
    assert ours == pytest.approx(dict(theirs))


class Odd:
    def __repr__(self) -> str:
        return "Odd()"


WRONG: Final[Sequence[tuple[str, Mapping[str, Any], type[TrainhooksError], str]]] = [
    ("word", {"weight": "four"}, HookDefinitionError, "gave its loss the weight 'four'; a weight counts the items"),
    ("none", {"weight": None}, HookDefinitionError, "the weight None"),
    ("bool", {"weight": True}, HookDefinitionError, "the weight True"),
    ("list", {"weight": [4.0]}, HookDefinitionError, r"the weight \[4.0\]"),
    ("vector", {"weight": torch.ones(4)}, HookDefinitionError, r"the weight <Tensor of shape \(4,\), torch.float32>"),
    ("mask", {"weight": torch.tensor(True)}, HookDefinitionError, "the weight <Tensor"),
    ("complex", {"weight": torch.tensor(1j)}, HookDefinitionError, "the weight <Tensor"),
    ("negative", {"weight": -1.0}, RunDefinitionError, "the weight -1.0; a weight counts items"),
    ("negative count", {"weight": -1}, RunDefinitionError, "the weight -1.0"),
    ("infinite", {"weight": float("inf")}, RunDefinitionError, "the weight inf"),
    ("NaN", {"weight": float("nan")}, RunDefinitionError, "the weight nan"),
    ("list of values", {"values": [0.5]}, HookDefinitionError, r"StepOutput\(values=\[0.5\]\); write values={"),
    ("number as values", {"values": torch.ones(())}, HookDefinitionError, "write values={"),
    ("no values", {"values": None}, HookDefinitionError, r"StepOutput\(values=None\)"),
    ("name", {"values": {3: 0.5}}, HookDefinitionError, "gave a value the name 3; a name is a string"),
    ("word as value", {"values": {"acc": "high"}}, HookDefinitionError, "gave the value 'acc' as 'high'; a value"),
    ("vector as value", {"values": {"acc": torch.ones(3)}}, HookDefinitionError, r"'acc' as <Tensor of shape"),
    ("nothing as value", {"values": {"acc": None}}, HookDefinitionError, "the value 'acc' as None"),
    ("object", {"values": {"acc": Odd()}}, HookDefinitionError, r"the value 'acc' as Odd\(\)"),
    ("complex value", {"values": {"acc": 1j}}, HookDefinitionError, "the value 'acc' as 1j"),
    ("negative ratio", {"values": {"acc": Ratio(1.0, -2)}}, HookDefinitionError, "with a count of 0 or more"),
    ("ratio of a word", {"values": {"acc": Ratio("a", 2)}}, HookDefinitionError, "the value 'acc' as Ratio"),  # type: ignore[arg-type]
    ("ratio of vectors", {"values": {"acc": Ratio(torch.ones(2), 2)}}, HookDefinitionError, "'acc' as Ratio"),
    ("reduction", {"reduction": "none"}, HookDefinitionError, r"StepOutput\(reduction='none'\); a loss is the"),
    ("loss as a number", {"loss": 0.5}, HookDefinitionError, "a StepOutput whose loss is 0.5; a loss is a 0-d tensor"),
    ("unreduced loss", {"loss": torch.ones(4)}, HookDefinitionError, r"has shape \(4,\); a loss is a scalar"),
    ("loss of one element", {"loss": torch.ones(1)}, HookDefinitionError, r"has shape \(1,\); a loss is a scalar"),
    ("value named loss", {"values": {"loss": 0.5}}, HookDefinitionError, "gave a value named 'loss', but .*/loss is"),
    ("value below loss", {"values": {"loss/a": 0.5}}, HookDefinitionError, "gave a value named 'loss/a'"),
]  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("changes", "error", "sentence"), [one[1:] for one in WRONG], ids=[one[0] for one in WRONG])
def test_a_field_of_a_wrong_form_names_step_and_field_at_the_first_batch(
    changes: dict[str, Any], error: type[TrainhooksError], sentence: str, training: bool
) -> None:
    model = linear()
    before, steps = weights(model), list[int]()

    def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        steps.append(1)
        output = squares(model, batch)
        fields: dict[str, Any] = {"loss": output.loss, "weight": 4.0, "output": output.output, **changes}
        return StepOutput(fields.pop("loss"), **fields)

    with pytest.raises(error, match=f"step '.*step'.*{sentence}") as caught:
        train(model, batches(3), step, sgd(model), epochs=2) if training else evaluate(model, batches(3), step)
    assert len(str(caught.value)) < 400
    assert steps == [1]
    assert equal(before, weights(model))


@pytest.mark.parametrize(
    "weight", [4, numpy.float32(4.0), numpy.int64(4), numpy.array(4), torch.tensor(4), torch.tensor(4.0).half()]
)
def test_weights_of_any_number_type_count(weight: Any) -> None:
    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(squares(model, batch).loss, weight=weight)

    ours, theirs = linear(), linear()
    found = train(ours, batches(4), step, sgd(ours), epochs=1, accumulate=2)
    expected = train(theirs, batches(4), squares, sgd(theirs), epochs=1, accumulate=2)
    assert found.metrics == expected.metrics
    assert all(map(torch.allclose, weights(ours), weights(theirs)))


def test_a_weight_that_was_computed_from_parameters_is_a_count_all_the_same() -> None:
    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        scale = cast("nn.Linear", model).weight.sum()
        return StepOutput(squares(model, batch).loss, weight=scale * 0.0 + 4.0)

    ours, theirs = linear(), linear()
    train(ours, batches(2), step, sgd(ours), epochs=1)
    train(theirs, batches(2), squares, sgd(theirs), epochs=1)
    assert all(map(torch.allclose, weights(ours), weights(theirs)))


@pytest.mark.parametrize("value", [1, True, 1.0, numpy.float32(1), numpy.bool_(True), numpy.array([1]), torch.ones(1)])
def test_values_of_any_number_type_are_recorded(value: Any) -> None:
    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(squares(model, batch).loss, values=MappingProxyType({"a": value, "b": 0.5}))

    model = linear()
    result = train(model, batches(2), step, sgd(model), epochs=1, evaluations=[Evaluation("val", batches(2))])
    names = ("train/a", "train/b", "val/a", "val/b")
    assert [result.metrics[name] for name in names] == [1.0, 0.5, 1.0, 0.5]


HITS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8)


@given(HITS, st.sampled_from(sorted(FORMS)))
def test_ratios_are_summed_over_the_epoch_and_the_evaluation(hits: list[tuple[int, int]], form: str) -> None:
    of = FORMS[form]

    def step(model: nn.Module, batch: tuple[int, int]) -> StepOutput[None]:
        total = torch.tensor(float("nan")) if batch[1] == 0 else of(float(batch[0]))
        return StepOutput(model(torch.ones(1, 3)).sum(), weight=3.0, values={"hits": Ratio(total, of(float(batch[1])))})

    model = linear()
    result = train(model, hits, step, sgd(model), epochs=1, evaluations=[Evaluation("val", hits)])
    items = sum(count for _, count in hits)
    if not items:
        assert set(result.metrics) == {"train/loss", "val/loss"}
    else:
        expected = sum(total for total, count in hits if count) / items
        assert result.metrics["train/hits"] == result.metrics["val/hits"] == pytest.approx(expected)


def test_a_name_without_items_is_missing_in_that_epoch_and_nobody_is_refused_for_it() -> None:
    seen: list[tuple[float | None, bool]] = []

    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        found.append(1)
        return StepOutput(squares(model, batch).loss, values={"hits": Ratio(1.0, 0.0 if len(found) <= 2 else 4.0)})

    def read(ctx: EpochEnd) -> None:
        seen.append((ctx.metrics.get("train/hits"), "train/hits" in ctx.metrics))

    model, found = linear(), list[int]()
    hooks: HookDict = {"reads": frozenset({"train/hits"}), "on_epoch_end": read}
    result = train(model, batches(2), step, sgd(model), epochs=2, hooks=hooks)
    assert seen == [(None, False), (0.25, True)]
    assert ["train/hits" in row for row in result.history] == [False, True]


def measured(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    output = squares(model, batch)
    assert output.output is not None
    values = {"mae": (output.output - batch[1]).abs().mean()}
    return StepOutput(output.loss, weight=output.weight, output=output.output, target=batch[1], values=values)


def mae(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean()


def test_values_of_the_step_are_recorded_in_evaluations_as_metrics_are() -> None:
    model, data = linear(), UNEVEN
    given_as_value = evaluate(model, data, measured)
    as_metric = evaluate(model, data, squares, metrics={"mae": mae})
    assert given_as_value == pytest.approx(dict(as_metric))
    read: list[float] = []

    def end(ctx: EvaluationEnd) -> None:
        read.append(ctx.metrics["val/mae"])

    hooks: HookDict = {"reads": frozenset({"val/mae"}), "on_evaluation_end": end}
    result = train(model, data, measured, sgd(model), epochs=1, evaluations=[Evaluation("val", data)], hooks=hooks)
    assert {"train/mae", "val/mae"} < set(result.metrics)
    assert read == [result.metrics["val/mae"]]


def test_who_reads_a_value_that_the_evaluation_does_not_bring_is_refused_after_its_first_run() -> None:
    """Keeps P03."""
    evaluated: list[str] = []

    def begin(ctx: Any) -> None:
        evaluated.append(ctx.name)

    model = linear()
    hooks: list[HookDict] = [
        {"name": "reader", "reads": frozenset({"val/a/b"}), "on_epoch_end": print},
        {"on_evaluation_begin": begin},
    ]
    sentence = "'reader' reads 'val/a/b', which the first evaluation 'val' did not bring: neither its step nor a metric"
    with pytest.raises(MissingValueError, match=sentence) as caught:
        train(
            model, UNEVEN, measured, sgd(model), epochs=2, hooks=hooks,
            evaluations=[Evaluation("test", UNEVEN), Evaluation("val", UNEVEN, metrics={"m": mae})],
        )  # fmt: skip
    assert evaluated == ["test", "val"]
    assert caught.value.known == (
        "test/loss", "test/mae", "train/loss", "train/mae", "val/loss", "val/m", "val/mae"
    )  # fmt: skip


def test_a_metric_and_a_value_of_one_name_are_refused_at_the_first_batch() -> None:
    seen: list[int] = []

    def heard(ctx: Any) -> None:
        seen.append(1)

    with pytest.raises(RunDefinitionError, match="'val' both its step and its metric 'mae' give a value named 'mae'"):
        evaluate(
            linear(), UNEVEN, measured, name="val", metrics={"mae": mae}, hooks={"on_after_batch_prediction": heard}
        )
    assert seen == []


def objective(name: str, values: Mapping[str, float]) -> Objective:
    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        part = cast("nn.ModuleDict", model)[name]
        return StepOutput(nn.functional.mse_loss(part(batch[0]), batch[1]), values=values)

    return Objective(name, step, lambda model: sgd(cast("nn.ModuleDict", model)[name]))


def test_values_of_several_objectives_stand_beside_one_another_and_never_for_one_another() -> None:
    model = nn.ModuleDict({"a": linear(), "b": linear(1)})
    objectives = [objective("a", {"x": 1.0}), objective("b", {"y": 2.0})]
    result = train(model, batches(2), None, objectives, epochs=2)
    assert set(result.metrics) == {"train/loss/a", "train/loss/b", "train/x", "train/y"}
    both = [objective("a", {"x": 1.0}), objective("b", {"x": 2.0})]
    with pytest.raises(RunDefinitionError, match="objectives 'a' and 'b' both gave a value named 'x'; train/x has one"):
        train(model, batches(2), None, both, epochs=1)
