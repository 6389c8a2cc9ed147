"""How runs end: once, whatever happens, and loudly."""

import gc
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.core.callables import hook_set
from tests.loop.programs import Batch, batches, linear, listener, sgd, squares
from trainhooks import (
    EVENTS,
    BatchEnd,
    Completed,
    End,
    EpochEnd,
    Evaluation,
    Failed,
    HookDict,
    HookSet,
    Interrupted,
    Record,
    Recorded,
    Registration,
    Stop,
    Stopped,
    TrainBegin,
    TrainEnd,
    compose,
    for_rank,
    ordered,
    since,
    stateful,
    supervised,
    timed,
    train,
    when,
)


def ends_of(hook: HookDict, on_interrupt: str = "return") -> list[End]:
    """The ends that one run reports; what it raises is left out."""
    model, ends = linear(), list[End]()

    def note(ctx: TrainEnd) -> None:
        ends.append(ctx.end)

    with suppress(BaseException):
        train(
            model, batches(3), squares, sgd(model), epochs=1, hooks=[hook, {"on_train_end": note}],
            on_interrupt="return" if on_interrupt == "return" else "raise",
        )  # fmt: skip
    return ends


def test_every_ending_fires_the_end_once_and_names_itself() -> None:
    """Keeps P05."""
    error = ValueError("no")

    def fail(ctx: BatchEnd) -> None:
        raise error

    def stop(ctx: BatchEnd) -> Stop:
        return Stop("enough")

    def interrupt(ctx: BatchEnd) -> None:
        signal.raise_signal(signal.SIGINT)

    def fail_at_once(ctx: Registration) -> None:
        raise error

    assert ends_of({"on_batch_end": lambda ctx: None}) == [Completed()]
    assert ends_of({"name": "s", "on_batch_end": stop}) == [Stopped("enough", ("s",))]
    assert ends_of({"on_batch_end": interrupt}) == [Interrupted(signal.SIGINT)]
    assert ends_of({"on_batch_end": interrupt}, "raise") == [Interrupted(signal.SIGINT)]
    for ends in (ends_of({"on_batch_end": fail}), ends_of({"on_train_loop_registration": fail_at_once})):
        (end,) = ends
        assert isinstance(end, Failed)
        assert end.error is error


def test_a_refused_run_has_no_end() -> None:
    model, ends = linear(), list[End]()

    def note(ctx: TrainEnd) -> None:
        ends.append(ctx.end)

    with pytest.raises(ValueError, match="needs an end"):
        train(model, batches(1), squares, sgd(model), hooks={"on_train_end": note})
    assert ends == []


NOT_IN_EVERY_RUN = ("on_multiprocess_start", "on_checkpoint_saved")
HEARD = [event for event in EVENTS if EVENTS[event].kind == "on" and event not in NOT_IN_EVERY_RUN]


@pytest.mark.parametrize("kind", [ValueError, StopIteration, GeneratorExit])
@pytest.mark.parametrize("event", HEARD)
def test_what_a_hook_raises_ends_the_run_and_says_where(event: str, kind: type[BaseException]) -> None:
    """Keeps P65."""
    model = linear()

    def fail(ctx: object) -> None:
        raise kind("no")

    def well(ctx: object) -> None:
        pass

    hooks = [("before", well), ("broken", fail), ("after", well), ("last", well)]
    with pytest.raises(kind, match="no") as caught:
        train(
            model, batches(2), squares, sgd(model), epochs=1, evaluations=[Evaluation("val", batches(1))],
            hooks=[cast("HookDict", {"name": name, event: hook}) for name, hook in hooks],
        )  # fmt: skip
    (note,) = caught.value.__notes__
    assert note.startswith(f"Raised in the hook 'broken' on {event}, at update ")
    assert "fail(ctx: object) -> None` at test_running.py:" in note


class Guilty:
    """Raises, as a method, as a static method, and when it is called."""

    def method(self, ctx: object, *more: object) -> Any:
        raise ValueError("no")

    @staticmethod
    def static(ctx: object, *more: object) -> Any:
        raise ValueError("no")

    def __call__(self, ctx: object, *more: object) -> Any:
        raise ValueError("no")


class RaisesOnLeaving:
    def __enter__(self) -> None: ...

    def __exit__(self, *raised: object) -> None:
        raise ValueError("no")


def guilty(ctx: object, *more: object) -> Any:
    raise ValueError("no")


