"""When checkpoints are made, which of them stay, and what becomes of one that cannot be written."""

import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.core.callables import hook_set
from tests.loop.programs import equal, linear, sgd, squares, weights
from tests.run.saved import experiment, run, scripted, state_of, steps
from trainhooks import (
    BatchBegin,
    BatchEnd,
    CheckpointError,
    CheckpointSaved,
    Completed,
    EpochEnd,
    EvaluationEnd,
    GradientsReady,
    HookDefinitionError,
    HookSet,
    Interrupted,
    Record,
    Save,
    SkipUpdate,
    Stop,
    StorageError,
    TrainBegin,
    at_points,
    every,
    every_seconds,
    for_rank,
    load_weights,
    named,
    ordered,
    train,
)
from trainhooks.data import first, seeded_loader
from trainhooks.hooks import checkpoint, clip_grad_norm, cosine, early_stopping, ema, lr_schedule, warmup
from trainhooks.hooks.saving import BestSoFar

BY_SCORE: Any = ("val/score", "max")
UNTYPED: Any = checkpoint
"""As it is called by whoever runs no checker."""


def test_saves_come_at_their_points_and_whenever_the_best_improves(tmp_path: Path) -> None:
    """Keeps P33."""
    saved, events = list[int](), list[tuple[str, int]]()

    def note_save(ctx: CheckpointSaved) -> None:
        saved.append(ctx.step)

    def note(ctx: Any) -> None:
        events.append((type(ctx).__name__, ctx.at.updates))

    hooks: Any = [
        checkpoint(when=every(5, "updates"), keep_last=None, keep_best=BY_SCORE, background=False),
        {"name": "noting", "on_checkpoint_saved": note_save, "on_evaluation_end": note},
        {"name": "more", "on_checkpoint_saved": note},
    ]
    result = run(tmp_path, hooks, updates=15, evaluations=[scripted([1, 0, 2, 2, 1], every(3, "updates"))])
    assert saved == [3, 5, 9, 10, 15]
    assert steps(result) == [3, 5, 9, 10, 15]
    assert events[-2:] == [("EvaluationEnd", 15), ("CheckpointSaved", 15)]
    assert [one.metrics.get("val/score") for one in result.checkpoints] == [1, None, 2, None, 1]


def test_the_latest_and_the_best_are_kept_and_load(tmp_path: Path) -> None:
    """Keeps P32 and P70."""
    weights: dict[int, Any] = {}

    def keep(ctx: BatchEnd) -> None:
        weights[ctx.at.updates] = state_of(ctx.run.model)

    scores = [0.1, math.nan, 0.9, *[0.5] * 20, 0.9]
    hooks: Any = [
        checkpoint(when=every(1, "updates"), keep_last=1, keep_best=BY_SCORE), {"name": "keep", "on_batch_end": keep},
    ]  # fmt: skip
    result = run(tmp_path, hooks, updates=24, evaluations=[scripted(scores)])
    assert steps(result) == [3, 24]
    places: list[tuple[Any, int]] = [("latest", 24), ("best", 3), (3, 3)]
    for which, step in places:
        model = linear(seed=8)
        assert load_weights(model, experiment(tmp_path), which=which).step == step
        assert state_of(model) == weights[step]


def test_so_many_of_the_best_are_kept_as_asked_for_and_saved_when_a_value_is_among_them(tmp_path: Path) -> None:
    """Keeps P70."""
    saved = list[int]()
    scores = [5, math.nan, 6, 4, 6, 3, 7, 5, 1]  # the highest three: 7 of update 7, 6 of updates 3 and 5

    def note(ctx: CheckpointSaved) -> None:
        saved.append(ctx.step)

    hooks: Any = [
        checkpoint(when=None, keep_last=0, keep_best=("val/score", "max", 3), background=False),
        {"name": "noting", "on_checkpoint_saved": note},
    ]
    result = run(tmp_path, hooks, updates=9, evaluations=[scripted(scores)])
    assert saved == [1, 3, 4, 5, 7]
    assert steps(result) == [3, 5, 7]
    assert load_weights(linear(), experiment(tmp_path), which="best").step == 7
    assert result.hook_states["checkpoint"] == BestSoFar(value=7, judged=9, further=(6, 6))


def test_two_policies_of_one_run_do_not_affect_each_other(tmp_path: Path) -> None:
    """Keeps P32."""
    hooks: Any = [
        named("newest", checkpoint(when=every(1, "updates"), keep_last=1)),
        named("fifths", checkpoint(when=every(5, "updates"), keep_last=0, keep_every=5)),
        named("lowest", checkpoint(when=None, keep_last=0, keep_best=("val/score", "min"))),
    ]
    result = run(tmp_path, hooks, updates=12, evaluations=[scripted([3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8])])
    assert steps(result) == [4, 5, 10, 12]


