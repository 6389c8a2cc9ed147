"""What cannot be trained on is refused early, with the sentence that helps."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from tests.loop.programs import Batch, batches, equal, linear, sgd, squares, weights
from trainhooks import (
    Evaluation,
    HookDefinitionError,
    HookSet,
    MissingValueError,
    Objective,
    RunDefinitionError,
    TrainhooksError,
    ddp,
    supervised,
    train,
)

MODEL = linear()


def making_lbfgs(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(model.parameters())


def making_for_another(model: nn.Module) -> torch.optim.Optimizer:
    return sgd(MODEL)


def as_it_is(batch: Batch) -> Batch:
    return batch


def making_a_word(model: nn.Module) -> str:
    return "sgd"


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
        ({"precision": torch.bfloat16}, "precision is 'float32', 'bf16-mixed' or 'fp16-mixed', got torch.bfloat16"),
        ({"precision": torch.ones(3)}, r"precision is .*, got <Tensor of shape \(3,\), torch.float32>"),
        ({"parallel": "ddp"}, r"parallel is ddp\(\), fsdp\(\), or None for one process, got 'ddp'"),
        ({"parallel": ddp}, r"parallel is ddp\(\), fsdp\(\), or None for one process, got <function ddp"),
        ({"parallel": True}, r"parallel is ddp\(\), fsdp\(\), or None for one process, got True"),
        ({"on_interrupt": ["ignore"]}, r"on_interrupt is 'raise' or 'return', got \['ignore'\]"),
        ({"resume": torch.ones(2)}, "resume is 'never', 'auto' or 'must', or an update count .*, got <Tensor of"),
        ({"evaluations": [torch.zeros(1000)] * 9}, r"evaluations holds Evaluation\(name, data, ...\), got <Tensor of"),
        ({"evaluations": "val"}, r"evaluations is a list, evaluations=\[Evaluation\(...\)\], got 'val'"),
        ({"model": torch.zeros(1000)}, r"model is a torch.nn.Module, got <Tensor of shape \(1000,\), torch.float32>"),
        ({"on_interrupt": "ignore"}, "on_interrupt is 'raise' or 'return'"),
        ({"seed": "lucky"}, "seed is a whole number or None"),
        ({"device": "gpu"}, "device='gpu' is no device"),
        ({"model": "net"}, "model is a torch.nn.Module, got 'net'"),
        ({"data": 5}, "data is something to iterate over"),
        ({"data": []}, "length 0"),
        (
            {"transfer": "cpu"},
            r"transfer=lambda batch, device: \.\.\., or None; got 'cpu'. Where to train says device=",
        ),
        ({"transfer": torch.device("cpu")}, "transfer is a function that gives the batch on the device"),
        ({"transfer": as_it_is}, r"transfer is called as \(batch, device\), but `as_it_is\(batch"),
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
        ({"optimizer": making_lbfgs}, "LBFGS evaluates the loss several times"),
        ({"optimizer": making_for_another}, "has no parameter of the model"),
        ({"optimizer": making_a_word}, "should make an optimizer of the model, and made 'sgd'"),
        ({"hooks": {"provides": frozenset({"train/loss"}), "on_epoch_end": print}}, "which is the loop's own value"),
    ],
)
def test_arguments_that_contradict_one_another_are_refused(changes: dict[str, Any], sentence: str) -> None:
    refused(RunDefinitionError, sentence, **changes)


@pytest.mark.parametrize(
    ("hooks", "sentence"),
    [
        ({"on_bach_end": print}, "'on_bach_end' is no event; did you mean 'on_batch_end'"),
        (
            {"on_batch_end": lambda: None},
            r"on_batch_end is called as \(ctx\), but `lambda@test_bad_input.py:\d+\(\)` at",
        ),
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
    sentence = re.escape(
        "'reader' reads 'val/acc', which nothing in this run provides. The names that exist: gap, train/loss, val/loss."
    )
    step = supervised(nn.functional.mse_loss)  # a step that never gives values
    refused(MissingValueError, sentence, hooks=hooks, step=step, evaluations=[Evaluation("val", batches(1))])


def test_a_reader_of_the_loss_of_several_objectives_is_told_their_names() -> None:
    """Keeps P03."""
    objectives = [Objective("a", squares, sgd), Objective("b", squares, sgd)]
    sentence = "'reader' reads 'train/loss', which nothing in this run provides. The names that exist: "
    refused(
        MissingValueError, sentence + "train/loss/a, train/loss/b", step=None, optimizer=objectives,
        hooks={"name": "reader", "reads": frozenset({"train/loss"}), "on_epoch_end": print},
    )  # fmt: skip
