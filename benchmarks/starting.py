"""What comes before the first step: composing hooks, specialising the loop, setting a run up."""

import time
from collections.abc import Callable
from typing import Final, final

from attrs import frozen

from trainhooks import compose, train
from trainhooks.loop import specialise

from .programs import OPTIMIZERS, bare, batches, noops, sets_of, tiny

_REPEATS: Final = 5


@final
@frozen(kw_only=True)
class Start:
    """Seconds that so many hooks cost before the first step."""

    hooks: int
    compose: float
    """To put them in order."""
    specialise: float
    """To make the loop of their events; paid once a process for each set of events."""
    train: float
    """To set a run up and end it without a step, its hooks composed and its loop made."""


def start_with(hooks: int) -> Start:
    """Measure the start with so many hooks on the two batch events."""
    sets = sets_of(noops(hooks), noops(hooks))
    table = compose(*sets)
    model, data = tiny(), batches(1)
    optimizer = OPTIMIZERS["SGD"](model)
    return Start(
        hooks=hooks,
        compose=_least(lambda: compose(*sets)),
        specialise=_least(lambda: specialise.__wrapped__(table.events)),
        train=_least(lambda: train(model, data, bare, optimizer, epochs=0, hooks=table)),
    )


def _least(function: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(_REPEATS):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return min(times)
