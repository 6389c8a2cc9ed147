"""Runs whose values are written down beforehand."""

from collections.abc import Callable, Iterator, Sequence

from torch import nn

from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import EpochEnd, HookDict, HookSet, Record, TrainResult, train


def scripted(values: Sequence[float | None], *, name: str = "score") -> HookDict:
    """A set that records these values, one at each epoch's end; None records nothing."""
    waiting: Iterator[float | None] = iter(values)

    def on_epoch_end(ctx: EpochEnd) -> Record | None:
        value = next(waiting)
        return None if value is None else Record({name: value})

    return {"name": f"scripted {name}", "on_epoch_end": on_epoch_end, "provides": frozenset({name})}


def scores(*values: float) -> dict[str, Callable[[object, object], float]]:
    """A metric that gives these values, one at each evaluation of one batch."""
    waiting = iter(values)

    def score(output: object, target: object) -> float:
        return next(waiting)

    return {"score": score}


def run(hooks: Sequence[HookSet | HookDict], epochs: int = 10, model: nn.Module | None = None) -> TrainResult:
    """Two updates an epoch."""
    model = model or linear()
    return train(model, batches(2), squares, sgd(model), epochs=epochs, hooks=hooks)
