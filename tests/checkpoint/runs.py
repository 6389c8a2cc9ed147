"""A run that saves: its states, its metrics, and what must hold of its folder at every moment."""

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from attrs import define, field

from tests.checkpoint.trees import same
from trainhooks.checkpoint import Manifest, Writer, begin_attempt, manifests_of, newest_whole, read, sweep, verify
from trainhooks.checkpoint.retention import best_of
from trainhooks.core import Keep
from trainhooks.store import Store

KEEP = (Keep(last=1), Keep(best=("loss", "min")))
LOSSES = (4.0, math.nan, 1.0, 3.0, 1.0, 2.0, 0.5, 0.75)
"""The loss of each step, from 1; from the ninth on it is the step itself."""


def loss_of(step: int) -> float:
    return LOSSES[step - 1] if step <= len(LOSSES) else float(step)


def state_of(step: int, size: int = 5) -> dict[str, Any]:
    """The state at a step; no two steps share a number."""
    weight = torch.arange(size, dtype=torch.float32) + 1000 * step
    return {
        "model": {"w": weight, "b": torch.tensor(float(step))},
        "optimizers": [{"state": {0: {"m": weight + 0.5}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
        "progress": {"updates": step},
        "random": (step, math.nan),
    }


@final
@define
class Run:
    """A process of a run: where it began, and what it was told of its saves."""

    store: Store
    policies: Sequence[Keep] = KEEP
    size: int = 5
    """Elements of the model's weight."""
    step: int = 0
    acknowledged: list[int] = field(factory=list[int])
    """The steps that it knows to be durable."""
    told: Callable[[int], None] = lambda _: None
    """Called with each of them."""

    def go(self, saves: int) -> None:
        """Begin where the folder says, as `train` does, and save so many times."""
        found = newest_whole(self.store)
        self.step = 0 if found is None else found[0].step
        attempt = begin_attempt(self.store, resumed_from=None if found is None else self.step)
        sweep(self.store, attempt)
        writer = Writer(self.store, attempt, self.policies)
        for _ in range(saves):
            self.step += 1
            metrics = {"loss": loss_of(self.step)}
            writer.save(
                state_of(self.step, self.size), step=self.step, epoch=0, epochs=0, metrics=metrics, background=False
            )
            for one in writer.finished():
                self.acknowledged.append(one.step)
                self.told(one.step)
        writer.close()


def check(store: Store, acknowledged: Sequence[int], size: int = 5) -> list[Manifest]:
    """What must hold of a folder whatever happened to the processes that wrote it.

    Every manifest that is there is whole; the newest is no older than what was acknowledged last, its state is the one
    of its step, and the best of what was acknowledged was not lost to a worse one.
    """
    manifests = manifests_of(store)
    for one in manifests:
        verify(store, one)
        assert same(read(store, one), state_of(one.step, size))
    found = newest_whole(store)
    if acknowledged:
        assert found is not None
        assert found[0] == manifests[0]
        assert found[0].step >= max(acknowledged)
        losses = [loss_of(step) for step in acknowledged if not math.isnan(loss_of(step))]
        if losses:
            best = best_of(manifests, "loss", "min")
            assert best is not None
            assert best.metrics["loss"] <= min(losses)
    return manifests


def orphans(store: Store) -> list[str]:
    """The files that no manifest refers to."""
    needed = {file.key for one in manifests_of(store) for file in one.files}
    return [one.key for one in store.list("ckpt/") if one.key not in needed]
