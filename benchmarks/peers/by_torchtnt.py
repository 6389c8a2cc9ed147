"""TorchTNT, the form of its pages "Unit" and "Train": a `TrainUnit` of one's own and `train`.

Of the realistic set it has early stopping on a value of the unit; the unit and a callback do what is left.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

from collections.abc import Sequence
from typing import Any

import torch
from torchtnt.framework.callback import Callback
from torchtnt.framework.callbacks import EarlyStopping
from torchtnt.framework.train import train as train_by_torchtnt
from torchtnt.framework.unit import TrainUnit
from torchtnt.utils.early_stop_checker import EarlyStopChecker

from .driver import MAX_NORM, PATIENCE, Batch, Book, Job, Realistic

HOOKS: tuple[str, str] = ("on_train_step_start", "on_train_step_end")


def train(job: Job) -> Sequence[float]:
    if job.realistic is None:
        train_by_torchtnt(Unit(job), job.data, max_epochs=job.epochs, callbacks=[Noop() for _ in range(job.hooks)])
        return ()
    unit = RealisticUnit(job, job.realistic)
    stopping = EarlyStopping("mean", EarlyStopChecker("min", PATIENCE))
    train_by_torchtnt(unit, job.data, max_epochs=job.epochs, callbacks=[stopping])
    return unit.book.losses


class Unit(TrainUnit[Batch]):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self.module, self.optimizer, self.loss = job.model, job.optimizer, job.loss

    def train_step(self, state: Any, data: Batch) -> None:
        x, y = data
        self.optimizer.zero_grad()
        loss = self.loss(self.module(x), y)
        loss.backward()
        self.optimizer.step()


class RealisticUnit(TrainUnit[Batch]):
    def __init__(self, job: Job, realistic: Realistic) -> None:
        super().__init__()
        self.module, self.optimizer, self.loss = job.model, job.optimizer, job.loss
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(job.optimizer, realistic.factor)
        self.book = Book(realistic.path)
        self.mean = float("inf")

    def train_step(self, state: Any, data: Batch) -> None:
        x, y = data
        self.optimizer.zero_grad()
        loss = self.loss(self.module(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), MAX_NORM)
        self.optimizer.step()
        self.scheduler.step()
        self.book.losses.append(loss.item())

    def on_train_epoch_end(self, state: Any) -> None:
        self.book.close_epoch()
        self.mean = self.book.mean


class Noop(Callback):
    def on_train_step_start(self, state: Any, unit: Any) -> None:
        pass

    def on_train_step_end(self, state: Any, unit: Any) -> None:
        pass