def guilty_later(ctx: object, *more: object) -> Any:
    return RaisesOnLeaving()


def innocent(ctx: object, value: object = None, *more: object) -> Any:
    return value


def innocent_around(ctx: object) -> Any:
    return nullcontext()


FORMS: list[tuple[Any, str]] = [
    (guilty, "guilty"), (partial(guilty), "guilty"), (Guilty().method, "Guilty.method"),
    (Guilty.static, "Guilty.static"), (Guilty(), "Guilty"),
]  # fmt: skip
WRAPPED: list[Callable[[HookSet], Any]] = [
    lambda one: one, lambda one: when(since(0, "batches"), one), timed, lambda one: for_rank(0, timed(one)),
    lambda one: timed(when(since(0, "updates"), when(since(0, "batches"), one))), lambda one: compose(ordered(3, one)),
]  # fmt: skip


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("event", ["on_batch_end", "transform_loss", "around_evaluation", "on_evaluation_end"])
def test_a_note_names_the_very_function_that_raised(event: str, wrap: Callable[[HookSet], Any], guard: bool) -> None:
    well = innocent_around if event.startswith("around") else innocent
    for hook, name in [*FORMS, *([(guilty_later, "guilty_later")] if event.startswith("around") else [])]:
        model = linear()
        one = wrap(hook_set(name="several", **{event: [well, hook, well]}))
        with pytest.raises(ValueError, match="no") as caught:
            train(
                model, batches(1), squares, sgd(model), epochs=1, evaluations=[Evaluation("val", batches(1))],
                hooks=one, guard=guard,
            )  # fmt: skip
        (note,) = caught.value.__notes__
        assert note.startswith(f"Raised in the hook 'several' on {event}, at update ")
        assert f": `{name}" in note


@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_note_names_the_function_of_a_set_with_a_state(wrap: Callable[[HookSet], Any]) -> None:
    model = linear()
    one = stateful("counting", int, on_batch_end=guilty, on_epoch_end=innocent)
    with pytest.raises(ValueError, match="no") as caught:
        train(model, batches(1), squares, sgd(model), epochs=1, hooks=wrap(one))
    assert ": `guilty(ctx: object, *more: object) -> Any` at test_running.py:" in caught.value.__notes__[0]


def test_stop_iteration_of_a_generator_based_around_is_pythons_runtime_error() -> None:
    """Keeps P65."""
    model = linear()

    @contextmanager
    def around(ctx: TrainBegin) -> Generator[None]:
        yield
        raise StopIteration

    with pytest.raises(RuntimeError, match="generator raised StopIteration") as caught:
        train(model, batches(1), squares, sgd(model), epochs=1, hooks={"name": "around", "around_train": around})
    assert "Raised in the hook 'around' on around_train" in caught.value.__notes__[0]


def test_what_the_step_or_the_data_raise_says_how_far_the_run_was() -> None:
    model = linear()

    def broken() -> Iterator[Batch]:
        yield from batches(2)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk") as caught:
        train(model, broken(), squares, sgd(model), epochs=1)
    assert caught.value.__notes__ == ["Raised in the data, at update 2, batch 1 of epoch 0."]


def broken_step(model: nn.Module, batch: Batch) -> Tensor:
    raise ValueError("no")


def broken_metric(output: Tensor, target: Tensor) -> float:
    raise ValueError("no")


def broken_loss(output: Tensor, target: Tensor) -> Tensor:
    raise ValueError("no")


def broken_transfer(batch: Batch, device: torch.device) -> Batch:
    raise ValueError("no")


class BrokenMetric:
    def update(self, output: Tensor, target: Tensor) -> None:
        raise ValueError("no")

    def compute(self) -> float:
        return 0.0

    def reset(self) -> None: ...


AT_0 = ", at update 0, batch 0 of epoch 0."
AFTER_EPOCH = ", at update 1, batch 0 of epoch 0."


