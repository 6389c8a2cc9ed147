"""A realistic run: each loss recorded, a clip, a schedule, evaluations, early stopping and a CSV file."""

import csv as csv_format
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import nn
from torch.optim import Optimizer

from trainhooks import BatchEnd, Evaluation, Hooks, Record, every, train, when
from trainhooks.hooks import clip_grad_norm, csv, early_stopping, history, lr_schedule

from .programs import Batch, Program, batches, whole

EPOCHS: Final = 2
PATIENCE: Final = 3
MAX_NORM: Final = 1.0


@final
@frozen(kw_only=True, eq=False)
class Task:
    """What is trained and evaluated on, and what is written where."""

    data: Sequence[Batch]
    validation: Sequence[Batch]
    path: Path
    each_batch: bool
    """Whether the file gets a row for each batch, or for each epoch alone."""

    def factor(self, update: int) -> float:
        """Linear decay of the learning rate."""
        return 1.0 - update / (EPOCHS * len(self.data) + 1)


def task_in(folder: Path, steps: int, *, each_batch: bool) -> Task:
    """So many steps in all; after each epoch an evaluation on a tenth as many batches."""
    return Task(
        data=batches(steps // EPOCHS),
        validation=batches(steps // EPOCHS // 10),
        path=folder / "metrics.csv",
        each_batch=each_batch,
    )


def by_hand(task: Task) -> Program:
    """The loop that one writes, its schedule plain arithmetic: a scheduler object would only slow it down."""

    def program(model: nn.Module, optimizer: Optimizer) -> None:
        parameters = list(model.parameters())
        group = optimizer.param_groups[0]
        rate = group["lr"]
        losses: list[float] = []
        best, bad = float("inf"), 0
        with task.path.open("w", newline="") as file:
            rows = csv_format.writer(file)
            for epoch in range(EPOCHS):
                total = 0.0
                for x, y in task.data:
                    group["lr"] = rate * task.factor(len(losses))
                    optimizer.zero_grad()
                    loss = F.mse_loss(model(x), y)
                    loss.backward()
                    nn.utils.clip_grad_norm_(parameters, MAX_NORM)
                    optimizer.step()
                    losses.append(loss.item())
                    total += losses[-1]
                    if task.each_batch:
                        rows.writerow((epoch, len(losses), losses[-1]))
                        file.flush()
                found = _evaluated(model, task.validation)
                rows.writerow((epoch, len(losses), total / len(task.data), found))
                file.flush()
                best, bad = (found, 0) if found < best else (best, bad + 1)
                if bad >= PATIENCE:
                    break

    return program


def _evaluated(model: nn.Module, data: Sequence[Batch]) -> float:
    model.eval()
    total, items = 0.0, 0
    with torch.no_grad():
        for x, y in data:
            total += F.mse_loss(model(x), y).item() * len(y)
            items += len(y)
    model.train()
    return total / items


def by_trainhooks(task: Task) -> Program:
    """The same by the hooks that ship."""

    def program(model: nn.Module, optimizer: Optimizer) -> None:
        table = csv(task.path)
        hooks: Hooks = [
            {"on_batch_end": loss_of_each_batch},
            clip_grad_norm(MAX_NORM),
            lr_schedule(task.factor),
            early_stopping("val/loss", mode="min", patience=PATIENCE),
            table if task.each_batch else when(every(len(task.data), "updates"), table),
            history(),
        ]
        evaluations = [Evaluation(name="val", data=task.validation)]
        train(model, task.data, whole, optimizer, epochs=EPOCHS, hooks=hooks, evaluations=evaluations)

    return program


def loss_of_each_batch(ctx: BatchEnd) -> Record:
    return Record({"batch/loss": ctx.loss})
