"""`ctx.generator`: random numbers from the facts of a run, with the global streams left alone."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve

from tests.core.places import RUN, place
from tests.core.streams import global_streams
from trainhooks import EVENTS, Progress, Rank


def draw(ctx: Any, name: str = "noise") -> tuple[float, ...]:
    numbers = torch.rand(4, generator=ctx.generator(name))
    return tuple(number.item() for number in numbers)


def here(**facts: Any) -> tuple[float, ...]:
    """Four numbers at some place, with some facts of the run or of its progress as given."""
    name = facts.pop("name", "noise")
    of_run = {key: facts.pop(key) for key in ("seed", "rank") if key in facts}
    return draw(place("on_batch_end", run=evolve(RUN, **of_run), at=Progress(**facts)), name)


@pytest.mark.parametrize("event", EVENTS)
def test_every_context_gives_the_same_numbers_at_the_same_place(event: str) -> None:
    at = Progress(updates=3, batches=7, epochs=1, epoch=1, batch=2)
    assert draw(place(event, at=at)) == here(updates=3, batches=7, epochs=1, epoch=1, batch=2)


def test_equal_facts_give_equal_streams_however_often_they_are_asked_for() -> None:
    ctx = place("on_batch_end", at=Progress(updates=3))
    assert draw(ctx) == draw(ctx) == draw(place("on_batch_end", at=Progress(updates=3)))
    other = evolve(RUN, run_id="another", epochs=99, accumulate=1, precision="bf16-mixed")
    assert draw(place("on_batch_end", run=other, at=Progress(updates=3))) == draw(ctx)


def test_every_fact_that_counts_gives_a_stream_of_its_own() -> None:
    streams = [
        here(), here(seed=6), here(seed=-1), here(seed=2**70), here(seed=51), here(name="other"), here(name=""),
        here(rank=Rank(index=1, world=2)), here(updates=1), here(batches=1), here(epochs=1), here(epoch=1),
        here(batch=1), here(batches=11), here(epoch=1, batch=1), here(updates=1, batches=2), here(updates=12),
    ]  # fmt: skip
    assert len(set(streams)) == len(streams)
    assert here(rank=Rank(index=0, world=4, local_index=0, local_world=2)) == here()


def test_the_numbers_are_the_same_in_every_process() -> None:
    program = "from tests.core.test_randomness import here; print(here(updates=4, name='mix'))"
    command = [sys.executable, "-W", "ignore", "-c", program]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    assert said.strip() == repr(here(updates=4, name="mix"))


def test_without_a_seed_the_seed_of_torch_stands_in_and_is_not_drawn_from() -> None:
    before = torch.get_rng_state()
    try:
        torch.manual_seed(5)
        assert here(seed=None) == here(seed=5)
        torch.rand(3)
        assert here(seed=None) == here(seed=5)
        torch.manual_seed(6)
        assert here(seed=None) == here(seed=6)
    finally:
        torch.set_rng_state(before)


@pytest.mark.parametrize("seed", [None, 5])
def test_the_global_streams_are_left_alone(seed: int | None) -> None:
    before = global_streams()
    assert len(set(here(seed=seed))) == 4
    assert global_streams() == before
    for draw_from in (random.random, np.random.random, lambda: torch.rand(())):
        moved = global_streams()
        draw_from()
        assert global_streams() != moved


def test_the_generator_stands_on_the_device_asked_for() -> None:
    ctx = place("on_batch_end")
    assert ctx.generator("noise").device == torch.device("cpu")
    assert ctx.generator("noise", torch.device("cpu")).initial_seed() == ctx.generator("noise").initial_seed()
    assert 0 <= ctx.generator("noise").initial_seed() < 2**63