@pytest.mark.parametrize(
    ("program", "begin", "end"),
    [
        ({"step": broken_step}, "Raised in the step `broken_step(model: ", AT_0),
        ({"step": supervised(broken_loss)}, "Raised in the step `supervised(broken_loss)(", AT_0),
        ({"transfer": broken_transfer}, "Raised in the transfer of a batch to cpu", AT_0),
        (
            {"evaluations": [Evaluation("val", batches(1), broken_step)]},
            "Raised in the step `broken_step(", f" of the evaluation 'val'{AFTER_EPOCH}",
        ),
        (
            {"evaluations": [Evaluation("val", batches(1), metrics={"acc": broken_metric})]},
            "Raised in the metric 'acc' of the evaluation 'val'", AFTER_EPOCH,
        ),
        (
            {"evaluations": [Evaluation("val", batches(1), metrics={"acc": BrokenMetric()})]},
            "Raised in the metric 'acc' of the evaluation 'val'", AFTER_EPOCH,
        ),
    ],
)  # fmt: skip
def test_what_the_program_raises_says_what_of_it_did_and_how_far_the_run_was(
    program: dict[str, Any], begin: str, end: str
) -> None:
    """Keeps P65."""
    model = linear()
    given: dict[str, Any] = {"step": squares, "epochs": 1, **program}
    with pytest.raises(ValueError, match="no") as caught:
        train(model, batches(1), optimizer=sgd(model), **given)
    (note,) = caught.value.__notes__
    assert note.startswith(begin)
    assert note.endswith(end)


def test_all_end_hooks_run_and_the_original_error_carries_the_others() -> None:
    """Keeps P05, and P36 in one process."""
    model, trace = linear(), list[tuple[object, ...]]()

    def fail(ctx: BatchEnd) -> None:
        raise ValueError("the cause")

    def fail_later(ctx: TrainEnd) -> None:
        raise OSError("cannot close")

    sink: HookDict = {"name": "sink", "on_train_end": fail_later}
    with pytest.raises(ValueError, match="the cause") as caught:
        train(
            model, batches(1), squares, sgd(model), epochs=1,
            hooks=[{"on_batch_end": fail}, sink, listener("l", trace, "on_train_end")],
        )  # fmt: skip
    assert trace == [("l", "on_train_end")]
    assert any("OSError: cannot close" in note and "'sink' on on_train_end" in note for note in caught.value.__notes__)


def test_end_hooks_that_fail_alone_are_raised_alone_or_as_a_group() -> None:
    model = linear()

    def fail(ctx: TrainEnd) -> None:
        raise OSError("cannot close")

    def fail_too(ctx: TrainEnd) -> None:
        raise ValueError("nor can I")

    with pytest.raises(OSError, match="cannot close"):
        train(model, batches(1), squares, sgd(model), epochs=1, hooks={"on_train_end": fail})
    with pytest.raises(ExceptionGroup, match="Several hooks raised") as caught:
        train(model, batches(1), squares, sgd(model), epochs=1, hooks={"on_train_end": [fail, fail_too]})
    assert [type(one) for one in caught.value.exceptions] == [OSError, ValueError]


def test_records_made_before_a_failure_are_delivered() -> None:
    model, got = linear(), list[dict[str, float]]()

    def make(ctx: BatchEnd) -> Record:
        return Record({"n": float(ctx.at.batches)})

    def hear(ctx: Recorded) -> None:
        got.append(dict(ctx.values))

    def fail(ctx: BatchEnd) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        train(
            model, batches(2), squares, sgd(model), epochs=1, accumulate=2,
            hooks=[{"on_batch_end": make}, {"on_record": hear}, {"on_batch_end": fail}],
        )  # fmt: skip
    assert got == [{"n": 1.0}]


def tensors_in_graphs() -> int:
    gc.collect()
    tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
    return sum(one.grad_fn is not None for one in tensors)


def test_keeping_every_context_keeps_no_graph_alive() -> None:
    """Keeps P61."""
    kept: list[object] = []
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))

    def keep(ctx: object) -> None:
        kept.append(ctx)

    later = list(EVENTS)[list(EVENTS).index("on_after_backward") :]
    events = [event for event in later if EVENTS[event].kind == "on"]
    before = tensors_in_graphs()
    data = [(x.requires_grad_(), y) for x, y in batches(1000)]
    train(
        model, data, squares, torch.optim.SGD(model.parameters(), 0.01), epochs=1,
        hooks=[cast("HookDict", {event: keep}) for event in events],
    )  # fmt: skip
    assert len(kept) > 4000
    assert tensors_in_graphs() == before
    ends = [cast("BatchEnd[Batch, torch.Tensor]", one) for one in kept if isinstance(one, BatchEnd)]
    assert len(ends) == 1000
    for one in ends:
        assert not any(tensor.requires_grad for tensor in (*one.batch, one.output, one.loss, *one.losses.values()))
    assert isinstance(kept[-1], TrainEnd | EpochEnd)
