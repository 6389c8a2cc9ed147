"""Evaluations look at the average, training goes on with the model's own weights, and the end is as asked for."""

import signal
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from tests.hooks.averages import average_of, everything, with_buffers
from tests.loop.programs import batches, equal, linear, sgd, squares
from trainhooks import (
    BatchEnd,
    Evaluation,
    EvaluationBegin,
    HookDict,
    HookSet,
    Interrupted,
    MissingValueError,
    Stop,
    Stopped,
    TrainEnd,
    every,
    named,
    train,
)
from trainhooks.hooks.weights import ema, swa


@pytest.mark.parametrize("hooks", [[swa(start=3, every=2)], [swa(start=3, every=2), named("other", swa(start=9))]])
def test_evaluations_see_the_average_once_there_is_one_and_training_does_not(hooks: list[HookSet]) -> None:
    model = with_buffers()
    expected = AveragedModel(model)
    evaluated: list[list[Tensor]] = []
    wanted: list[list[Tensor]] = []

    def look(model: nn.Module, batch: Any) -> Tensor:
        evaluated.append(everything(model))
        return squares(model, batch).loss

    def follow(ctx: BatchEnd) -> None:
        if ctx.at.updates in (3, 5, 7):
            expected.update_parameters(model)
        wanted.append(everything(model if ctx.at.updates < 3 else expected.module))

    train(
        model, batches(8), squares, sgd(model), epochs=1, hooks=[*hooks, {"on_batch_end": follow}],
        evaluations=[Evaluation("val", batches(1), look, when=every(1, "updates"))],
    )  # fmt: skip
    plain = with_buffers()
    train(plain, batches(8), squares, sgd(plain), epochs=1)
    assert len(evaluated) == len(wanted) == 8
    assert all(map(equal, evaluated, wanted))
    assert equal(everything(model), everything(plain))


@pytest.mark.parametrize(("names", "seen"), [(None, {"val", "test"}), (["val"], {"val"}), ((), set[str]())])
def test_only_the_evaluations_that_are_named_see_the_average(names: list[str] | None, seen: set[str]) -> None:
    model, looked = with_buffers(), set[str]()

    def look(ctx: EvaluationBegin) -> None:
        if not equal(everything(model), trained[-1]):
            looked.add(ctx.name)

    trained: list[list[Tensor]] = []
    note: HookDict = {"on_batch_end": lambda ctx: trained.append(everything(model)), "on_evaluation_begin": look}
    train(
        model, batches(4), squares, sgd(model), epochs=1, hooks=[ema(0.9, evaluations=names), note],
        evaluations=[Evaluation("val", batches(1)), Evaluation("test", batches(1))],
    )  # fmt: skip
    assert looked == seen


def test_an_evaluation_that_the_run_does_not_have_is_refused() -> None:
    model = with_buffers()
    with pytest.raises(MissingValueError, match=r"'swa' reads 'vall/loss', which nothing in this run provides"):
        train(
            model, batches(4), squares, sgd(model), epochs=1, hooks=swa(start=1, evaluations={"vall"}),
            evaluations=[Evaluation("val", batches(1))],
        )  # fmt: skip


