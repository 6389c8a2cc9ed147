"""What fires when: the exact order of a run's events, whichever loop runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.loop.programs import Unsized, batches, linear, listener, sgd, squares
from trainhooks import (
    EVENTS,
    BatchBegin,
    BatchEnd,
    EndEpoch,
    EpochBegin,
    EpochEnd,
    Evaluate,
    Evaluation,
    EvaluationEnd,
    OptimizerStepped,
    Record,
    Recorded,
    SkipBatch,
    Stop,
    Stopped,
    TrainBegin,
    TrainEnd,
    compose,
    every,
    train,
)

BATCH = [
    "on_batch_begin",
    "transform_batch",
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


@pytest.fixture(params=[True, False], ids=["specialised", "reference"])
def specialised(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


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

    hooks = {"on_batch_begin": begin, "on_after_optimizer_step": stepped, "on_batch_end": end, "on_epoch_end": epoch}
    train(
        model, batches(3), squares, sgd(model), epochs=2, accumulate=2, hooks=hooks, specialised=specialised
    )  # type: ignore[call-overload, unused-ignore]
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

    @contextmanager
    def broken(ctx: TrainBegin) -> Iterator[None]:
        raise ValueError("cannot enter")
        yield

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


def test_stop_ends_the_run_at_the_boundary_with_the_first_reason_and_all_who_asked(specialised: bool) -> None:
    """Keeps P05."""
    model, ends = linear(), list[object]()

    def second_batch(ctx: BatchEnd) -> Stop | None:
        return Stop("enough") if ctx.at.batches == 2 else None

    def same_batch(ctx: BatchEnd) -> list[Stop | EndEpoch]:
        return [EndEpoch("x"), Stop("me too")] if ctx.at.batches == 2 else []

    def end(ctx: TrainEnd) -> None:
        ends.append(ctx.end)

    result = train(
        model, batches(6), squares, sgd(model), epochs=2, accumulate=3, specialised=specialised,
        hooks=[
            {"name": "b", "on_batch_end": second_batch},
            {"name": "a", "on_batch_end": same_batch},
            {"on_train_end": end},
        ],
    )  # fmt: skip
    assert result.end == Stopped("enough", ("b", "a")) == ends[0]
    assert len(ends) == 1
    assert (result.at.updates, result.at.batches) == (1, 2)  # EndEpoch closed the window short


def test_a_stop_inside_a_window_waits_for_its_end(specialised: bool) -> None:
    model = linear()

    def stop(ctx: BatchEnd) -> Stop:
        return Stop("now")

    result = train(
        model, batches(8), squares, sgd(model), epochs=1, accumulate=4, specialised=specialised,
        hooks={"name": "s", "on_batch_end": stop},
    )  # fmt: skip
    assert result.end == Stopped("now", ("s",))
    assert (result.at.updates, result.at.batches, result.at.epochs) == (1, 4, 0)
    assert result.history == []


def test_end_epoch_gives_the_epoch_its_evaluations_its_end_and_its_row(specialised: bool) -> None:
    model, trace = linear(), list[tuple[object, ...]]()

    def early(ctx: BatchEnd) -> EndEpoch | None:
        return EndEpoch("seen enough") if ctx.at.batch == 0 else None

    result = train(
        model, batches(4), squares, sgd(model), epochs=2, accumulate=2, specialised=specialised,
        hooks=[{"on_batch_end": early}, listener("l", trace, "on_evaluation_end", "on_epoch_end")],
        evaluations=[Evaluation("val", batches(1))],
    )  # fmt: skip
    assert [one[1] for one in trace] == ["on_evaluation_end", "on_epoch_end"] * 2
    assert [row["updates"] for row in result.history] == [1, 2]
    assert (result.at.updates, result.at.batches, result.at.epochs) == (2, 2, 2)


def test_a_skipped_batch_has_no_later_event_and_is_not_counted(specialised: bool) -> None:
    model, trace = linear(), list[tuple[object, ...]]()

    def skip(ctx: BatchBegin) -> SkipBatch | None:
        return SkipBatch("bad") if ctx.at.batch == 1 else None

    heard: list[tuple[int, int]] = []

    def end(ctx: BatchEnd) -> None:
        heard.append((ctx.at.batch, ctx.at.batches))

    result = train(
        model, batches(3), squares, sgd(model), epochs=1, specialised=specialised,
        hooks=[{"on_batch_begin": skip}, {"on_batch_end": end}, listener("l", trace, "transform_batch")],
    )  # fmt: skip
    assert heard == [(0, 1), (2, 2)]
    assert len(trace) == 2
    assert (result.at.updates, result.at.batches) == (2, 2)


def test_a_skipped_last_batch_closes_the_open_window(specialised: bool) -> None:
    model, trace = linear(), list[tuple[object, ...]]()

    def skip(ctx: BatchBegin) -> SkipBatch | None:
        return SkipBatch("bad") if ctx.at.batch == 1 else None

    result = train(
        model, batches(2), squares, sgd(model), epochs=1, accumulate=2, specialised=specialised,
        hooks=[{"on_batch_begin": skip}, listener("l", trace, "on_after_optimizer_step", "on_epoch_end")],
    )  # fmt: skip
    assert [one[1] for one in trace] == ["on_after_optimizer_step", "on_epoch_end"]
    assert (result.at.updates, result.at.batches) == (1, 1)


def test_evaluate_runs_once_at_the_next_boundary_whoever_asks(specialised: bool) -> None:
    model, at = linear(), list[tuple[str, int]]()

    def ask(ctx: BatchEnd) -> list[Evaluate]:
        return [Evaluate("val"), Evaluate("val")] if ctx.at.batches == 1 else []

    def end(ctx: EvaluationEnd) -> None:
        at.append((ctx.name, ctx.at.updates))

    train(
        model, batches(4), squares, sgd(model), epochs=1, accumulate=2, specialised=specialised,
        hooks=[{"on_batch_end": ask}, {"on_batch_end": ask}, {"on_evaluation_end": end}],
        evaluations=[Evaluation("val", batches(1), when=every(9, "epochs") | every(2, "updates"))],
    )  # fmt: skip
    assert at == [("val", 1), ("val", 2)]


def test_a_record_is_seen_at_once_by_a_later_hook_that_reads_it(specialised: bool) -> None:
    """Keeps P03. The reader is composed first, and ordered after its provider."""
    model, seen = linear(), list[tuple[str, dict[str, float]]]()

    def read(ctx: EpochEnd) -> None:
        seen.append(("reader", dict(ctx.metrics)))

    def observe(ctx: EpochEnd) -> None:
        seen.append(("observer", dict(ctx.metrics)))

    def provide(ctx: EpochEnd) -> Record:
        return Record({"gap": ctx.metrics["val/loss"] - ctx.metrics["train/loss"]})

    train(
        model, batches(2), squares, sgd(model), epochs=1, specialised=specialised,
        hooks=[
            {"name": "reader", "reads": frozenset({"gap"}), "on_epoch_end": read},
            {"name": "provider", "provides": frozenset({"gap"}), "on_epoch_end": provide},
            {"name": "observer", "on_epoch_end": observe},
        ],
        evaluations=[Evaluation("val", batches(1))],
    )  # fmt: skip
    assert [name for name, _ in seen] == ["reader", "observer"]
    assert set(seen[0][1]) == {"train/loss", "val/loss", "gap"}
    assert set(seen[1][1]) == {"train/loss", "val/loss"}
    assert seen[0][1]["gap"] == seen[0][1]["val/loss"] - seen[0][1]["train/loss"]


def test_records_keep_the_progress_they_were_made_at(specialised: bool) -> None:
    model, got = linear(), list[tuple[str, int, dict[str, float]]]()

    def made(ctx: BatchEnd) -> Record:
        return Record({"n": float(ctx.at.batches)})

    def heard(ctx: Recorded) -> None:
        got.append((ctx.by, ctx.at.batches, dict(ctx.values)))

    train(
        model, batches(2), squares, sgd(model), epochs=1, accumulate=2, specialised=specialised,
        hooks=[{"name": "maker", "on_batch_end": made}, {"on_record": heard}],
    )  # fmt: skip
    assert [one[:2] for one in got] == [("maker", 1), ("maker", 2), ("loop", 2)]
    assert got[0][2] == {"n": 1.0}
    assert got[1][2] == {"n": 2.0}
    assert set(got[2][2]) == {"train/loss"}


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

    def endless() -> Iterator[tuple[object, object]]:
        while True:
            yield batches(1)[0]

    result = train(model, endless(), squares, sgd(model), max_updates=5, specialised=specialised)
    assert (result.at.updates, result.at.epoch, result.at.epochs) == (5, 0, 0)


