"""Evaluations look at a model and leave it as it was."""

import random
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from tests.loop.programs import (
    Batch,
    Dice,
    batches,
    deep,
    equal,
    linear,
    listener,
    mean_loss,
    sgd,
    squares,
    weights,
)
from trainhooks import (
    BatchEnd,
    BatchPrediction,
    EpochEnd,
    Evaluation,
    EvaluationBegin,
    EvaluationEnd,
    HookDefinitionError,
    HookDict,
    Record,
    Recorded,
    RunDefinitionError,
    StepOutput,
    evaluate,
    every,
    predict,
    stateful,
    supervised,
    train,
)


@given(st.lists(st.booleans(), min_size=7, max_size=7), st.sampled_from(["no", "step", "hook"]))
def test_every_module_keeps_its_mode(modes: list[bool], fails: str) -> None:
    """Keeps P55."""
    model = deep()
    modules = list(model.modules())
    for module, mode in zip(modules, modes, strict=False):
        module.training = mode
    before = [module.training for module in modules]

    def step(model: nn.Module, batch: Batch) -> Tensor:
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        if fails == "step":
            raise ValueError("no")
        return squares(model, batch).loss

    def hook(ctx: EvaluationEnd) -> None:
        if fails == "hook":
            raise ValueError("no")

    if fails == "no":
        evaluate(model, batches(2), step, hooks={"on_evaluation_end": hook})
    else:
        with pytest.raises(ValueError, match="no"):
            evaluate(model, batches(2), step, hooks={"on_evaluation_end": hook})
    assert [module.training for module in modules] == before
    assert torch.is_grad_enabled()


def test_modes_are_restored_after_training_and_within_it() -> None:
    """Keeps P55."""
    model = deep()
    model[1].eval()
    before = [module.training for module in model.modules()]
    seen: list[bool] = []

    def freeze(ctx: object) -> None:
        model[1].eval()

    def look(ctx: BatchEnd) -> None:
        seen.append(model[1].training)

    with pytest.warns(RuntimeWarning, match="in eval mode while others were in train mode"):
        train(
            model, batches(2), squares, sgd(model), epochs=2, evaluations=[Evaluation("val", batches(1))],
            hooks={"on_train_begin": freeze, "on_batch_end": look},
        )
    assert seen == [False] * 4
    assert [module.training for module in model.modules()] == before


