"""`evaluate` and `predict`: what they take, what they give, and what they say of hooks that only a run can serve."""

import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, linear, sgd, squares
from trainhooks import (
    BatchPrediction,
    EndEpoch,
    Evaluate,
    EvaluationEnd,
    HookDefinitionError,
    MissingValueError,
    Record,
    RunDefinitionError,
    Save,
    Stop,
    Trigger,
    evaluate,
    every,
    predict,
    quarantine,
    since,
    stateful,
    train,
    when,
)
from trainhooks.hooks import early_stopping, ema

Door = Callable[..., Any]
DATA = batches(3)


def predicting(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, None]:
    return cast("Tensor", model(batch[0])), batch[1], None


def evaluated(**given: Any) -> Any:
    return evaluate(linear(), DATA, squares, **given)


def predicted(**given: Any) -> Any:
    predictions = predict(linear(), DATA, predicting, **given)
    return list(predictions), predictions


def nothing(ctx: object) -> None: ...


DOORS = pytest.mark.parametrize("door", [evaluated, predicted])


def test_an_evaluation_is_a_mapping_whose_missing_names_are_told() -> None:
    found = evaluate(linear(), DATA, squares, name="val")
    assert isinstance(cast("object", found), Mapping)
    assert (list(found), len(found), "val/loss" in found, "val/acc" in found) == (["val/loss"], 1, True, False)
    assert (found.get("val/acc"), {**found}) == (None, {"val/loss": found["val/loss"]})
    assert repr(found) == f"{{'val/loss': {found['val/loss']!r}}}"
    assert found == evaluated(name="val") != evaluated()
    with pytest.raises(MissingValueError, match=r"no value 'val/acc' here. The names that exist: val/loss\."):
        _ = found["val/acc"]


def counting() -> Any:
    def count(ctx: BatchPrediction, seen: int) -> tuple[int, None]:
        return seen + 1, None

    return stateful("counter", int, on_after_batch_prediction=count)


def test_the_states_of_hooks_can_be_had() -> None:
    assert evaluated(hooks=counting()).hook_states == {"counter": 3}
    predictions = predict(linear(), DATA, predicting, hooks=counting())
    assert predictions.hook_states == {"counter": 0}
    next(predictions)
    assert predictions.hook_states == {"counter": 1}
    predictions.close()
    assert list(predictions) == []


def failing(ctx: BatchPrediction) -> None:
    raise ValueError("no")


@DOORS
def test_a_set_that_was_switched_off_is_told_at_the_end(door: Door) -> None:
    hooks = quarantine({"name": "broken", "on_after_batch_prediction": failing})
    with pytest.warns(RuntimeWarning, match="'broken' raised and was switched off: 1 calls failed, 2 were not made"):
        door(hooks=hooks)


@DOORS
def test_a_set_that_was_switched_off_is_told_when_something_else_raises(door: Door) -> None:
    def later(ctx: BatchPrediction) -> None:
        if ctx.index == 1:
            raise KeyError("later")

    hooks = [
        quarantine({"name": "broken", "on_after_batch_prediction": failing}), {"on_after_batch_prediction": later}
    ]  # fmt: skip
    with pytest.warns(RuntimeWarning, match="'broken' raised"), pytest.raises(KeyError, match="later"):
        door(hooks=hooks)


@DOORS
def test_hooks_on_events_that_never_come_are_named(door: Door) -> None:
    hooks: Any = [
        {"name": "late", "on_train_end": print, "on_batch_end": print},
        {"name": "fine", "on_after_batch_prediction": nothing},
        ema(0.9),
    ]
    with pytest.warns(RuntimeWarning) as caught:
        door(hooks=hooks)
    (said,) = [str(one.message) for one in caught]
    name = "evaluate" if door is evaluated else "predict"
    assert said.startswith(
        f"{name} never calls these hooks, whose events come in a run alone: 'late' on on_batch_end, on_"
    )
    assert "'ema' on " in said
    assert "fine" not in said
    assert ("around_evaluation" in said) is (door is predicted)


@DOORS
@pytest.mark.parametrize(
    ("trigger", "fires"),
    [
        (every(2, "updates"), False),
        (since(1, "updates"), False),
        (since(0, "updates"), True),
        (every(1, "epochs"), True),
    ],
)
def test_a_trigger_that_cannot_fire_without_a_run_is_told(door: Door, trigger: Trigger, fires: bool) -> None:
    called: list[BatchPrediction] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        door(hooks=when(trigger, {"name": "rare", "on_after_batch_prediction": called.append}))
    name = "evaluate" if door is evaluated else "predict"
    said = f"when({trigger}, 'rare') can never fire in {name}, which makes no update."
    assert [str(one.message) for one in caught] == ([] if fires else [said])
    assert bool(called) is fires


