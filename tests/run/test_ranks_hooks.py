"""Hooks over ranks: where each is called, what it is given, and that none of them can leave the others waiting."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import attrs
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.loop.programs import batches, linear, sgd, squares
from tests.ranks import on_ranks
from tests.run.several import ENGINES, me, own_batches
from trainhooks import (
    EVENTS,
    BatchEnd,
    EpochEnd,
    Evaluation,
    HookSet,
    ProcessStart,
    Progress,
    Rank,
    Run,
    Slots,
    TrainBegin,
    compose,
    ddp,
    every_seconds,
    for_device,
    for_rank,
    stateful,
    train,
    when,
)
from trainhooks.distributed import Ranks
from trainhooks.errors import HookDefinitionError
from trainhooks.loop import Live


def test_a_set_that_runs_collectives_is_refused_under_a_rank_filter_when_composed() -> None:
    """Keeps P40."""
    gathers = HookSet(name="gathers", collective=True, on_epoch_end=lambda ctx: None)
    restricted = HookSet(name="gathers", collective=True, ranks=frozenset({0}), on_epoch_end=lambda ctx: None)
    for hooks in (for_rank(0, gathers), for_device(0, gathers), restricted):
        with pytest.raises(HookDefinitionError, match=r"'gathers' runs collectives \(collective=True\), which need"):
            compose(hooks)
    assert compose(gathers).order("on_epoch_end") == ("gathers",)


def handles(value: object, seen: set[int], path: str) -> Iterator[str]:
    """Where, within what a hook is given, there is something that starts collectives."""
    if id(value) in seen or isinstance(value, str | bytes | int | float | type):
        return
    seen.add(id(value))
    if isinstance(value, Ranks | Live | dist.ProcessGroup | nn.parallel.DistributedDataParallel):
        yield f"{path}: {type(value).__name__}"
        return
    if isinstance(value, nn.Module | Tensor | Optimizer):
        return  # as the user gave them
    parts: list[tuple[str, object]] = []
    if attrs.has(type(value)):
        parts = [(one.name, getattr(value, one.name)) for one in attrs.fields(cast("Any", type(value)))]
    elif isinstance(value, dict):
        parts = [(str(name), one) for name, one in cast("dict[object, object]", value).items()]
    elif isinstance(value, list | tuple):
        parts = [(str(place), one) for place, one in enumerate(cast("list[object]", value))]
    for name, part in parts:
        yield from handles(part, seen, f"{path}.{name}")


def given() -> tuple[set[str], list[str]]:
    """The events of a run over ranks, and the handles in what their hooks were given."""
    heard, found = set[str](), list[str]()

    def look(event: str) -> Callable[..., object]:
        def hear(ctx: object, *value: object) -> object:
            heard.add(event)
            found.extend(handles((ctx, *value), set(), event))
            return value[0] if value else None

        return hear

    hooks = {event: look(event) for event, spec in EVENTS.items() if spec.kind != "around"}
    train(
        linear(), own_batches(3), squares, sgd, epochs=1, evaluations=[Evaluation("val", batches(2))],
        hooks=HookSet(name="looks", **cast("Slots", hooks)), parallel=ddp(),
    )  # fmt: skip
    return heard, found


def test_no_context_has_a_handle_that_starts_a_collective() -> None:
    """Keeps P40. The model is the one that the user gave, not the one that DDP made of it."""
    for heard, found in on_ranks(2, given):
        assert heard == {
            event for event, spec in EVENTS.items() if spec.kind != "around" and event != "on_checkpoint_saved"
        }
        assert found == []


def test_what_looks_for_handles_finds_them() -> None:
    run = Run(
        model=linear(), optimizers=(), device=torch.device("cpu"), rank=Rank(), epochs=1, max_updates=None,
        accumulate=1, precision="float32", seed=None, experiment=None, run_id="x",
    )  # fmt: skip
    assert list(handles((run, {"there": [Ranks(Rank())]}), set(), "ctx")) == ["ctx.1.there.0: Ranks"]


def called(local_world: int | None) -> tuple[list[str], dict[str, Any], Rank]:
    """Which sets a rank calls, which states it makes, and who it is, in a run where each set is for some ranks."""
    if local_world is not None:
        os.environ["LOCAL_RANK"], os.environ["LOCAL_WORLD_SIZE"] = f"{me() % local_world}", f"{local_world}"
    calls, ranks = list[str](), list[Rank]()

    def hear(name: str, ranks: frozenset[int] | None = None) -> HookSet:
        def on_epoch_end(ctx: EpochEnd) -> None:
            calls.append(name)

        return HookSet(name=name, ranks=ranks, on_epoch_end=on_epoch_end)

    def note(ctx: TrainBegin) -> None:
        ranks.append(ctx.run.rank)

    def count(ctx: BatchEnd, counted: int) -> tuple[int, None]:
        return counted + 1, None

    result = train(
        linear(), own_batches(3), squares, sgd, epochs=1, parallel=ddp(),
        hooks=[
            hear("all"), for_rank(1, hear("rank 1")), for_device(0, hear("device 0")), for_device(1, hear("device 1")),
            hear("some", frozenset({0, 2})), for_rank(9, hear("nobody")), {"on_train_begin": note},
            for_rank(2, stateful("counts", lambda: 0, on_batch_end=count)),
        ],
    )  # fmt: skip
    return calls, dict(result.hook_states), ranks[0]


@pytest.mark.parametrize("local_world", [None, 2], ids=["one node", "nodes of two"])
def test_each_set_is_called_where_it_should_be_and_keeps_its_state_there(local_world: int | None) -> None:
    """Keeps P40 and P02, over ranks: `for_rank` is of the whole run, `for_device` of each node."""
    device = [(rank % local_world) if local_world else rank for rank in range(4)]
    for rank, (calls, states, said) in enumerate(on_ranks(4, called, local_world)):
        assert calls == [
            "all", *["rank 1"] * (rank == 1), *["device 0"] * (device[rank] == 0), *["device 1"] * (device[rank] == 1),
            *["some"] * (rank in (0, 2)),
        ]  # fmt: skip
        assert states == ({"counts": 3} if rank == 2 else {})
        assert said == Rank(index=rank, world=4, local_index=device[rank], local_world=local_world or 4)


def fired(engine: str, seconds: float) -> list[int]:
    """The updates at which a hook was called that is due every so many seconds, on ranks with clocks of their own."""
    points, real, ticks = list[int](), time.monotonic, [0]

    def ticking() -> float:
        return real() + 1000.0 * me() + ticks[0] * (0.05 if me() == 0 else 7.0)

    def hear(ctx: BatchEnd) -> None:
        points.append(ctx.at.updates)

    def tick(ctx: BatchEnd) -> None:
        ticks[0] += 1

    time.monotonic = ticking
    train(
        linear(), own_batches(30), squares, sgd, epochs=1, parallel=ENGINES[engine](),
        hooks=[when(every_seconds(seconds), {"on_batch_end": hear}), {"on_batch_end": tick}],
        evaluations=[Evaluation("val", batches(1), when=every_seconds(seconds))],
    )  # fmt: skip
    return points


@pytest.mark.parametrize("engine", ENGINES)
def test_every_seconds_fires_at_the_same_updates_on_all_ranks(engine: str) -> None:
    """Keeps P39. The clock is rank 0's, which says here that a batch takes 0.05 s, and others that it takes 7 s."""
    results = on_ranks(2, fired, engine, 0.4)
    assert results[0] == results[1]
    assert 3 <= len(results[0]) <= 15


