"""`supervised` weighs a batch by its items, or says that it cannot."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from tests.loop.programs import linear, sgd, weights
from trainhooks import BatchEnd, HookDefinitionError, StepOutput, evaluate, supervised, train


class Pair(NamedTuple):
    inputs: Tensor
    targets: Tensor


def two_tasks(output: Tensor, targets: Sequence[Tensor]) -> Tensor:
    return mse_loss(output[:, :1], targets[0]) + mse_loss(output[:, 1:], targets[1])


def data(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 3, generator=generator), torch.randn(size, 2, generator=generator)) for size in sizes]


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda y: (y[:, :1], y[:, 1:]),
    "list": lambda y: [y[:, :1], y[:, 1:]],
    "mapping": lambda y: {0: y[:, :1], 1: y[:, 1:]},
}


@pytest.mark.parametrize("form", FORMS)
def test_targets_that_are_no_tensor_need_a_weight(form: str) -> None:
    ours, theirs = linear(), linear()
    several = [(x, FORMS[form](y)) for x, y in data(6, 2)]
    before = weights(ours)
    with pytest.raises(
        HookDefinitionError, match=r"len\(y\) where y is a tensor .* supervised\(two_tasks, weight=lambda"
    ):
        train(ours, several, supervised(two_tasks), sgd(ours), epochs=1)
    assert all(map(torch.equal, before, weights(ours)))
    step = supervised(two_tasks, weight=lambda batch: len(batch[0]))
    found = train(ours, several, step, sgd(ours), epochs=1, accumulate=2)

    def at_once(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return two_tasks(cast("Tensor", model(batch[0])), (batch[1][:, :1], batch[1][:, 1:]))

    whole = cast("list[tuple[Tensor, Tensor]]", [tuple(map(torch.cat, zip(*data(6, 2), strict=True)))])
    expected = train(theirs, whole, at_once, sgd(theirs), epochs=1)
    assert found.metrics == pytest.approx(dict(expected.metrics))
    assert all(map(torch.allclose, weights(ours), weights(theirs)))


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (torch.ones(()), "a tensor without dimensions"),
        ((torch.ones(4), torch.ones(4)), "a tuple of 2"),
        ([1, 2, 3, 4], "a list of 4"),
        ({"a": torch.ones(4)}, "a dict of 1"),
        (None, "a NoneType"),
        (3, "a int"),
    ],
)
def test_what_cannot_be_weighed_is_refused_before_the_model_is_called(y: object, kind: str) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("called")

    with pytest.raises(HookDefinitionError, match=f"got {kind}. Say how many items the loss is a mean of: ") as caught:
        evaluate(Model(), [(torch.ones(4, 3), y)], cast("Any", supervised(two_tasks)))
    assert len(str(caught.value)) < 300


def tokens(sizes: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Sequences of eight tokens, of which so many count."""
    generator = torch.Generator().manual_seed(0)
    found: list[tuple[Tensor, Tensor]] = []
    for size in sizes:
        y = torch.randint(0, 2, (8,), generator=generator)
        y[size:] = -100
        found.append((torch.randn(8, 3, generator=generator), y))
    return found


def test_masked_tokens_and_weighted_classes_weigh_what_they_say() -> None:
    scale, sizes = torch.tensor([1.0, 3.0]), (8, 1, 5)
    x, y = (torch.cat(parts) for parts in zip(*tokens(sizes), strict=True))

    def weighted(output: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(output, y, weight=scale)

    def classes(batch: tuple[Tensor, Tensor]) -> Tensor:
        return scale[batch[1][batch[1] != -100]].sum()

    steps: list[tuple[Any, Tensor | None]] = [
        (supervised(cross_entropy, weight=lambda batch: (batch[1] != -100).sum()), None),
        (supervised(weighted, weight=classes), scale),
    ]
    for step, class_weights in steps:
        model = linear()
        expected = cross_entropy(model(x), y, weight=class_weights).item()
        assert evaluate(model, tokens(sizes), step)["evaluation/loss"] == pytest.approx(expected)


@pytest.mark.parametrize("make", [tuple, list, Pair._make])
def test_pairs_are_tuples_lists_and_named_tuples(make: Callable[[Any], Any]) -> None:
    seen: list[object] = []

    def end(ctx: BatchEnd) -> None:
        seen.append(ctx.weight)

    model = linear()
    train(
        model, [make(one) for one in data(3, 2)], supervised(mse_loss), sgd(model), epochs=1,
        hooks={"on_batch_end": end},
    )  # fmt: skip
    assert seen == [3.0, 2.0]


def a_dict(output: Tensor, y: Tensor) -> Any:
    return {"loss": mse_loss(output, y)}


def unreduced(output: Tensor, y: Tensor) -> Tensor:
    return mse_loss(output, y, reduction="none")


def of_one(value: object) -> float:
    return 0.0


def of_none() -> float:
    return 0.0


def in_words(batch: object) -> Any:
    return "many"


@pytest.mark.parametrize(
    ("loss_fn", "sentence"),
    [
        (a_dict, r"'supervised\(a_dict\)' returned a StepOutput whose loss is {'loss': <Tensor"),
        (unreduced, r"'supervised\(unreduced\)' has shape \(3, 2\); a loss is a scalar, so reduce it"),
        (nn.MSELoss(reduction="none"), r"'supervised\(MSELoss\)' has shape \(3, 2\)"),
    ],
)
def test_a_loss_that_is_no_scalar_names_the_loss_function(loss_fn: Any, sentence: str) -> None:
    model = linear()
    with pytest.raises(HookDefinitionError, match=sentence):
        train(model, data(3), supervised(loss_fn), sgd(model), epochs=1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"loss_fn": nn.MSELoss}, r"loss_fn of supervised is the class MSELoss; give an object: MSELoss\(\.\.\.\)"),
        ({"loss_fn": "mse"}, r"loss_fn of supervised is a function \(output, y\), got 'mse'"),
        ({"loss_fn": of_one}, r"loss_fn of supervised is called as \(output, y\), but `of_one\(value"),
        ({"loss_fn": nn.MSELoss(reduction="sum")}, r"supervised\(MSELoss\) takes .* mean .* reduction='sum'\. Make it"),
        ({"loss_fn": partial(mse_loss, reduction="sum")}, r"this one has reduction='sum'"),
        ({"loss_fn": mse_loss, "weight": 4.0}, r"weight of supervised is a function \(batch\), got 4.0"),
        ({"loss_fn": mse_loss, "weight": of_none}, r"weight of supervised is called as \(batch\), but `of_none"),
    ],
)
def test_arguments_that_are_no_functions_are_refused_at_once(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        supervised(**given)


def test_a_weight_of_a_wrong_form_names_the_step() -> None:
    step: Callable[..., StepOutput[Any]] = supervised(mse_loss, weight=in_words)
    model = linear()
    with pytest.raises(HookDefinitionError, match=r"step 'supervised\(mse_loss\)' gave its loss the weight 'many'"):
        train(model, data(3), step, sgd(model), epochs=1)
