"""Catalyst, the form of its README's "Getting started": `SupervisedRunner.train`.

Of the realistic set it has the schedule, early stopping, the mean loss and the CSV file; its own argument for a clip
fails, so a callback clips between the backward and the step.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from catalyst import dl

from .driver import MAX_NORM, PATIENCE, Batch, Job, Source

HOOKS: tuple[str, str] = ("on_batch_start", "on_batch_end")


def train(job: Job) -> Sequence[float]:
    if job.realistic is None:
        _train(job, [Noop() for _ in range(job.hooks)])
        return ()
    record = RecordLoss()
    callbacks = [
        Clip(),
        dl.SchedulerCallback(mode="batch"),
        dl.EarlyStoppingCallback(patience=PATIENCE, loader_key="train", metric_key="loss", minimize=True),
        record,
    ]
    scheduler = torch.optim.lr_scheduler.LambdaLR(job.optimizer, job.realistic.factor)
    logger = dl.CSVLogger(logdir=str(job.realistic.path.parent))
    _train(job, callbacks, scheduler=scheduler, loggers={"csv": logger})
    return record.losses


def _train(job: Job, callbacks: list[Any], **keywords: Any) -> None:
    dl.SupervisedRunner().train(
        model=job.model, criterion=torch.nn.MSELoss(), optimizer=job.optimizer, loaders={"train": Loader(job.data)},
        num_epochs=job.epochs, callbacks=callbacks, engine=dl.CPUEngine(), **keywords,
    )  # fmt: skip


class Loader:
    """The batches, with what the runner asks a torch loader for."""

    batch_sampler = sampler = None

    def __init__(self, data: Source) -> None:
        self.data = data
        self.batch_size = len(data.batches[0][0])

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.data)


class Noop(dl.Callback):
    def __init__(self) -> None:
        super().__init__(order=dl.CallbackOrder.External)

    def on_batch_start(self, runner: Any) -> None:
        pass

    def on_batch_end(self, runner: Any) -> None:
        pass


class Clip(dl.Callback):
    def __init__(self) -> None:
        super().__init__(order=dl.CallbackOrder.Backward + 1)

    def on_batch_end(self, runner: Any) -> None:
        torch.nn.utils.clip_grad_norm_(runner.model.parameters(), MAX_NORM)


class RecordLoss(dl.Callback):
    def __init__(self) -> None:
        super().__init__(order=dl.CallbackOrder.External)
        self.losses: list[float] = []

    def on_batch_end(self, runner: Any) -> None:
        self.losses.append(runner.batch_metrics["loss"].item())
