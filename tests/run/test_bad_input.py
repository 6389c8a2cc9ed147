"""What cannot be trained on is refused early, with the sentence that helps."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, Unsized, batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchBegin,
    BatchEnd,
    Evaluate,
    Evaluation,
    HookDefinitionError,
    HookSet,
    MissingValueError,
    Objective,
    Record,
    RunDefinitionError,
    Save,
    SkipBatch,
    StepOutput,
    TrainhooksError,
    every,
    supervised,
    train,
    when,
)

MODEL = linear()


def refused(error: type[TrainhooksError], sentence: str, **changes: Any) -> None:
    """The run is refused with this sentence, and nothing has moved."""
    model, read = linear(), list[int]()
    before = weights(model)

    class Data:
        def __iter__(self) -> Iterator[Batch]:
            read.append(1)
            return iter(batches(2))

        def __len__(self) -> int:
            return 2

    arguments: dict[str, Any] = {
        "model": model, "data": Data(), "step": squares, "optimizer": sgd(model), "epochs": 1, **changes,
    }  # fmt: skip
    with pytest.raises(error, match=sentence):
        train(**arguments)
    assert read == []
    assert equal(before, weights(model))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": None}, r"needs an end: give epochs=, max_updates=, or both"),
        ({"epochs": -1}, "epochs is a whole number from 0 on, got -1"),
        ({"epochs": 1.5}, "epochs is a whole number"),
        ({"epochs": True}, "epochs is a whole number"),
        ({"max_updates": -3}, "max_updates is a whole number"),
        ({"accumulate": 0}, "accumulate is a whole number from 1 on, got 0"),
        ({"accumulate": None}, "accumulate is a whole number"),
        ({"precision": "float16"}, "precision is 'float32', 'bf16-mixed' or 'fp16-mixed', got 'float16'"),
        ({"on_interrupt": "ignore"}, "on_interrupt is 'raise' or 'return'"),
        ({"seed": "lucky"}, "seed is a whole number or None"),
        ({"device": "gpu"}, "device='gpu' is no device"),
        ({"model": "net"}, "model is a torch.nn.Module, got 'net'"),
        ({"data": 5}, "data is something to iterate over"),
        ({"data": []}, "length 0"),
        ({"data": iter(batches(2)), "epochs": 2}, "one-shot"),
        ({"data": (one for one in batches(2)), "epochs": 2}, "one-shot"),
        ({"data": zip(batches(2), batches(2), strict=True), "epochs": 3}, "one-shot"),
        ({"step": None}, "needs a step and an optimizer"),
        ({"optimizer": None}, "needs a step and an optimizer"),
        ({"optimizer": torch.optim.SGD}, "or a function of the model that makes one"),
        ({"optimizer": 0.1}, "or a function of the model that makes one"),
        ({"optimizer": sgd(MODEL)}, "has no parameter of the model"),
        ({"step": None, "optimizer": []}, "list of objectives is empty"),
        ({"step": None, "optimizer": [sgd(MODEL)]}, r"holds Objective\(name, step, optimizer\)"),
        ({"optimizer": Objective("a", squares, sgd)}, "Objectives come in a list"),
        ({"optimizer": [Objective("a", squares, sgd)]}, "Objectives bring their own steps"),
        ({"step": None, "optimizer": [Objective("a", squares, sgd)] * 2}, "Two objectives are named 'a'"),
        ({"evaluations": Evaluation("val", batches(1))}, r"evaluations is a list, evaluations=\[Evaluation"),
        ({"evaluations": [batches(1)]}, r"evaluations holds Evaluation\(name, data"),
        ({"evaluations": [Evaluation("val", batches(1))] * 2}, "Two evaluations are named 'val'"),
        ({"evaluations": [Evaluation("train", batches(1))]}, "cannot be named 'train'"),
        ({"evaluations": [Evaluation("val", [])]}, "evaluation 'val' has length 0"),
        (
            {
                "step": None,
                "optimizer": [Objective("a", squares, sgd), Objective("b", squares, sgd)],
                "evaluations": [Evaluation("val", batches(1))],
            },
            "'val' has no step",
        ),
        ({"optimizer": torch.optim.LBFGS(MODEL.parameters())}, "LBFGS evaluates the loss several times in a step"),
        ({"optimizer": lambda model: torch.optim.LBFGS(model.parameters())}, "LBFGS evaluates the loss several times"),
        ({"optimizer": lambda model: sgd(MODEL)}, "has no parameter of the model"),
        ({"optimizer": lambda model: "sgd"}, "should make an optimizer of the model, and made 'sgd'"),
        ({"hooks": {"provides": frozenset({"train/loss"}), "on_epoch_end": print}}, "which is the loop's own value"),
    ],
)
def test_arguments_that_contradict_one_another_are_refused(changes: dict[str, Any], sentence: str) -> None:
    refused(RunDefinitionError, sentence, **changes)


@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
def test_a_precision_that_is_not_there_yet_is_refused_and_not_ignored(precision: str) -> None:
    refused(RunDefinitionError, "is not there yet", precision=precision)


@pytest.mark.parametrize(
    ("hooks", "sentence"),
    [
        ({"on_bach_end": print}, "'on_bach_end' is no event; did you mean 'on_batch_end'"),
        ({"on_batch_end": lambda: None}, r"on_batch_end is called as \(ctx\), but `lambda@test_bad_input.py:\d+\(\)` at"),
        (print, "say when: {'on_batch_end': print}"),
        (HookSet, "got the class HookSet; give an instance"),
        ({}, "needs a hook on some event"),
        ("on_batch_end", "is no hook"),
        (5, "is no hook"),
        ({"on_batch_end": 5}, "wants a callable"),
        ({"on_batch_end": print, "order": "first"}, "order is a whole number"),
        ({"on_batch_end": print, "before": "other"}, r"before is a set of names, got 'other'"),
        ({"on_batch_end": print, "writes": frozenset({"weights"})}, "writes got 'weights'; a set can declare"),
    ],
)
def test_a_hook_that_can_never_work_is_refused(hooks: object, sentence: str) -> None:
    refused(HookDefinitionError, sentence, hooks=hooks)


def test_a_reader_without_a_provider_is_refused_with_the_names_that_exist() -> None:
    """Keeps P03."""
    hooks = [
        {"name": "reader", "reads": frozenset({"val/acc"}), "on_epoch_end": print},
        {"name": "other", "provides": frozenset({"gap"}), "on_epoch_end": print},
    ]
    sentence = re.escape("'reader' reads 'val/acc', which nothing in this run provides. The names that exist: gap, train/loss, val/loss.")
    refused(MissingValueError, sentence, hooks=hooks, evaluations=[Evaluation("val", batches(1))])


def running(**changes: Any) -> Any:
    model = linear()
    return train(**{"model": model, "data": batches(2), "step": squares, "optimizer": sgd(model), "epochs": 2, **changes})


def test_a_value_of_the_step_that_never_comes_is_an_error_after_the_first_epoch() -> None:
    seen: list[int] = []

    def note(ctx: BatchEnd) -> None:
        seen.append(ctx.at.epoch)

    hooks = [{"name": "reader", "reads": frozenset({"train/acc"}), "on_epoch_end": print}, {"on_batch_end": note}]
    with pytest.raises(MissingValueError, match=r"'reader' reads 'train/acc', which the first epoch did not bring") as caught:
        running(hooks=hooks)
    assert caught.value.name == "train/acc"
    assert caught.value.known == ("train/loss",)
    assert seen == [0, 0]


def test_a_value_of_the_step_that_comes_can_be_read() -> None:
    seen: list[float] = []

    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(squares(model, batch).loss, 4.0, values={"acc": 0.5})

    hooks = {"reads": frozenset({"train/acc"}), "on_epoch_end": lambda ctx: seen.append(ctx.metrics["train/acc"])}
    running(step=step, hooks=hooks)
    assert seen == [0.5, 0.5]


def test_a_monitor_that_never_appears_is_named_when_the_run_ends() -> None:
    hooks = [
        {"name": "reader", "reads": frozenset({"gap"}), "on_epoch_end": lambda ctx: None},
        {"name": "provider", "provides": frozenset({"gap"}), "on_epoch_end": lambda ctx: None},
    ]
    with pytest.warns(RuntimeWarning, match="'reader' reads 'gap', which never appeared in this run; the names that did: train/loss"):
        running(hooks=hooks)


def test_a_value_of_the_step_cannot_take_a_name_of_the_loop() -> None:
    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(squares(model, batch).loss, 4.0, values={"loss": 0.5})

    with pytest.raises(HookDefinitionError, match="gave a value named 'loss', but train/loss is the loop's own"):
        running(step=step)


@pytest.mark.parametrize("sized", [True, False])
def test_an_epoch_without_a_batch_is_an_error(sized: bool) -> None:
    class OneShot:
        def __init__(self) -> None:
            self.left = iter(batches(2))

        def __iter__(self) -> Iterator[Batch]:
            return self.left

    with pytest.raises(RunDefinitionError, match="gave no batch; train needs at least one"):
        running(data=Unsized([]))
    with pytest.raises(RunDefinitionError, match=r"gave no batch in epoch 1: it is one-shot"):
        running(data=OneShot())


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (1.5, r"A step returns a scalar tensor \(the loss\) or a StepOutput, but '.*step' returned 1.5"),
        (None, "returned None"),
        (torch.ones(2, requires_grad=True), r"'.*step' has shape \(2,\); a loss is a scalar"),
        (torch.ones(()), "does not require grad; was it detached"),
    ],
)
def test_a_step_that_returns_something_else_is_named(returned: object, sentence: str) -> None:
    def step(model: nn.Module, batch: Batch) -> object:
        return returned

    with pytest.raises(HookDefinitionError, match=sentence):
        running(step=step)


@pytest.mark.parametrize(
    ("event", "answer", "sentence"),
    [
        ("on_batch_end", SkipBatch("no"), r"'odd' answered SkipBatch\(reason='no'\) to on_batch_end, which takes Stop"),
        ("on_batch_end", 5, "'odd' answered 5 to on_batch_end"),
        ("on_train_end", Evaluate("val"), "to on_train_end, which takes nothing"),
        ("on_record", Record({"x": 1.0}), "to on_record, which takes nothing"),
        ("on_batch_end", Record({"x": "high"}), "recorded 'x' as 'high'; record a number"),
        ("on_batch_end", Record({"x": torch.ones(2)}), r"tensor of shape \(2,\); record one real number"),
    ],
)
def test_an_answer_that_the_event_does_not_take_is_named_with_its_hook(event: str, answer: object, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        running(hooks={"name": "odd", event: lambda ctx: answer})


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (Evaluate("test"), MissingValueError, r"'odd' asked for Evaluate\('test'\), but the run's evaluations are: val"),
        (Save("now"), RunDefinitionError, "'odd' asked to save a checkpoint, but this run has nowhere to save to"),
        (Record({"val/loss": 1.0}), RunDefinitionError, "'odd' recorded 'val/loss', which is the loop's own value"),
    ],
)
def test_an_answer_that_this_run_cannot_act_on_is_named_with_its_hook(
    answer: object, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        running(hooks={"name": "odd", "on_batch_end": lambda ctx: answer}, evaluations=[Evaluation("val", batches(1))])


def test_two_sources_of_one_value_are_refused() -> None:
    hooks = [{"name": name, "on_batch_end": lambda ctx: Record({"x": 1.0})} for name in ("a", "b")]
    with pytest.raises(RunDefinitionError, match="'a' and 'b' both record 'x'; a name has one source"):
        running(hooks=hooks)


def test_triggers_that_can_never_fire_warn() -> None:
    def nothing(ctx: BatchBegin) -> None: ...

    with pytest.warns(RuntimeWarning, match=r"when\(every\(5, 'updates'\), 'rare'\) can never fire on on_batch_begin"):
        running(hooks=when(every(5, "updates"), {"name": "rare", "on_batch_begin": nothing}))
    with pytest.warns(RuntimeWarning, match=r"evaluation 'val', when=every\(3, 'epochs'\), can never be due"):
        running(evaluations=[Evaluation("val", batches(1), when=every(3, "epochs"))])


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ((torch.ones(2, 3),), r"is for batches of pairs \(x, y\), and got a tuple of 1"),
        (torch.ones(2, 3), r"and got a Tensor of 2"),
        ((torch.ones(2, 3), torch.ones(())), r"weighs a batch by len\(y\)"),
        ((torch.ones(2, 3), {"a": torch.ones(2)}), r"weighs a batch by len\(y\)"),
    ],
)
def test_a_batch_that_is_no_pair_is_not_for_supervised(batch: object, sentence: str) -> None:
    def loss(output: Tensor, target: object) -> Tensor:
        return output.mean()

    with pytest.raises(HookDefinitionError, match=sentence):
        running(data=[batch], step=supervised(loss))