class Counting(nn.Module):
    """Puts a new tensor in the place of its buffer at each call, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return cast("Tensor", self.inner(x))


def test_a_buffer_that_an_evaluation_replaces_comes_back_too() -> None:
    model = Counting()
    train(model, batches(3), squares, sgd(model), epochs=2, hooks=ema(0.9), evaluations=[Evaluation("val", batches(4))])
    assert float(model.calls) == 6.0


@pytest.mark.parametrize("hooks", [[ema(0.9)], [ema(0.9), swa(start=1)]])
def test_an_evaluation_that_raises_leaves_the_weights_as_they_were(hooks: list[HookSet]) -> None:
    model = with_buffers()
    before: list[list[Tensor]] = []

    def fail(model: nn.Module, batch: Any) -> Tensor:
        assert not equal(everything(model), before[-1])  # it is the average that is looked at
        raise ValueError("broken")

    note: HookDict = {"on_batch_end": lambda ctx: before.append(everything(ctx.run.model))}
    with pytest.raises(ValueError, match="broken"):
        train(
            model, batches(4), squares, sgd(model), epochs=1, hooks=[*hooks, note],
            evaluations=[Evaluation("val", batches(1), fail)],
        )  # fmt: skip
    assert len(before) == 4
    assert equal(everything(model), before[-1])


def test_an_average_that_no_longer_fits_the_model_is_left_in_it_as_far_as_it_does() -> None:
    def change(ctx: TrainEnd) -> None:
        prune.l1_unstructured(cast("Any", ctx.run.model)[0], "weight", amount=1)

    model = with_buffers()
    hooks: list[HookSet | HookDict] = [{"on_train_end": change, "order": -1}, ema(0.9, apply_at_end=True)]
    rest = r"'0\.weight', '0\.weight_mask', '0\.weight_orig'"
    with pytest.warns(RuntimeWarning, match=rf"average of 'ema' was put into the model, .*: {rest} did"):
        result = train(model, batches(4), squares, sgd(model), epochs=1, hooks=hooks)
    weights = average_of(result, "ema").weights
    assert equal([model.get_parameter("0.bias")], [weights["0.bias"]])
    assert equal([model.get_buffer("1.running_mean")], [weights["1.running_mean"]])


def stops(ctx: BatchEnd) -> Stop | None:
    return Stop("enough") if ctx.at.updates == 3 else None


def interrupts(ctx: BatchEnd) -> None:
    if ctx.at.updates == 3:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("hook", [ema(0.9, apply_at_end=True), swa(start=2, apply_at_end=True)])
def test_a_run_that_is_completed_or_stopped_leaves_the_average_in_the_model(hook: HookSet) -> None:
    others: list[list[HookDict]] = [[], [{"on_batch_end": stops}]]
    for stopping in others:
        model = with_buffers()
        result = train(model, batches(4), squares, sgd(model), epochs=1, hooks=[hook, *stopping])
        assert isinstance(result.end, Stopped) == bool(stopping)
        plain = with_buffers()
        train(plain, batches(4), squares, sgd(plain), max_updates=result.at.updates)
        assert equal(everything(model), list(average_of(result, hook.name).weights.values()))
        assert not equal(everything(model), everything(plain))


@pytest.mark.parametrize("hook", [ema(0.9, apply_at_end=True), swa(start=2, apply_at_end=True)])
def test_a_run_that_failed_or_was_interrupted_is_left_as_it_is(hook: HookSet) -> None:
    plain = with_buffers()
    train(plain, batches(4), squares, sgd(plain), max_updates=3)
    model = with_buffers()
    hooks: list[HookSet | HookDict] = [hook, {"on_batch_end": interrupts}]
    result = train(model, batches(4), squares, sgd(model), epochs=1, on_interrupt="return", hooks=hooks)
    assert isinstance(result.end, Interrupted)
    assert equal(everything(model), everything(plain))

    def fail(ctx: BatchEnd) -> None:
        if ctx.at.updates == 3:
            raise ValueError("broken")

    model = with_buffers()
    with pytest.raises(ValueError, match="broken"):
        train(model, batches(4), squares, sgd(model), epochs=1, hooks=[hook, {"on_batch_end": fail}])
    assert equal(everything(model), everything(plain))


def test_without_apply_at_end_or_an_average_the_model_keeps_its_weights() -> None:
    plain = with_buffers()
    train(plain, batches(4), squares, sgd(plain), epochs=1)
    for hook in (ema(0.9), swa(start=1), swa(start=5, apply_at_end=True)):
        model = with_buffers()
        train(model, batches(4), squares, sgd(model), epochs=1, hooks=hook)
        assert equal(everything(model), everything(plain))