@DOORS
def test_hooks_whose_events_all_come_are_not_warned_of(door: Door) -> None:
    hooks: dict[str, Any] = {"on_after_batch_prediction": nothing, "on_record": nothing}
    if door is evaluated:
        hooks["on_evaluation_end"] = nothing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        door(hooks=hooks)


@pytest.mark.parametrize("answer", [Stop("bad"), EndEpoch("bad"), Evaluate("val")])
def test_an_answer_that_only_a_run_can_act_on_is_warned_of(answer: object) -> None:
    def end(ctx: EvaluationEnd) -> object:
        return answer

    with pytest.warns(RuntimeWarning, match=f"'hopeful' answered {re.escape(repr(answer))}, on which only a run acts"):
        evaluated(name="val", hooks=cast("Any", {"name": "hopeful", "on_evaluation_end": end}))


def test_a_save_is_refused_where_there_is_no_run() -> None:
    def end(ctx: EvaluationEnd) -> Save:
        return Save("now")

    with pytest.raises(RunDefinitionError, match="asked to save a checkpoint, but this run has nowhere to save to"):
        evaluated(hooks={"on_evaluation_end": end})


def mean(ctx: BatchPrediction) -> Record:
    return Record({"mean": ctx.y_pred.mean(), "index": float(ctx.index)})


def test_what_hooks_record_is_in_the_result_and_in_predictions_warned_of() -> None:
    found = evaluated(hooks={"on_after_batch_prediction": mean})
    assert set(found) == {"evaluation/loss", "mean", "index"}
    assert found["index"] == 2.0
    with pytest.warns(RuntimeWarning, match=r"Hooks recorded \['index', 'mean'\], and no hook of predict hears on_rec"):
        predicted(hooks={"on_after_batch_prediction": mean})
    heard: list[float] = []

    def record(ctx: Any) -> None:
        heard.append(ctx.values["index"])

    predicted(hooks={"on_after_batch_prediction": mean, "on_record": record})
    assert heard == [0.0, 1.0, 2.0]


@DOORS
def test_precision_is_that_of_training(door: Door) -> None:
    seen: list[torch.dtype] = []

    class Model(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            output = super().forward(input)
            seen.append(output.dtype)
            return output

    model = Model(3, 2)
    for precision in ("bf16-mixed", "float32"):
        if door is evaluated:
            evaluate(model, DATA[:1], squares, precision=precision)
        else:
            list(predict(model, DATA[:1], predicting, precision=precision))
    assert seen == [torch.bfloat16, torch.float32]
    assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(RunDefinitionError, match="precision is 'float32', 'bf16-mixed' or 'fp16-mixed', got 'half'"):
        door(precision="half")


@DOORS
def test_transfer_replaces_the_rule_by_which_batches_get_to_the_device(door: Door) -> None:
    seen: list[torch.device] = []

    def transfer(batch: Batch, device: torch.device) -> Batch:
        seen.append(device)
        return batch[0] * 0.0, batch[1]

    def zeros(ctx: BatchPrediction[Batch]) -> None:
        assert not ctx.batch[0].any()

    door(transfer=transfer, hooks={"on_after_batch_prediction": zeros})
    assert seen == [torch.device("cpu")] * 3


@pytest.mark.parametrize("step", [None, "x", nn.Linear, mean])
def test_what_is_no_step_is_refused_when_called(step: Any) -> None:
    for door in (evaluate, predict):
        with pytest.raises(HookDefinitionError, match=r"^The step is "):
            door(linear(), DATA, step)


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"metrics": {"loss": squares}}, RunDefinitionError, "A metric of the evaluation 'val' is named 'loss'"),
        ({"metrics": [squares]}, HookDefinitionError, "metrics of the evaluation 'val' have names"),
        ({"metrics": {"acc": nn.L1Loss}}, HookDefinitionError, "'acc' of the evaluation 'val' is the class L1Loss"),
        ({"name": "train"}, RunDefinitionError, "cannot be named 'train'"),
    ],
)
def test_the_parts_of_an_evaluation_are_checked(given: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        evaluated(**{"name": "val", **given})


def test_a_result_is_shown_in_a_line() -> None:
    model = linear()
    result = train(
        model, DATA, squares, sgd(model), epochs=2, hooks=early_stopping("train/loss", mode="max", patience=1)
    )
    assert repr(result).startswith("TrainResult(Stopped(reason='train/loss was best at")
    assert repr(result).endswith(f", 6 updates in 2 epochs, metrics={dict(result.metrics)})")
    assert "\n" not in repr(result)
    assert len(repr(result)) < 250
