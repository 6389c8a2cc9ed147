"""Small runs that save, and what they leave in their folder."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, linear, sgd, squares
from trainhooks import Evaluation, Experiment, Hooks, TrainResult, Trigger, every, train
from trainhooks.data import SeededLoader, seeded_loader


def experiment(folder: Path | str, **more: Any) -> Experiment:
    return Experiment(project="tests", name="saving", root=folder, **more)


def loader(samples: int = 24, batch_size: int = 4, workers: int = 0) -> SeededLoader[Batch]:
    generator = torch.Generator().manual_seed(1)
    data = [(torch.randn(3, generator=generator), torch.randn(2, generator=generator)) for _ in range(samples)]
    return seeded_loader(data, batch_size=batch_size, seed=2, num_workers=workers)


def run(
    folder: Path | str,
    hooks: Hooks[Any, Any],
    *,
    model: nn.Module | None = None,
    updates: int | None = None,
    epochs: int | None = None,
    data: Iterable[Any] | None = None,
    evaluations: Sequence[Evaluation] = (),
    **more: Any,
) -> TrainResult:
    """Train a small model, of which the experiment is in the folder."""
    trained = linear() if model is None else model
    return train(
        trained, loader() if data is None else data, squares, sgd(trained), max_updates=updates, epochs=epochs,
        hooks=hooks, evaluations=evaluations, experiment=experiment(folder), **more,
    )  # fmt: skip


def scripted(values: Sequence[float], when: Trigger = every(1, "updates")) -> Evaluation:
    """An evaluation named `val` whose `score` takes these values, one after the other."""
    waiting = iter(values)

    def score(output: Tensor, target: Tensor) -> float:
        return next(waiting)

    return Evaluation("val", batches(1), metrics={"score": score}, when=when)


def steps(result: TrainResult) -> list[int]:
    return [one.step for one in result.checkpoints]


def state_of(model: nn.Module) -> dict[str, list[Any]]:
    return {name: value.tolist() for name, value in cast("dict[str, Tensor]", model.state_dict()).items()}