def test_a_checkpoint_that_no_policy_covers_stays(tmp_path: Path) -> None:
    def ask(ctx: BatchEnd) -> Save | None:
        return Save("before the surgery") if ctx.at.updates == 2 else None

    told = list[tuple[int, tuple[str, ...]]]()

    def tell(ctx: CheckpointSaved) -> Record:
        told.append((ctx.step, ctx.tags))
        return Record({"saved": float(ctx.step)})

    hooks: Any = [
        {"name": "asking", "on_batch_end": ask, "on_checkpoint_saved": tell, "provides": {"saved"}},
        checkpoint(when=every(1, "updates"), keep_last=1, tag="each"),
    ]
    result = run(tmp_path, hooks, updates=6)
    assert steps(result) == [2, 6]
    assert result.checkpoints[0].tags == ("each", "before the surgery")
    assert told == [(step, ("each", "before the surgery") if step == 2 else ("each",)) for step in range(1, 7)]
    assert result.metrics["saved"] == 6.0


@pytest.mark.parametrize("ending", ["completed", "stopped", "interrupted"])
def test_a_run_that_ends_early_is_saved_as_it_is(tmp_path: Path, ending: str) -> None:
    def end(ctx: BatchEnd) -> Stop | None:
        if ctx.at.updates == 3 and ending == "stopped":
            return Stop("enough")
        if ctx.at.updates == 3 and ending == "interrupted":
            raise_interrupt()
        return None

    def raise_interrupt() -> None:
        import signal

        signal.raise_signal(signal.SIGINT)

    hooks: Any = [checkpoint(when=every_seconds(1e9)), {"name": "end", "on_batch_end": end}]
    result = run(tmp_path, hooks, updates=5, on_interrupt="return")
    assert steps(result) == ([] if ending == "completed" else [3])
    assert isinstance(result.end, Interrupted) == (ending == "interrupted")


def test_a_run_that_goes_on_and_stops_at_once_is_not_saved_again(tmp_path: Path) -> None:
    def stop(ctx: TrainBegin) -> Stop | None:
        return Stop("at once") if ctx.resumed else None

    hooks: Any = [checkpoint(when=every(2, "updates")), {"name": "stop", "on_train_begin": stop}]
    first = run(tmp_path, hooks, updates=4)
    again = run(tmp_path, hooks, updates=9, resume="must")
    assert again.checkpoints == first.checkpoints


def test_a_checkpoint_in_the_foreground_is_there_before_training_goes_on(tmp_path: Path) -> None:
    events = list[tuple[str, int]]()

    def note(ctx: Any) -> None:
        events.append((type(ctx).__name__, ctx.at.updates))

    hooks: Any = [
        checkpoint(when=every(1, "updates"), background=False),
        {"name": "note", "on_batch_end": note, "on_checkpoint_saved": note},
    ]
    run(tmp_path, hooks, updates=3)
    assert events == [(name, step) for step in (1, 2, 3) for name in ("BatchEnd", "CheckpointSaved")]


def test_a_run_without_policy_is_not_saved_at_its_end(tmp_path: Path) -> None:
    def stop(ctx: BatchEnd) -> Stop:
        return Stop("at once")

    assert steps(run(tmp_path, {"on_batch_end": stop}, updates=5)) == []


def breaking(folder: Path, at: int, mended_at: int | None = None) -> HookSet:
    """A set that puts a file where the manifests go, and perhaps takes it away again."""

    def find() -> Path:
        (found,) = folder.glob("tests/saving/*/run.json")
        return found.parent / "manifests"

    def on_batch_end(ctx: BatchEnd) -> None:
        if ctx.at.updates == at:
            shutil.move(find(), find().with_name("elsewhere"))
            find().write_text("in the way")
        if ctx.at.updates == mended_at:
            find().unlink()
            shutil.move(find().with_name("elsewhere"), find())

    return HookSet(name="breaking", order=-1, on_batch_end=on_batch_end)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_at_the_next_boundary(tmp_path: Path) -> None:
    """Keeps P29 and P26."""
    trained = list[int]()

    def note(ctx: BatchEnd) -> None:
        trained.append(ctx.at.updates)

    hooks: Any = [
        checkpoint(when=every(1, "updates"), keep_last=1, background=False), breaking(tmp_path, 4),
        {"name": "note", "on_batch_end": note},
    ]  # fmt: skip
    with pytest.raises(CheckpointError, match="The checkpoint of step 4 was not saved") as caught:
        run(tmp_path, hooks, updates=9)
    assert isinstance(caught.value.__cause__, StorageError)
    assert trained == [1, 2, 3, 4]
    (manifest,) = tmp_path.glob("tests/saving/*/elsewhere/*.json")
    assert manifest.name.startswith("0000000003-")


