"""What only the run can find out is an error that names its cause."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, Unsized, batches, linear, sgd, squares
from trainhooks import (
    BatchBegin,
    BatchEnd,
    EpochEnd,
    Evaluate,
    Evaluation,
    HookDefinitionError,
    HookDict,
    MissingValueError,
    Record,
    RunDefinitionError,
    Save,
    SkipBatch,
    StepOutput,
    Stop,
    Stopped,
    every,
    supervised,
    train,
    when,
)


def running(**changes: Any) -> Any:
    model = linear()
    arguments: dict[str, Any] = {
        "model": model, "data": batches(2), "step": squares, "optimizer": sgd(model), "epochs": 2, **changes,
    }  # fmt: skip
    return train(**arguments)


def test_a_value_of_the_step_that_never_comes_is_an_error_after_the_first_epoch() -> None:
    seen: list[int] = []

    def note(ctx: BatchEnd) -> None:
        seen.append(ctx.at.epoch)

    hooks = [{"name": "reader", "reads": frozenset({"train/acc"}), "on_epoch_end": print}, {"on_batch_end": note}]
    sentence = "'reader' reads 'train/acc', which the first epoch did not bring"
    with pytest.raises(MissingValueError, match=sentence) as caught:
        running(hooks=hooks)
    assert caught.value.name == "train/acc"
    assert caught.value.known == ("train/loss",)
    assert seen == [0, 0]


def test_a_value_of_the_step_that_comes_can_be_read() -> None:
    seen: list[float] = []

    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(squares(model, batch).loss, weight=4.0, values={"acc": 0.5})

    def read(ctx: EpochEnd) -> None:
        seen.append(ctx.metrics["train/acc"])

    running(step=step, hooks={"reads": frozenset({"train/acc"}), "on_epoch_end": read})
    assert seen == [0.5, 0.5]


def test_a_monitor_that_never_appears_is_named_when_the_run_ends() -> None:
    hooks: list[HookDict] = [
        {"name": "reader", "reads": frozenset({"gap"}), "on_epoch_end": lambda ctx: None},
        {"name": "provider", "provides": frozenset({"gap"}), "on_epoch_end": lambda ctx: None},
    ]
    sentence = "'reader' reads 'gap', which never appeared in this run; the names that did: train/loss"
    with pytest.warns(RuntimeWarning, match=sentence):
        running(hooks=hooks)


def test_a_value_of_the_step_cannot_take_a_name_of_the_loop() -> None:
    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        return StepOutput(squares(model, batch).loss, weight=4.0, values={"loss": 0.5})

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
        (torch.ones((), dtype=torch.complex64, requires_grad=True), "is complex; a loss is a real number"),
    ],
)
def test_a_step_that_returns_something_else_is_named(returned: object, sentence: str) -> None:
    def step(model: nn.Module, batch: Batch) -> object:
        return returned

    with pytest.raises(HookDefinitionError, match=sentence):
        running(step=step)


RECORD_OF_A_WORD = Record(cast("Any", {"x": "high"}))


def answering(answer: object) -> Callable[..., object]:
    def hook(ctx: object, value: object = None) -> object:
        return answer

    return hook


@pytest.mark.parametrize(
    ("event", "answer", "sentence"),
    [
        ("on_batch_end", SkipBatch("no"), r"'odd' answered SkipBatch\(reason='no'\) to on_batch_end, which takes Stop"),
        ("on_batch_end", 5, "'odd' answered 5 to on_batch_end"),
        ("on_train_end", Evaluate("val"), "to on_train_end, which takes nothing"),
        ("on_record", Record({"x": 1.0}), "to on_record, which takes nothing"),
        ("on_batch_end", RECORD_OF_A_WORD, "recorded 'x' as 'high'; record a number"),
        ("on_batch_end", Record({"x": torch.ones(2)}), r"'x' as <Tensor of shape \(2,\), torch.float32>; record"),
        ("on_batch_end", Record({"x": torch.tensor(1j)}), r"'x' as <Tensor of shape \(\), torch.complex64>; record a"),
        ("on_batch_end", Record(cast("Any", {"x": None})), "recorded 'x' as None; record a number or a 0-d tensor"),
        ("on_batch_end", Record(cast("Any", {"x": [1.0] * 999})), r"as \[1.0, 1.0, 1.0, 1.0, \.\.\.\]; record"),
        ("on_batch_end", Record(cast("Any", {3: 1.0})), "recorded 3 as 1.0; record .* under a name"),
        ("on_batch_end", Record(cast("Any", [1.0])), r"answered Record\(\[1.0\]\); write Record\({name: value}\)"),
        ("on_batch_end", torch.ones(999), r"answered <Tensor of shape \(999,\), torch.float32> to on_batch_end"),
        ("transform_batch", None, "transform_batch returns the batch, changed or as it was, but 'odd' returned None"),
        ("transform_loss", torch.ones(9), r"'odd' returned <Tensor of shape \(9,\), torch.float32>"),
        ("transform_loss", torch.ones(()), "does not require grad; was it detached, there or by a hook on transform_l"),
        ("transform_loss", 0.5, "returns the loss, a 0-d tensor, changed or as it was, but 'odd' returned 0.5"),
    ],
)
def test_an_answer_that_the_event_does_not_take_is_named_with_its_hook(
    event: str, answer: object, sentence: str
) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        running(hooks={"name": "odd", event: answering(answer)})


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (Evaluate("a"), MissingValueError, r"'odd' asked for Evaluate\('a'\), but the run's evaluations are: val"),
        (Save("now"), RunDefinitionError, "'odd' asked to save a checkpoint, but this run has nowhere to save to"),
        (Record({"val/loss": 1.0}), RunDefinitionError, "'odd' recorded 'val/loss', which is the loop's own value"),
    ],
)
def test_an_answer_that_this_run_cannot_act_on_is_named_with_its_hook(
    answer: object, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        running(hooks={"name": "odd", "on_batch_end": answering(answer)}, evaluations=[Evaluation("val", batches(1))])


def test_an_answer_of_a_list_may_be_none() -> None:
    assert isinstance(running(hooks={"on_batch_end": answering([None, Stop("enough"), None])}).end, Stopped)


def test_two_sources_of_one_value_are_refused() -> None:
    hooks = [{"name": name, "on_batch_end": answering(Record({"x": 1.0}))} for name in ("a", "b")]
    with pytest.raises(RunDefinitionError, match="'a' and 'b' both record 'x'; a name has one source"):
        running(hooks=hooks)


def test_triggers_that_can_never_fire_warn() -> None:
    def nothing(ctx: BatchBegin) -> None: ...

    with pytest.warns(RuntimeWarning, match=r"when\(every\(5, 'updates'\), 'rare'\) can never fire in this run"):
        running(hooks=when(every(5, "updates"), {"name": "rare", "on_batch_begin": nothing}))
    with pytest.warns(RuntimeWarning, match=r"evaluation 'val', when=every\(3, 'epochs'\), can never be due"):
        running(evaluations=[Evaluation("val", batches(1), when=every(3, "epochs"))])


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ((torch.ones(2, 3),), r"is for batches of pairs \(x, y\), and got a tuple of 1"),
        (torch.ones(2, 3), r"and got a Tensor of 2"),
        ([torch.ones(2, 3)] * 3, r"and got a list of 3"),
        ({"x": torch.ones(2, 3)}, r"and got a dict of 1"),
    ],
)
def test_a_batch_that_is_no_pair_is_not_for_supervised(batch: object, sentence: str) -> None:
    def loss(output: Tensor, target: object) -> Tensor:
        return output.mean()

    with pytest.raises(HookDefinitionError, match=sentence):
        running(data=[batch], step=supervised(loss))
