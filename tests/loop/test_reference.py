"""What fires when: the exact order of a run's events, whichever loop runs."""

from collections.abc import Iterator

import pytest

from tests.loop.programs import Batch, Unsized, batches, linear, listener, sgd, squares
from trainhooks import (
    EVENTS,
    BatchBegin,
    BatchEnd,
    EpochBegin,
    EpochEnd,
    Evaluation,
    OptimizerStepped,
    TrainBegin,
    compose,
    train,
)

BATCH = [
    "on_batch_begin",
    "transform_batch",
    "transform_rates",
    "transform_loss",
    "on_after_backward",
    "on_after_gradient_update",
    "transform_gradients",
    "on_after_optimizer_step",
    "on_batch_end",
]
EVALUATION = [
    "around_evaluation enter",
    "on_evaluation_begin",
    "on_after_batch_prediction",
    "transform_metrics",
    "on_evaluation_end",
    "around_evaluation leave",
]


def test_a_run_fires_every_event_at_its_place(specialised: bool) -> None:
    """Keeps P02, P05."""
    model, trace = linear(), list[tuple[object, ...]]()
    train(
        model, batches(2), squares, sgd(model), epochs=1, hooks=listener("all", trace),
        evaluations=[Evaluation("val", batches(1))], specialised=specialised,
    )  # fmt: skip
    assert [" ".join(map(str, one[1:])) for one in trace] == [
        "on_train_loop_registration",
        "around_train enter",
        "on_train_begin",
        "around_epoch enter",
        "on_epoch_begin",
        *BATCH,
        *BATCH,
        *EVALUATION,
        "on_epoch_end",
        "on_record",
        "on_record",
        "around_epoch leave",
        "around_train leave",
        "on_train_end",
    ]