def test_only_random_streams_that_have_changed_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads may draw from the others meanwhile, and would draw the same numbers again."""

    def refuse(state: object) -> None:
        raise AssertionError("nobody drew from it")

    def draw(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        torch.rand(1)
        return squares(model, batch)

    def draw_too(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, None]:
        drawn.append(torch.rand(1).item())
        return model(batch[0]), batch[1], None

    model, drawn = deep(), list[float]()
    monkeypatch.setattr(random, "setstate", refuse)
    monkeypatch.setattr(numpy.random, "set_state", refuse)
    before = torch.get_rng_state()
    evaluate(model, batches(2), draw)
    for _ in predict(model, batches(2), draw_too):
        assert torch.equal(torch.get_rng_state(), before)
    assert len(set(drawn)) == 2
    monkeypatch.setattr(torch, "set_rng_state", refuse)
    evaluate(model, batches(2), squares)


def test_evaluations_and_observers_change_no_trained_parameter() -> None:
    """Keeps P08."""

    def trained(evaluations: list[Evaluation], *events: str) -> tuple[list[Tensor], float, float]:
        model = deep()
        hooks = [listener("o", [], *events)] if events else []
        train(model, batches(3), squares, sgd(model), epochs=2, seed=5, evaluations=evaluations, hooks=hooks)
        return weights(model), random.random(), float(numpy.random.rand())

    bare = trained([])
    for other in (
        trained([Evaluation("val", Dice(), when=every(1, "updates"))]),
        trained([Evaluation("a", Dice()), Evaluation("b", Dice(), when=every(2, "updates"))]),
        trained([], "on_batch_end", "on_after_gradient_update", "around_epoch"),
        trained([Evaluation("val", Dice())], "on_evaluation_end", "on_record", "transform_metrics"),
    ):
        assert equal(bare[0], other[0])
        assert bare[1:] == other[1:]


def test_what_a_hook_receives_does_not_depend_on_the_others() -> None:
    """Keeps P08."""

    def seen(*others: HookDict) -> list[object]:
        model, found = linear(), list[object]()

        def end(ctx: EpochEnd) -> None:
            found.append((ctx.at, dict(ctx.metrics)))

        train(
            model, batches(3), squares, sgd(model), epochs=2, hooks=[*others, {"name": "me", "on_epoch_end": end}],
            evaluations=[Evaluation("val", batches(1))],
        )  # fmt: skip
        return found

    def noisy(ctx: EpochEnd) -> Record:
        return Record({"noise": 1.0})

    assert seen() == seen({"on_epoch_end": noisy}) == seen({"order": 5, "on_epoch_end": noisy})


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) == target).float().mean()


def labelled(sizes: tuple[int, ...]) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 3, generator=generator), torch.randint(0, 2, (size,), generator=generator)) for size in sizes
    ]


def test_every_item_has_weight_one() -> None:
    model, data = linear(), labelled((5, 1, 2))
    whole = [cast("Batch", tuple(torch.cat(parts) for parts in zip(*data, strict=True)))]
    step = supervised(nn.functional.cross_entropy)
    counting = MulticlassAccuracy(2, average="micro")
    parts, at_once = (
        evaluate(model, one, step, name="test", metrics={"acc": accuracy, "torch": counting}) for one in (data, whole)
    )
    assert set(parts) == {"test/loss", "test/acc", "test/torch"}
    assert parts == pytest.approx(dict(at_once))
    assert parts["test/acc"] == pytest.approx(parts["test/torch"])


def test_an_object_that_counts_is_reset_for_each_evaluation() -> None:
    model, data, found = linear(), labelled((4, 4)), list[tuple[float, float]]()
    metric = MulticlassAccuracy(2, average="micro")

    def end(ctx: EvaluationEnd) -> None:
        found.append((ctx.metrics["val/a"], ctx.metrics["val/b"]))

    train(
        model, data, supervised(nn.functional.cross_entropy), sgd(model), epochs=3, hooks={"on_evaluation_end": end},
        evaluations=[Evaluation("val", labelled((3, 2)), metrics={"a": metric, "b": accuracy})],
    )  # fmt: skip
    assert len(found) == 3
    assert all(a == pytest.approx(b) for a, b in found)


def test_metrics_can_be_renamed_and_derived() -> None:
    seen: list[dict[str, float]] = []

    def rename(ctx: EvaluationEnd, metrics: Mapping[str, float]) -> Mapping[str, float]:
        assert dict(ctx.metrics) == dict(metrics)
        return {"val/rmse": metrics["val/loss"] ** 0.5}

    def end(ctx: EvaluationEnd) -> None:
        seen.append(dict(ctx.metrics))

    model = linear()
    result = train(
        model, batches(2), squares, sgd(model), epochs=1, evaluations=[Evaluation("val", batches(1))],
        hooks=[{"transform_metrics": rename}, {"on_evaluation_end": end}],
    )  # fmt: skip
    assert [set(one) for one in seen] == [{"val/rmse"}]
    assert "val/loss" not in result.metrics
    assert result.metrics["val/rmse"] == seen[0]["val/rmse"]


def test_around_evaluation_wraps_what_is_evaluated_and_is_left_on_exceptions() -> None:
    model, live = linear(), list[float]()

    @contextmanager
    def swapped(ctx: EvaluationBegin) -> Generator[None]:
        kept = weights(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(model.parameters(), kept, strict=True):
                    parameter.copy_(value)

    def look(ctx: BatchPrediction) -> None:
        live.append(float(model.weight.detach().abs().sum()))
        raise ValueError("no")

    before = weights(model)
    with pytest.raises(ValueError, match="no"):
        evaluate(
            model, batches(1), squares, hooks=[{"around_evaluation": swapped}, {"on_after_batch_prediction": look}]
        )
    assert live == [0.0]
    assert equal(before, weights(model))


def test_the_hooks_of_an_evaluation_hear_records_and_keep_state() -> None:
    model, got = linear(), list[tuple[str, int]]()

    def count(ctx: BatchPrediction, seen: int) -> tuple[int, Record]:
        return seen + 1, Record({"seen": float(seen + 1)})

    def hear(ctx: Recorded) -> None:
        got.extend((name, int(value)) for name, value in ctx.values.items() if name == "seen")

    evaluate(
        model, batches(3), squares,
        hooks=[stateful("counter", lambda: 0, on_after_batch_prediction=count), {"on_record": hear}],
    )  # fmt: skip
    assert got == [("seen", 1), ("seen", 2), ("seen", 3)]


def number(model: nn.Module, batch: Batch) -> float:
    return 1.0


def word(output: Tensor, target: Tensor) -> str:
    return "high"


@pytest.mark.parametrize(
    ("step", "metrics", "sentence"),
    [
        (mean_loss, {"acc": accuracy}, "returned no output"),
        (squares, {"bad": word}, "the metric 'bad' gave 'high'"),
        (number, {}, "returns a scalar tensor"),
    ],
)
def test_an_evaluation_without_what_it_needs_says_so(step: Any, metrics: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=f"(?i){sentence}"):
        evaluate(linear(), batches(1), step, metrics=metrics)


def test_an_evaluation_of_nothing_is_refused() -> None:
    with pytest.raises(RunDefinitionError, match="length 0"):
        evaluate(linear(), [], squares)
    with pytest.raises(RunDefinitionError, match="'test' gave no batch"):
        evaluate(linear(), iter(batches(0)), squares, name="test")


def test_an_evaluation_can_have_its_own_step() -> None:
    def ones(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        return StepOutput(torch.ones(()), weight=1.0)

    model = linear()
    result = train(
        model, batches(1), squares, sgd(model), epochs=1, evaluations=[Evaluation("own", batches(2), step=ones)]
    )
    assert result.metrics["own/loss"] == 1.0
