"""Over ranks every answer takes effect on all of them at one boundary: that of its update, or the next one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import pytest

from tests.loop.programs import batches, linear, mean_loss, sgd
from tests.ranks import on_ranks
from tests.run.several import ENGINES, me, own_batches, parameters_of
from trainhooks import (
    EVENTS,
    Answer,
    BatchEnd,
    Completed,
    EndEpoch,
    Evaluate,
    Evaluation,
    EvaluationBegin,
    HookSet,
    Progress,
    Record,
    Slots,
    Stop,
    Stopped,
    ddp,
    every,
    train,
)
from trainhooks.distributed import StopRule

BATCHES, EPOCHS = 6, 3


class Left(NamedTuple):
    """What a rank knows after its run."""

    end: object
    at: Progress
    evaluated: list[int]
    """Updates at each evaluation."""
    epochs: list[tuple[float, float]]
    """Epoch and updates of each row of the history."""
    parameters: list[object]


def listening(event: str, hear: Callable[[Any], Answer | None]) -> HookSet:
    return HookSet(name="asks", **cast("Slots", {event: hear}))


def asking(
    event: str, answer: Answer, ranks: Mapping[int, int], *, accumulate: int = 1, engine: str = "ddp", **options: Any
) -> Left:
    """A run in which rank r asks for something at `event`, once, when `ranks[r]` updates are finished."""
    evaluated, model = list[int](), linear()
    waiting = [ranks[me()]] if me() in ranks else []

    def hear(ctx: Any) -> Answer | None:
        return answer if waiting and ctx.at.updates >= waiting[0] and waiting.pop() >= 0 else None

    def note(ctx: EvaluationBegin) -> None:
        evaluated.append(ctx.at.updates)

    options = {"max_updates": None, **options}
    limit = options.pop("max_updates")
    result = train(
        model, own_batches(BATCHES * accumulate), mean_loss, sgd, epochs=EPOCHS, max_updates=limit,
        accumulate=accumulate, evaluations=[Evaluation("val", batches(2), when=every(4, "updates"))],
        hooks=[listening(event, hear), {"on_evaluation_begin": note}], parallel=ENGINES[engine](**options),
    )  # fmt: skip
    rows = [(one["epoch"], one["updates"]) for one in result.history]
    return Left(result.end, result.at, evaluated, rows, [one.tolist() for one in parameters_of(model)])


def agreed(results: Sequence[Left]) -> Left:
    """What all ranks say."""
    assert all(one == results[0] for one in results), results
    return results[0]


STOPPED_AT = {
    "on_train_begin": (0, 0),
    "on_epoch_begin": (2, 6),
    "on_batch_begin": (2, 3),
    "on_after_backward": (2, 4),
    "on_after_gradient_update": (2, 4),
    "on_after_optimizer_step": (2, 3),
    "on_batch_end": (2, 3),
    "on_evaluation_end": (2, 4),
    "on_epoch_end": (2, 6),
}
"""For each event that takes `Stop`: when it is asked, and when the run stops."""


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_all_ranks_stop_where_one_asked_or_one_update_later(engine: str, accumulate: int) -> None:
    """Keeps P41. What is asked while a window's last backward goes on comes after what the ranks tell each other."""
    events = {event for event, spec in EVENTS.items() if Stop in spec.answers}

    def program() -> list[Left]:
        return [
            asking(event, Stop("enough"), {1: asked}, accumulate=accumulate, engine=engine)
            for event, (asked, _) in STOPPED_AT.items()
        ]

    assert STOPPED_AT.keys() == events
    for (event, (_, stops)), lefts in zip(STOPPED_AT.items(), zip(*on_ranks(2, program), strict=True), strict=True):
        left = agreed(lefts)
        early = event == "on_after_backward" and accumulate == 2  # there it is asked in a window's first batch
        assert (event, left.end) == (event, Stopped(reason="enough", by=("asks",)))
        assert (event, left.at.updates, left.at.batches) == (event, stops - early, accumulate * (stops - early))


@pytest.mark.parametrize(
    ("asked", "max_updates", "stops", "epochs"),
    [
        pytest.param(1, None, 2, 0, id="after the first update"),
        pytest.param(5, None, 6, 1, id="the epoch's last update but one"),
        pytest.param(6, None, 6, 1, id="the epoch's last update"),
        pytest.param(5, 5, 5, 0, id="the run's last update"),
        pytest.param(10, 11, 11, 1, id="the run's last update but one"),
        pytest.param(18, None, 18, 3, id="the last epoch's last update"),
    ],
)
def test_a_stop_at_the_edge_of_a_run_or_an_epoch_is_that_of_all_ranks(
    asked: int, max_updates: int | None, stops: int, epochs: int
) -> None:
    """Keeps P41."""
    left = agreed(on_ranks(2, partial(asking, "on_batch_end", Stop("enough"), {0: asked}, max_updates=max_updates)))
    assert left.end == Stopped(reason="enough", by=("asks",))
    assert (left.at.updates, left.at.epochs) == (stops, epochs)


