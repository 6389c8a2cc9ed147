"""skorch, the form of its page "Quickstart": `NeuralNet(...).fit`, with its default callbacks and the split off.

Of the realistic set it has the clip, the schedule, early stopping, the mean loss and each step's loss in its history; a
callback writes the CSV file.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

import csv
from collections.abc import Sequence
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler, PassthroughScoring

from .driver import MAX_NORM, PATIENCE, Job, Realistic

HOOKS: tuple[str, str] = ("on_batch_begin", "on_batch_end")


def train(job: Job) -> Sequence[float]:
    if job.realistic is None:
        _net(job, [(f"noop_{index}", Noop()) for index in range(job.hooks)]).fit(None)
        return ()
    net = _net(job, realistic_set(job.realistic)).fit(None)
    return [loss for epoch in net.history[:, "batches", :, "train_loss"] for loss in epoch]


def _net(job: Job, callbacks: list[tuple[str, Any]]) -> Any:
    def ready(dataset: Any, **kwargs: Any) -> Any:
        return job.data

    return NeuralNet(
        job.model, torch.nn.MSELoss, optimizer=torch.optim.SGD, lr=job.rate, max_epochs=job.epochs, train_split=None,
        iterator_train=ready, dataset=Nothing, callbacks=callbacks, callbacks__epoch_timer=None,
        callbacks__train_loss=None, callbacks__valid_loss=None, callbacks__print_log=None,
    )  # fmt: skip


class Nothing:
    """A data set that is not looked at: the iterator has the batches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __len__(self) -> int:
        return 1


class Noop(Callback):
    def on_batch_begin(self, net: Any, batch: Any = None, training: Any = None, **kwargs: Any) -> None:
        pass

    def on_batch_end(self, net: Any, batch: Any = None, training: Any = None, **kwargs: Any) -> None:
        pass


def realistic_set(realistic: Realistic) -> list[tuple[str, Any]]:
    return [
        ("clip", GradientNormClipping(MAX_NORM)),
        ("schedule", LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=realistic.factor, step_every="batch")),
        ("mean", PassthroughScoring("train_loss", on_train=True)),
        ("stopping", EarlyStopping("train_loss", patience=PATIENCE)),
        ("file", WriteEpoch(realistic)),
    ]


class WriteEpoch(Callback):
    def __init__(self, realistic: Realistic) -> None:
        self.realistic = realistic

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        with self.realistic.path.open("a", newline="") as file:
            csv.writer(file).writerow((net.history[-1, "epoch"], net.history[-1, "train_loss"]))