def test_a_run_goes_on_without_a_checkpoint_if_it_is_told_to(tmp_path: Path) -> None:
    """Keeps P29."""
    hooks: Any = [
        checkpoint(when=every(1, "updates"), keep_last=None, background=False, on_failure="warn"),
        breaking(tmp_path, 4, mended_at=6),
    ]
    with pytest.warns(RuntimeWarning, match="The checkpoint of step [45] was not saved"):
        result = run(tmp_path, hooks, updates=8)
    assert result.end == Completed()
    assert steps(result) == [1, 2, 3, 6, 7, 8]


@pytest.mark.parametrize("background", [True, False])
def test_a_run_whose_last_checkpoint_is_not_there_is_not_completed(tmp_path: Path, background: bool) -> None:
    """Keeps P29."""
    hooks: Any = [
        checkpoint(when=every(1, "updates"), background=background, on_failure="warn"), breaking(tmp_path, 5),
    ]  # fmt: skip
    with pytest.warns(RuntimeWarning, match="was not saved"), pytest.raises(CheckpointError, match="of step 5 was not"):
        run(tmp_path, hooks, updates=5)


def test_a_checkpoint_holds_what_was_there_when_it_was_asked_for(tmp_path: Path) -> None:
    """Keeps P28."""
    weights: dict[int, Any] = {}

    def overwrite(ctx: BatchEnd) -> None:
        weights[ctx.at.updates] = state_of(ctx.run.model)

    hooks: Any = [checkpoint(when=every(1, "updates"), keep_last=None), {"name": "note", "on_batch_end": overwrite}]
    run(tmp_path, hooks, updates=6)
    for step in range(1, 7):
        model = linear(seed=9)
        load_weights(model, experiment(tmp_path), which=step)
        assert state_of(model) == weights[step]


