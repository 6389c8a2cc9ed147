"""Metrics get other names before anybody sees them, and are shown as lines of text."""

import io
import sys
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import (
    Evaluation,
    EvaluationEnd,
    HookDict,
    HookSet,
    MissingValueError,
    Stopped,
    TrainResult,
    at_points,
    every,
    named,
    train,
)
from trainhooks.errors import HookDefinitionError, RunDefinitionError
from trainhooks.hooks import early_stopping
from trainhooks.hooks.metrics import performance_report, rename_metrics
from trainhooks.run import evaluate


def scores(*values: float) -> dict[str, Any]:
    """A metric that gives these values, one at each evaluation of one batch."""
    waiting: Iterator[float] = iter(values)

    def score(output: object, target: object) -> float:
        return next(waiting)

    return {"score": score}


def run(*hooks: HookSet | HookDict, epochs: int = 2, evaluations: Sequence[Evaluation] = ()) -> TrainResult:
    model = linear()
    own = [Evaluation("val", batches(1), metrics=scores(5, 4, 3, 3, 3, 3))]
    return train(
        model, batches(2), squares, sgd(model), epochs=epochs, hooks=list(hooks), evaluations=evaluations or own
    )  # fmt: skip


def test_values_are_renamed_in_place_and_the_old_names_are_gone() -> None:
    seen: list[tuple[str, ...]] = []

    def note(ctx: EvaluationEnd) -> None:
        seen.append(tuple(ctx.metrics))

    plain = run()
    result = run(rename_metrics({"val/score": "points"}), {"on_evaluation_end": note})
    assert seen == [("val/loss", "points")] * 2
    assert list(result.metrics) == ["train/loss", "val/loss", "points"]
    assert result.metrics["points"] == plain.metrics["val/score"] == 4
    assert [list(row) for row in result.history] == [["epoch", "updates", "train/loss", "val/loss", "points"]] * 2


def test_a_new_name_can_be_monitored() -> None:
    result = run(
        rename_metrics({"val/score": "points"}), early_stopping("points", mode="min", patience=2), epochs=6
    )  # fmt: skip
    assert result.at.epochs == 5
    assert isinstance(result.end, Stopped)


def test_a_function_renames_each_name_and_says_what_it_provides() -> None:
    hook = rename_metrics(lambda name: name.replace("val/", "valid."), provides=["valid.score"])
    result = run(hook, early_stopping("valid.score", mode="max", patience=1), epochs=6)
    assert list(result.metrics) == ["train/loss", "valid.loss", "valid.score"]
    assert result.at.epochs == 2


def test_two_sets_rename_one_after_the_other_and_none_takes_a_name_of_the_loop() -> None:
    swapped = rename_metrics({"a/loss": "a/score", "a/score": "a/loss"})
    model = linear()
    plain = evaluate(model, batches(1), squares, name="a", metrics=scores(7))
    with pytest.raises(RunDefinitionError, match="which is the loop's own value"):
        evaluate(model, batches(1), squares, name="a", metrics=scores(7), hooks=swapped)
    twice = [rename_metrics({"a/score": "b"}), named("then", rename_metrics(lambda name: name.replace("b", "c")))]
    found = evaluate(model, batches(1), squares, name="a", metrics=scores(7), hooks=twice)
    assert found == {"a/loss": plain["a/loss"], "c": 7}


def test_an_old_name_that_does_not_exist_is_refused_with_the_names_that_do() -> None:
    with pytest.raises(
        MissingValueError, match=r"'val/scor', which .* The names that do: val/loss, val/score\."
    ) as caught:
        run(rename_metrics({"val/scor": "points"}))
    assert (caught.value.name, caught.value.known) == ("val/scor", ("val/loss", "val/score"))
    assert "points" not in run(rename_metrics({"val/scor": "points"}, strict=False)).metrics


