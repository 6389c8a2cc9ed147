"""PyTorch's profiler traces the batches that it is asked for, in files that can be read."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from torch.profiler import record_function

from tests.loop.programs import Batch, batches, equal, linear, sgd, squares, weights
from trainhooks import HookDict, HookSet, StepOutput, Stop, train
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks.tracing import profiler

COUNT = 8
"""Batches of a run."""


def marked(model: Any, batch: Batch) -> StepOutput[Any]:
    with record_function("my step"):
        return squares(model, batch)


def run(*hooks: HookSet | HookDict) -> list[Any]:
    model = linear()
    train(model, batches(COUNT), marked, sgd(model), epochs=1, hooks=list(hooks))
    return weights(model)


def steps(path: Path) -> int:
    """How often the step is in a trace."""
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return sum(one.get("name") == "my step" and one.get("ph") == "X" for one in events)


def traces(folder: Path) -> dict[str, int]:
    return {path.name: steps(path) for path in sorted(folder.iterdir())}


def test_a_trace_holds_the_batches_that_it_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "traces"
    run(profiler(folder, wait=1, warmup=1, active=2, repeat=1))
    assert traces(folder) == {"rank0-batch4.json": 2}


def test_traces_are_repeated_as_often_as_is_said(tmp_path: Path) -> None:
    run(profiler(tmp_path, wait=0, warmup=1, active=1, repeat=2))
    assert traces(tmp_path) == {"rank0-batch2.json": 1, "rank0-batch4.json": 1}


def test_without_a_count_there_are_as_many_as_the_run_has_room_for(tmp_path: Path) -> None:
    run(profiler(tmp_path, wait=1, warmup=1, active=2, repeat=0))
    assert traces(tmp_path) == {"rank0-batch4.json": 2, "rank0-batch8.json": 2}


def test_a_run_that_ends_while_it_traces_writes_what_it_has(tmp_path: Path) -> None:
    def stop(ctx: Any) -> Stop | None:
        return Stop("enough") if ctx.at.updates == 4 else None

    run(profiler(tmp_path, wait=1, warmup=1, active=5), {"on_batch_end": stop})
    assert traces(tmp_path) == {"rank0-batch4.json": 2}


def test_a_run_that_fails_leaves_the_profiler_and_the_next_one_works(tmp_path: Path) -> None:
    def fail(ctx: Any) -> None:
        if ctx.at.updates == 4:
            raise ValueError("broken")

    hook = profiler(tmp_path, wait=1, warmup=1, active=5)
    with pytest.raises(ValueError, match="broken"):
        run(hook, {"on_batch_end": fail})
    assert traces(tmp_path) == {"rank0-batch4.json": 2}
    run(hook)
    assert traces(tmp_path) == {"rank0-batch4.json": 2, "rank0-batch7.json": 5}


def test_profiling_changes_no_trained_parameter(tmp_path: Path) -> None:
    """Keeps P08, and P58: with a profiler on, the plain calls are made."""
    assert equal(run(profiler(tmp_path)), run())
    (path,) = tmp_path.iterdir()
    names = {one.get("name", "") for one in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]}
    assert "Optimizer.step#SGD.step" in names
    assert "Optimizer.zero_grad#SGD.zero_grad" in names


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"folder": 3}, "profiler takes the folder of its traces, got 3"),
        ({"wait": -1}, "wait is a whole number of batches from 0 on, got -1"),
        ({"active": 0}, "active is a whole number of batches from 1 on, got 0"),
        ({"warmup": 1.5}, r"warmup is a whole number of batches from 0 on, got 1\.5"),
        ({"repeat": True}, "repeat is a whole number of batches from 0 on, got True"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        cast("Any", profiler)(**{"folder": "traces", **arguments})
