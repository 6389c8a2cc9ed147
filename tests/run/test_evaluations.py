"""An evaluation is checked when it is built, as far as that needs no batch; and it is shown in a line."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from tests.loop.programs import Batch, Dice, Unsized, batches, linear, sgd, squares
from trainhooks import (
    Evaluate,
    Evaluation,
    HookDefinitionError,
    Metric,
    RunDefinitionError,
    TrainhooksError,
    at_points,
    every,
    since,
    train,
)


def once() -> Iterator[Batch]:
    yield from batches(2)


def of_one(output: Tensor) -> float:
    return 0.0


class Half:
    """A part of torchmetrics' shape."""

    def update(self, output: Any, target: Any) -> None: ...
    def compute(self) -> float:
        return 0.0


LOADER: Any = DataLoader([torch.zeros(3)])  # type: ignore[arg-type]
DATA = batches(2)
WRONG: list[tuple[tuple[Any, ...], dict[str, Any], type[TrainhooksError], str]] = [
    ((5, DATA), {}, RunDefinitionError, "cannot be named 5; choose a name such as 'val'"),
    (("", DATA), {}, RunDefinitionError, "cannot be named ''"),
    (("train", DATA), {}, RunDefinitionError, "cannot be named 'train'"),
    (("val", None), {}, RunDefinitionError, "data of the evaluation 'val' is something to iterate over, .* got None"),
    (("val", 5), {}, RunDefinitionError, "got 5"),
    (("val", once), {}, RunDefinitionError, "is something to iterate over"),
    (
        ("val", once()),
        {},
        RunDefinitionError,
        r"'val' is one-shot \(a generator\): it would be used up after the first",
    ),
    (("val", iter(DATA)), {}, RunDefinitionError, "one-shot"),
    (("val", zip(DATA, DATA, strict=True)), {}, RunDefinitionError, "one-shot"),
    (("val", iter(LOADER)), {}, RunDefinitionError, "one-shot"),
    (("val", DATA, "x"), {}, HookDefinitionError, "step of the evaluation 'val' is a function .* got 'x'"),
    (("val", DATA, nn.Linear), {}, HookDefinitionError, "step of the evaluation 'val' is the class Linear"),
    (("val", DATA, of_one), {}, HookDefinitionError, r"step .* is called as \(model, batch\), but `of_one\(output"),
    (
        ("val", DATA),
        {"metrics": [of_one]},
        HookDefinitionError,
        r"metrics of the evaluation 'val' have names, metrics=",
    ),
    (("val", DATA), {"metrics": None}, HookDefinitionError, "have names, metrics={'acc': accuracy}, got None"),
    (("val", DATA), {"metrics": {3: squares}}, RunDefinitionError, "A metric's name is a string, got 3"),
    (("val", DATA), {"metrics": {"loss": squares}}, RunDefinitionError, "named 'loss', but val/loss is the step's own"),
    (("val", DATA), {"metrics": {"loss/a": squares}}, RunDefinitionError, "named 'loss/a'"),
    (
        ("val", DATA),
        {"metrics": {"acc": "acc"}},
        HookDefinitionError,
        "'acc' of the evaluation 'val' is 'acc'; a metric",
    ),
    (("val", DATA), {"metrics": {"acc": Half()}}, HookDefinitionError, "or an object with update, compute and reset"),
    (("val", DATA), {"metrics": {"acc": of_one}}, HookDefinitionError, r"is called as \(output, target\), but `of_one"),
    (
        ("val", DATA),
        {"metrics": {"acc": MulticlassAccuracy}},
        HookDefinitionError,
        r"is the class MulticlassAccuracy; give an object: MulticlassAccuracy\(\.\.\.\)",
    ),
    (("val", DATA), {"when": "epoch"}, RunDefinitionError, r"is a trigger, such as every\(1, 'epochs'\), .* 'epoch'"),
    (("val", DATA), {"when": 5}, RunDefinitionError, "is a trigger, .* got 5"),
    (("val", DATA), {"when": every}, RunDefinitionError, "is a trigger"),
]


@pytest.mark.parametrize(("given", "named", "error", "sentence"), WRONG)
def test_what_can_never_be_evaluated_is_refused_when_it_is_built(
    given: tuple[Any, ...], named: dict[str, Any], error: type[TrainhooksError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        Evaluation(*given, **named)


@pytest.mark.parametrize("data", [DATA, Unsized(DATA), Dice(), LOADER, range(3), ()])
def test_what_can_be_iterated_again_is_data(data: Any) -> None:
    metrics: dict[str, Metric] = {
        "acc": MulticlassAccuracy(2),
        "part": functools.partial(torch.dist, p=1),
        "module": nn.L1Loss(),
    }
    for when in (None, at_points([1], "updates"), since(2, "epochs") & every(1, "epochs")):
        assert Evaluation("val", data, squares, metrics, when).when is when


def test_an_evaluation_is_shown_in_a_line_without_its_data() -> None:
    data = [torch.zeros(1000)] * 1000
    assert repr(Evaluation("val", data)) == "Evaluation('val', <list>, when=every(1, 'epochs'))"
    long = Evaluation("val", data, squares, {"a": MulticlassAccuracy(2), "b": nn.L1Loss()}, None)
    assert repr(long) == "Evaluation('val', <list>, step=squares, metrics=['a', 'b'], when=None)"


def test_an_evaluation_that_is_never_due_comes_when_a_hook_asks_for_it() -> None:
    seen: list[tuple[str, int]] = []

    def ask(ctx: Any) -> Evaluate | None:
        return Evaluate("asked") if ctx.at.updates == 2 else None

    def begin(ctx: Any) -> None:
        seen.append((ctx.name, ctx.at.updates))

    model = linear()
    train(
        model, batches(3), squares, sgd(model), epochs=2, hooks={"on_batch_end": ask, "on_evaluation_begin": begin},
        evaluations=[Evaluation("asked", DATA, when=None), Evaluation("silent", DATA, when=None)],
    )  # fmt: skip
    assert seen == [("asked", 2)]