def test_an_old_name_of_another_evaluation_is_met_where_it_belongs() -> None:
    evaluations = [Evaluation("val", batches(1)), Evaluation("test", batches(1), when=every(2, "epochs"))]
    result = run(rename_metrics({"test/loss": "final", "val/loss": "each"}), evaluations=evaluations)
    assert list(result.metrics) == ["train/loss", "each", "final"]


def test_an_old_name_that_begins_with_no_evaluation_is_warned_of_at_the_end() -> None:
    with pytest.warns(RuntimeWarning, match=r"to rename 'vall/loss', which no .* had: val/loss, val/score\."):
        run(rename_metrics({"vall/loss": "a", "val/loss": "b"}))
    run(rename_metrics({"vall/loss": "a"}, strict=False))


def test_two_values_never_share_a_name() -> None:
    with pytest.raises(HookDefinitionError, match="gives 'val/loss' and 'val/score' one name, 'same'"):
        run(rename_metrics(lambda name: "same"))
    with pytest.raises(HookDefinitionError, match="gives 'val/loss' and 'val/score' one name, 'val/loss'"):
        run(rename_metrics(lambda name: "val/loss"))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({}, "takes new names by old ones"),
        ({"a": 1}, "takes new names by old ones"),
        ({"a": ""}, "takes new names by old ones"),
        ("val/loss", "or a function from name to name, got 'val/loss'"),
        ({"a": "c", "b": "c"}, "gives two values one name"),
    ],
)
def test_names_that_make_no_sense_are_refused(names: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        rename_metrics(names)


def test_a_function_that_returns_no_name_is_refused() -> None:
    with pytest.raises(HookDefinitionError, match="made None of 'val/loss'"):
        run(rename_metrics(cast("Any", {}.get)))


def test_a_report_shows_what_is_what_was_and_the_change() -> None:
    out = io.StringIO()
    run(performance_report(names=["val/score"], stream=out))
    assert out.getvalue().splitlines() == [
        "epoch 1 at update 2           now        before        change",
        "val/score                       5",
        "epoch 2 at update 4           now        before        change",
        "val/score                       4             5            -1",
    ]


def test_a_report_shows_all_values_by_name_after_those_that_it_was_given() -> None:
    out = io.StringIO()
    result = run(performance_report(names=["val/loss", "*"], stream=out), epochs=1)
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["epoch", "val/loss", "train/loss", "val/score"]
    assert [line.split()[1] for line in lines[1:]] == [
        f"{result.metrics[name]:.6g}" for name in ("val/loss", "train/loss", "val/score")
    ]


def test_an_evaluation_within_an_epoch_has_a_table_of_what_is_new() -> None:
    out = io.StringIO()
    first = Evaluation("test", batches(1), when=at_points([1], "updates"))
    evaluations = [first, Evaluation("val", batches(1), when=every(2, "updates"))]
    model = linear()
    report = performance_report(stream=out)
    train(model, batches(3), squares, sgd(model), epochs=1, evaluations=evaluations, hooks=report)
    assert [line[:17].rstrip() for line in out.getvalue().splitlines()] == [
        "test at update 1", "test/loss",
        "val at update 2", "val/loss",
        "epoch 1 at update", "test/loss", "train/loss", "val/loss",
    ]  # fmt: skip


def test_a_report_goes_to_standard_output_as_it_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = performance_report(names=["val/score"])
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    run(hook, epochs=1)
    assert len(out.getvalue().splitlines()) == 2


def test_a_report_of_a_value_that_nothing_provides_is_refused() -> None:
    """Keeps P03."""
    with pytest.raises(MissingValueError, match="'performance_report' reads 'val/acc'"):
        run(performance_report(names=["val/acc"]))
    with pytest.raises(HookDefinitionError, match=r"names is a collection of names of values, .* got 'val/acc'"):
        performance_report(names="val/acc")
    with pytest.raises(HookDefinitionError, match=r"names is a collection .* got \[\]"):
        performance_report(names=[])
