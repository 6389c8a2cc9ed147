"""Lightning Fabric, the form of its page "Convert PyTorch code to Fabric"; hooks by `fabric.call`, as its page on them.

It has no schedule, early stopping or record of its own: those of the realistic set are written into the loop.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric import Fabric

from .driver import MAX_NORM, Book, Job, Realistic

HOOKS: tuple[str, str] = ("on_train_batch_start", "on_train_batch_end")


def train(job: Job) -> Sequence[float]:
    fabric = Fabric(accelerator="cpu", devices=1, callbacks=[Noop() for _ in range(job.hooks)])
    fabric.launch()
    model, optimizer = fabric.setup(job.model, job.optimizer)
    if job.realistic is not None:
        return _train_realistic(job, job.realistic, fabric, model, optimizer)
    if job.hooks:
        _train_calling(job, fabric, model, optimizer)
    else:
        _train_plain(job, fabric, model, optimizer)
    return ()


class Noop:
    def on_train_batch_start(self, batch_idx: int) -> None:
        pass

    def on_train_batch_end(self, batch_idx: int) -> None:
        pass


def _train_plain(job: Job, fabric: Any, model: Any, optimizer: Any) -> None:
    for _ in range(job.epochs):
        for x, y in job.data:
            optimizer.zero_grad()
            loss = job.loss(model(x), y)
            fabric.backward(loss)
            optimizer.step()


def _train_calling(job: Job, fabric: Any, model: Any, optimizer: Any) -> None:
    for _ in range(job.epochs):
        for index, (x, y) in enumerate(job.data):
            fabric.call("on_train_batch_start", batch_idx=index)
            optimizer.zero_grad()
            loss = job.loss(model(x), y)
            fabric.backward(loss)
            optimizer.step()
            fabric.call("on_train_batch_end", batch_idx=index)


def _train_realistic(job: Job, realistic: Realistic, fabric: Any, model: Any, optimizer: Any) -> list[float]:
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, realistic.factor)
    book = Book(realistic.path)
    for _ in range(job.epochs):
        for x, y in job.data:
            optimizer.zero_grad()
            loss = job.loss(model(x), y)
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=MAX_NORM)
            optimizer.step()
            scheduler.step()
            book.losses.append(loss.item())
        if book.close_epoch():
            break
    return book.losses
