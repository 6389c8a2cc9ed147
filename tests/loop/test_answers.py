"""What hooks answer takes effect at its boundary and not before, whichever loop runs."""

from tests.loop.programs import batches, linear, listener, sgd, squares
from trainhooks import (
    BatchBegin,
    BatchEnd,
    EndEpoch,
    EpochEnd,
    Evaluate,
    Evaluation,
    EvaluationEnd,
    Record,
    Recorded,
    SkipBatch,
    Stop,
    Stopped,
    TrainEnd,
    every,
    train,
)


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
