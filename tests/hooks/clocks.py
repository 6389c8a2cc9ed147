"""A clock that a test moves, and a program that moves it: how long each part of it takes is known to the second."""

from collections.abc import Iterator
from typing import final

from torch import Tensor, nn

from tests.loop.programs import Batch, batches, squares
from trainhooks import Gradients, GradientsReady, HookSet, StepOutput

FETCH = 0.25
STEP = 1.0
LOOK = 2.0
CLIP = 0.5


@final
class Clock:
    """Seconds, as the test moves them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@final
class Slow:
    """Data whose batches take `FETCH` seconds each."""

    def __init__(self, clock: Clock, count: int) -> None:
        self.clock, self.held = clock, batches(count)

    def __len__(self) -> int:
        return len(self.held)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.held:
            self.clock.now += FETCH
            yield batch


@final
class SlowStep:
    """A step that takes `STEP` seconds in training and `LOOK` in an evaluation."""

    def __init__(self, clock: Clock, weight: Tensor | None = None) -> None:
        self.clock, self.weight = clock, weight

    def __call__(self, model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        self.clock.now += STEP if model.training else LOOK
        output = squares(model, batch)
        weight = output.weight if self.weight is None else self.weight
        return StepOutput(output.loss, weight=weight, output=output.output, target=output.target)


def slow_clip(clock: Clock) -> HookSet:
    """A transform of gradients that takes `CLIP` seconds and changes nothing."""

    def transform_gradients(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        clock.now += CLIP
        return gradients

    return HookSet(name="slow_clip", transform_gradients=transform_gradients)