def test_saves_at_the_same_update_are_several_checkpoints(tmp_path: Path) -> None:
    def at_begin(ctx: TrainBegin) -> Save:
        return Save("begin")

    def at_end(ctx: EpochEnd) -> Save:
        return Save("end")

    result = run(tmp_path, {"on_train_begin": at_begin, "on_epoch_end": at_end}, epochs=1)
    assert [(one.step, one.tags) for one in result.checkpoints] == [(0, ("begin",)), (6, ("end",))]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: checkpoint(when=None), r"checkpoint\(when=None\) would never save; give when=, keep_best=, or both"),
        (lambda: UNTYPED(when=3), "checkpoint takes when as a trigger"),
        (lambda: checkpoint(keep_last=-1), "checkpoint takes keep_last as a whole number from 0 on"),
        (lambda: checkpoint(keep_every=0), "checkpoint takes keep_every as a whole number from 1 on"),
        (lambda: UNTYPED(keep_best="val/acc"), "checkpoint takes keep_best as a value and a direction"),
        (lambda: UNTYPED(keep_best=("val/acc", "max", 0)), "takes the count in keep_best as a whole number from 1 on"),
        (lambda: UNTYPED(keep_best=("val/acc", "max", 1, 2)), "takes keep_best as a value and a direction"),
        (lambda: UNTYPED(keep_best=("val/acc", "up")), "takes mode='min' if smaller is better"),
        (lambda: UNTYPED(on_failure="cry"), "checkpoint takes on_failure as 'raise' or 'warn'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], HookSet], message: str) -> None:
    with pytest.raises(HookDefinitionError, match=message):
        make()


def test_it_asks_on_the_events_on_which_its_trigger_can_fire() -> None:
    both = checkpoint(when=every(2, "epochs") | at_points([7], "updates"), keep_best=BY_SCORE)
    assert [event for event, _ in both.slots] == ["on_after_optimizer_step", "on_evaluation_end", "on_epoch_end"]


@pytest.mark.parametrize("whole", [np.int64, np.uint8])
def test_whole_numbers_of_any_kind_are_counts_and_seeds(tmp_path: Path, whole: Any) -> None:
    """A run with NumPy's numbers is saved, and goes on, as one with Python's."""

    def trained(folder: Path, number: Callable[[int], Any]) -> list[Any]:
        rows = [(torch.full((3,), float(i)), torch.zeros(2)) for i in range(24)]
        hooks: list[Any] = [
            checkpoint(when=every(number(2), "updates") | at_points([number(3)], "updates"), keep_last=number(3)),
            early_stopping("train/loss", mode="min", patience=number(9), start=number(1)), ema(0.9, every=number(2)),
            lr_schedule(warmup(number(1), cosine(number(9)))), ordered(number(2), clip_grad_norm(number(2))),
            *for_rank(number(0), {"name": "seen", "on_batch_end": print, "order": number(1), "ranks": {number(0)}}),
        ]  # fmt: skip
        found: list[Any] = []
        starts: list[tuple[int, Any]] = [(3, "never"), (5, number(3))]
        for updates, resume in starts:
            model = linear()
            loader = seeded_loader(rows, batch_size=number(2), seed=number(5), num_workers=number(0))
            result = train(
                model, first(loader, number(11)), squares, sgd(model), max_updates=number(updates), epochs=number(1),
                accumulate=number(2), seed=number(1), hooks=hooks, resume=resume, experiment=experiment(folder),
            )  # fmt: skip
            load_weights(linear(), experiment(folder), which=number(3))
            found += [weights(model), result.at, [one.step for one in result.checkpoints], repr(result.hook_states)]
        return found

    plain, others = trained(tmp_path / "plain", int), trained(tmp_path / "numpy", whole)
    assert equal(plain.pop(0), others.pop(0))
    assert equal(plain.pop(3), others.pop(3))
    assert plain == others


def test_what_is_due_at_0_comes_once_in_a_runs_life_before_the_first_epoch(tmp_path: Path) -> None:
    events: list[tuple[str, int]] = []

    def attempt(stop: int) -> None:
        def note(ctx: Any) -> Stop | None:
            events.append((type(ctx).__name__, ctx.at.updates))
            return Stop("here") if isinstance(ctx, BatchEnd) and ctx.at.updates == stop else None

        noting = ("on_train_begin", "on_epoch_begin", "on_evaluation_begin", "on_batch_end", "on_checkpoint_saved")
        run(
            tmp_path, [hook_set(name="noting", **dict.fromkeys(noting, note)), saving], updates=5, resume="auto",
            evaluations=[scripted([0.0] * 9, at_points([0, 4], "updates"))],
        )  # fmt: skip

    saving = checkpoint(when=at_points([0, 2], "updates"), keep_last=None, background=False)
    for stop in (1, 2, 9):
        attempt(stop)
    begun = [("TrainBegin", 0), ("EvaluationBegin", 0), ("CheckpointSaved", 0)]
    assert events[:4] == [*begun, ("EpochBegin", 0)]
    assert [at for name, at in events if name == "EvaluationBegin"] == [0, 4]
    assert [at for name, at in events if name == "CheckpointSaved"] == [0, 1, 2]
    assert [at for name, at in events if name == "TrainBegin"] == [0, 1, 2]


def test_a_checkpoint_at_0_holds_the_evaluation_at_0_so_that_a_resume_does_not_repeat_it(tmp_path: Path) -> None:
    """Patience counts alike, however often the run was interrupted."""
    evaluated: list[int] = []

    def attempt(stop: int) -> None:
        def note(ctx: EvaluationEnd) -> None:
            evaluated.append(ctx.at.updates)

        def end(ctx: BatchBegin) -> None:
            if ctx.at.updates == stop:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            run(
                tmp_path, [checkpoint(when=at_points([0], "updates") | every(1, "updates"), background=False),
                {"name": "noting", "on_evaluation_end": note, "on_batch_begin": end}], updates=4, resume="auto",
                evaluations=[scripted([0.0] * 9, at_points([0, 2], "updates"))],
            )  # fmt: skip

    for stop in (0, 1, 3, 9):
        attempt(stop)
    assert evaluated == [0, 2]


def test_a_trigger_with_0_alone_is_no_trigger_that_can_never_fire(tmp_path: Path) -> None:
    saving = checkpoint(when=at_points([0], "updates"), keep_last=None, background=False)
    result = run(tmp_path, saving, updates=2, evaluations=[scripted([0.0] * 3, at_points([0], "epochs"))])
    assert steps(result) == [0]
    assert result.metrics["val/score"] == 0.0


def test_a_checkpoint_whose_update_is_skipped_is_made_with_the_update(tmp_path: Path) -> None:
    def skip(ctx: GradientsReady) -> SkipUpdate | None:
        return SkipUpdate("planned") if ctx.at.batches == 3 else None

    saved: list[tuple[int, int]] = []

    def note(ctx: CheckpointSaved) -> None:
        saved.append((ctx.step, ctx.at.batches))

    saving = checkpoint(when=every(4, "updates"), keep_last=None, background=False)
    run(tmp_path, [saving, {"name": "n", "on_after_gradient_update": skip, "on_checkpoint_saved": note}], updates=5)
    assert saved == [(4, 5)]