class Processes:
    """An object that notes when it is called."""

    def __init__(self) -> None:
        self.calls = list[tuple[str, Any]]()

    def on_train_loop_registration(self, ctx: Any) -> None:
        self.calls.append(("registration", None))

    def on_multiprocess_start(self, ctx: ProcessStart) -> None:
        self.calls.append(("process", (ctx.rank, ctx.restart_count, dist.get_world_size(), ctx.at == Progress())))

    def on_train_begin(self, ctx: TrainBegin) -> None:
        self.calls.append(("train", None))


def started(restarts: str | None) -> list[tuple[str, Any]]:
    if restarts is not None:
        os.environ["TORCHELASTIC_RESTART_COUNT"] = restarts
    hook = Processes()
    train(linear(), own_batches(2), squares, sgd, epochs=2, parallel=ddp(), hooks=hook)
    return hook.calls


@pytest.mark.parametrize("restarts", [None, "3"])
def test_each_process_is_told_once_that_it_has_joined_its_group(restarts: str | None) -> None:
    for index, calls in enumerate(on_ranks(2, started, restarts)):
        rank = Rank(index=index, world=2, local_index=index, local_world=2)
        assert calls == [
            ("registration", None), ("process", (rank, int(restarts or 0), 2, True)), ("train", None)
        ]  # fmt: skip


def test_in_one_process_there_is_no_group_to_be_told_of() -> None:
    assert started(None) == [("registration", None), ("train", None)]