def test_the_trace_of_a_run_is_the_table(specialised: bool) -> None:
    """Keeps P01, P02. Sets of many kinds are called in the order given, on every event, and nobody else is."""
    model, trace = linear(), list[tuple[object, ...]]()
    names = ("c", "a", "b")
    hooks = [listener(name, trace) for name in names]
    train(
        model, batches(3), squares, sgd(model), epochs=2, hooks=hooks, accumulate=2,
        evaluations=[Evaluation("val", batches(1))], specialised=specialised,
    )  # fmt: skip
    table = compose(hooks)
    for event in EVENTS:
        called = [str(one[0]) for one in trace if one[1] == event and one[-1] != "leave"]
        assert table.order(event) == names
        assert called == list(names) * (len(called) // 3)
        left = [str(one[0]) for one in trace if one[1] == event and one[-1] == "leave"]
        assert left == list(reversed(names)) * (len(left) // 3)


def test_progress_is_what_is_finished_and_where_we_are(specialised: bool) -> None:
    model, seen = linear(), list[tuple[str, int, int, int, int, int]]()

    def note(name: str, ctx: BatchBegin | BatchEnd | OptimizerStepped | EpochBegin | EpochEnd) -> None:
        at = ctx.at
        seen.append((name, at.updates, at.batches, at.epochs, at.epoch, at.batch))

    def begin(ctx: BatchBegin) -> None:
        note("begin", ctx)

    def stepped(ctx: OptimizerStepped) -> None:
        note("stepped", ctx)

    def end(ctx: BatchEnd) -> None:
        note("end", ctx)

    def epoch(ctx: EpochEnd) -> None:
        note("epoch", ctx)

    train(
        model, batches(3), squares, sgd(model), epochs=2, accumulate=2, specialised=specialised,
        hooks={"on_batch_begin": begin, "on_after_optimizer_step": stepped, "on_batch_end": end, "on_epoch_end": epoch},
    )  # fmt: skip
    assert seen == [
        ("begin", 0, 0, 0, 0, 0),
        ("end", 0, 1, 0, 0, 0),
        ("begin", 0, 1, 0, 0, 1),
        ("stepped", 1, 1, 0, 0, 1),
        ("end", 1, 2, 0, 0, 1),
        ("begin", 1, 2, 0, 0, 2),
        ("stepped", 2, 2, 0, 0, 2),
        ("end", 2, 3, 0, 0, 2),
        ("epoch", 2, 3, 1, 0, 2),
        ("begin", 2, 3, 1, 1, 0),
        ("end", 2, 4, 1, 1, 0),
        ("begin", 2, 4, 1, 1, 1),
        ("stepped", 3, 4, 1, 1, 1),
        ("end", 3, 5, 1, 1, 1),
        ("begin", 3, 5, 1, 1, 2),
        ("stepped", 4, 5, 1, 1, 2),
        ("end", 4, 6, 1, 1, 2),
        ("epoch", 4, 6, 2, 1, 2),
    ]


def test_arounds_enter_in_order_and_leave_in_reverse_also_when_the_body_raises(specialised: bool) -> None:
    """Keeps P04."""
    model, trace = linear(), list[tuple[object, ...]]()
    arounds = ("around_train", "around_epoch")

    def fail(ctx: BatchEnd) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        train(
            model, batches(2), squares, sgd(model), epochs=1, specialised=specialised,
            hooks=[listener("a", trace, *arounds), listener("b", trace, *arounds), {"on_batch_end": fail}],
        )  # fmt: skip
    assert trace == [
        ("a", "around_train", "enter"),
        ("b", "around_train", "enter"),
        ("a", "around_epoch", "enter"),
        ("b", "around_epoch", "enter"),
        ("b", "around_epoch", "leave"),
        ("a", "around_epoch", "leave"),
        ("b", "around_train", "leave"),
        ("a", "around_train", "leave"),
    ]


def test_an_around_that_fails_to_enter_leaves_those_before_it(specialised: bool) -> None:
    """Keeps P04."""
    model, trace = linear(), list[tuple[object, ...]]()

    class Broken:
        def __enter__(self) -> None:
            raise ValueError("cannot enter")

        def __exit__(self, *raised: object) -> None:
            raise AssertionError("nothing was entered")

    def broken(ctx: TrainBegin) -> Broken:
        return Broken()

    with pytest.raises(ValueError, match="cannot enter") as caught:
        train(
            model, batches(1), squares, sgd(model), epochs=1, specialised=specialised,
            hooks=[listener("a", trace, "around_train"), {"name": "b", "around_train": broken}],
        )  # fmt: skip
    assert trace == [("a", "around_train", "enter"), ("a", "around_train", "leave")]
    assert "Raised in the hook 'b' on around_train" in caught.value.__notes__[0]


def test_an_around_cannot_swallow_an_exception(specialised: bool) -> None:
    model = linear()

    class Swallows:
        def __enter__(self) -> None: ...
        def __exit__(self, *raised: object) -> bool:
            return True

    def around(ctx: TrainBegin) -> Swallows:
        return Swallows()

    def fail(ctx: BatchEnd) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        train(
            model, batches(1), squares, sgd(model), epochs=1, specialised=specialised,
            hooks=[{"name": "net", "around_train": around}, {"on_batch_end": fail}],
        )  # fmt: skip
    assert any("'net' on around_train asked to swallow this" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("sized", [True, False])
def test_max_updates_ends_the_run_in_the_middle_of_an_epoch(sized: bool, specialised: bool) -> None:
    model, trace = linear(), list[tuple[object, ...]]()
    data = batches(4)
    result = train(
        model, data if sized else Unsized(data), squares, sgd(model), max_updates=6, specialised=specialised,
        hooks=listener("l", trace, "on_epoch_end"),
    )  # fmt: skip
    assert (result.at.updates, result.at.epochs, result.at.epoch) == (6, 1, 1)
    assert len(trace) == len(result.history) == 1


def test_max_updates_reached_with_the_last_batch_completes_the_epoch(specialised: bool) -> None:
    model = linear()
    result = train(model, batches(3), squares, sgd(model), max_updates=6, specialised=specialised)
    assert (result.at.updates, result.at.epochs) == (6, 2)
    assert len(result.history) == 2


def test_endless_data_is_one_epoch(specialised: bool) -> None:
    model = linear()

    def endless() -> Iterator[Batch]:
        while True:
            yield batches(1)[0]

    result = train(model, endless(), squares, sgd(model), max_updates=5, specialised=specialised)
    assert (result.at.updates, result.at.epoch, result.at.epochs) == (5, 0, 0)