@pytest.mark.parametrize(
    ("rule", "ranks", "stops"),
    [
        ("any", {0: 2, 1: 5}, 3),
        ("any", {1: 2}, 3),
        ("all", {0: 2}, None),
        ("all", {1: 2}, None),
        ("all", {0: 2, 1: 4}, 4),
        ("all", {0: 4, 1: 4}, 4),
        ("all", {0: 2, 1: 2}, 3),
        ("rank0", {1: 2}, None),
        ("rank0", {0: 6, 1: 2}, 6),
    ],
)
def test_the_declared_rule_says_whose_stop_counts(rule: StopRule, ranks: Mapping[int, int], stops: int | None) -> None:
    """Keeps P41."""
    left = agreed(on_ranks(2, partial(asking, "on_batch_end", Stop("enough"), ranks, stop=rule)))
    if stops is None:
        assert (left.end, left.at.updates) == (Completed(), BATCHES * EPOCHS)
    else:
        assert (left.end, left.at.updates) == (Stopped(reason="enough", by=("asks",)), stops)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("event", "asked", "ends"),
    [("on_batch_begin", 2, 3), ("on_after_backward", 2, 4), ("on_batch_end", 2, 3), ("on_batch_end", 6, 6)],
)
def test_all_ranks_end_the_epoch_that_one_of_them_ends(event: str, asked: int, ends: int, accumulate: int) -> None:
    """Keeps P39 and P41. The epochs after it are whole."""
    left = agreed(on_ranks(2, partial(asking, event, EndEpoch("dull"), {1: asked}, accumulate=accumulate)))
    ends -= event == "on_after_backward" and accumulate == 2
    assert left.end == Completed()
    assert left.epochs == [(0, ends), (1, ends + BATCHES), (2, ends + 2 * BATCHES)]


@pytest.mark.parametrize(
    ("event", "asked", "evaluated"),
    [
        ("on_train_begin", 0, [0, 4, 8, 12, 16]),
        ("on_batch_end", 2, [3, 4, 8, 12, 16]),
        ("on_after_gradient_update", 1, [3, 4, 8, 12, 16]),
        ("on_batch_end", 3, [4, 8, 12, 16]),
        ("on_epoch_end", 6, [4, 6, 8, 12, 16]),
        ("on_batch_end", 18, [4, 8, 12, 16, 18]),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_all_ranks_make_the_evaluation_that_one_asks_for_and_each_once(
    event: str, asked: int, evaluated: list[int], engine: str
) -> None:
    """Keeps P39 and P41."""
    left = agreed(on_ranks(2, partial(asking, event, Evaluate("val"), {0: asked}, engine=engine)))
    assert left.evaluated == evaluated


def by_local_values(ctx: BatchEnd) -> Sequence[Evaluate | Record | EndEpoch] | None:
    """Answers that differ from rank to rank, all the time."""
    match (ctx.at.batches + 3 * me()) % 5:
        case 0:
            return [Evaluate("val"), Record({"own": float(me())})]
        case 2 if ctx.at.epochs < 2:
            return [EndEpoch("of one rank")]
        case 3:
            return [Evaluate("other")]
        case _:
            return None


def contrary(accumulate: int) -> tuple[list[tuple[str, int]], list[dict[str, float]], Progress]:
    """The evaluations, epochs and counters of a run whose ranks never want the same."""
    made = list[tuple[str, int]]()

    def note(ctx: EvaluationBegin) -> None:
        made.append((ctx.name, ctx.at.updates))

    evaluations = [Evaluation(name, batches(2), when=every(7, "updates")) for name in ("val", "other")]
    result = train(
        linear(), own_batches(11), mean_loss, sgd, epochs=4, accumulate=accumulate, evaluations=evaluations,
        hooks=[{"on_batch_end": by_local_values, "on_evaluation_begin": note}], parallel=ddp(),
    )  # fmt: skip
    return made, result.history, result.at


@pytest.mark.parametrize("accumulate", [1, 3])
def test_ranks_that_never_want_the_same_take_the_same_branches(accumulate: int) -> None:
    """Keeps P39."""
    results = on_ranks(3, contrary, accumulate)
    for _, history, _ in results:
        for row in history:
            row.pop("own", None)  # nobody reads it, so each rank has its own
    assert results[0] == results[1] == results[2]
    made, history, at = results[0]
    assert at.epochs == len(history) == 4
    assert {name for name, _ in made} == {"val", "other"}
    assert at.batches < 4 * 11  # epochs were ended
