"""The models and batches that every system trains on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
import torch.nn.functional as F
from torch import nn

from .driver import Job, Realistic, Source

RATE: Final = 0.01


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One model with its batches."""

    make: Callable[[], nn.Module]
    batch: tuple[int, ...]
    """Shape of a batch of inputs."""
    outputs: int
    steps: int
    """Of an epoch."""


def _mlp() -> nn.Module:
    hidden = [layer for _ in range(3) for layer in (nn.Linear(512, 512), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(512, 512))


def _convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 8 * 8, 10),
    )  # fmt: skip


SIZES: Final = {
    "tiny": Size(make=lambda: nn.Linear(8, 2), batch=(4, 8), outputs=2, steps=300),
    "mlp": Size(make=_mlp, batch=(64, 512), outputs=512, steps=40),
    "convolution": Size(make=_convolution, batch=(16, 3, 32, 32), outputs=10, steps=13),
}


def job_of(size: str, *, hooks: int = 0, folder: Path | None = None, steps: int | None = None, epochs: int = 2) -> Job:
    """A fresh job with equal weights and batches each time; realistic if it is given a folder for its file."""
    one = SIZES[size]
    steps = steps or one.steps
    generator = torch.Generator().manual_seed(1)
    inputs, targets = one.batch, (one.batch[0], one.outputs)
    batches = [
        (torch.randn(inputs, generator=generator), torch.randn(targets, generator=generator)) for _ in range(steps)
    ]
    torch.manual_seed(0)
    model = one.make()
    realistic = None
    if folder is not None:
        realistic = Realistic(path=folder / "metrics.csv", updates=steps * epochs, updates_an_epoch=steps)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    return Job(
        model=model, optimizer=optimizer, rate=RATE, data=Source(batches), epochs=epochs, loss=F.mse_loss, hooks=hooks,
        realistic=realistic,
    )  # fmt: skip
