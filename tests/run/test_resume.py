"""Interrupted and resumed is uninterrupted, bit for bit."""

from typing import Any, Literal

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from tests.run.resuming import Precision, Program, Ran, ran
from trainhooks import BatchEnd, Stop, Stopped, Trigger, at_points, every, every_seconds

NEVER = every_seconds(1e9)


AT_AN_UNKNOWN_END: Any = {"accumulate": 1, "precision": "float32", "by_stop": False, "sized": False}
"""Stopped at an epoch's last batch, which nobody knows to be the last."""


def uninterrupted(program: Program, updates: int) -> Ran:
    return ran(program, max_updates=updates, save=every(1, "epochs"))


def stopping(updates: int) -> dict[str, object]:
    def stop(ctx: BatchEnd) -> Stop | None:
        return Stop("enough") if ctx.updated and ctx.at.updates == updates else None

    return {"name": "stopping", "on_batch_end": stop}


@pytest.mark.filterwarnings("ignore:.*(can never be due|never appeared)")  # in a run that stops before
@given(
    stops=st.lists(st.integers(1, 12), min_size=1, max_size=2),
    accumulate=st.sampled_from([1, 2, 3]),
    precision=st.sampled_from(["float32", "bf16-mixed", "fp16-mixed"]),
    evaluate=st.sampled_from([every(1, "epochs"), every(2, "updates"), every(3, "batches")]),
    by_stop=st.booleans(),
    sized=st.booleans(),
)
@example(stops=[8], evaluate=every(2, "updates"), **AT_AN_UNKNOWN_END)
@example(stops=[8], evaluate=every(3, "batches"), **AT_AN_UNKNOWN_END)
def test_an_interrupted_run_that_goes_on_is_the_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory,
    stops: list[int],
    accumulate: int,
    precision: Precision,
    evaluate: Trigger,
    by_stop: bool,
    sized: bool,
) -> None:
    """Keeps P17, P11, P18, P20, P21, P22, P62."""
    folder, other = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    program = Program(folder=folder, accumulate=accumulate, precision=precision, evaluate=evaluate, sized=sized)
    whole, parts = uninterrupted(program, 14), evolve(program, folder=other)
    trace, read = list[tuple[object, ...]](), list[int]()
    resume: Literal["never", "must"] = "never"
    for stop in sorted(set(stops)):
        part = ran(
            parts, max_updates=14 if by_stop else stop, save=at_points([stop], "updates"), resume=resume,
            more=[stopping(stop)] if by_stop else [],
        )  # fmt: skip
        trace += part.trace
        read += part.read
        resume = "must"
        if isinstance(part.result.end, Stopped) and "early_stopping" in part.result.end.by:
            break
    else:
        part = ran(parts, max_updates=14, save=NEVER, resume=resume)
        trace += part.trace
        read += part.read
    assert part.facts() == whole.facts()
    assert trace == whole.trace
    assert read == whole.read or not sized  # without a length, a batch is read ahead
    assert (parts.folder / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()
