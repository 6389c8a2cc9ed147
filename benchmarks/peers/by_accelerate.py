"""Hugging Face Accelerate, the form of its page "Quicktour": `prepare`, `backward`.

It has no hooks of a loop: a hook is a function that the loop calls. Of the realistic set it has the clip and the
schedule; the rest is written into the loop.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from .driver import MAX_NORM, Book, Job, Realistic

HOOKS: tuple[str, str] = ("begin", "end")


def train(job: Job) -> Sequence[float]:
    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(job.model, job.optimizer)
    if job.realistic is not None:
        return _train_realistic(job, job.realistic, accelerator, model, optimizer)
    pairs = [pair() for _ in range(job.hooks)]
    begin, end = [begin for begin, _ in pairs], [end for _, end in pairs]
    for _ in range(job.epochs):
        for index, (x, y) in enumerate(job.data):
            for hook in begin:
                hook(index)
            optimizer.zero_grad()
            loss = job.loss(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            for hook in end:
                hook(index)
    return ()


def pair() -> tuple[Callable[[int], None], Callable[[int], None]]:
    def begin(index: int) -> None:
        pass

    def end(index: int) -> None:
        pass

    return begin, end


def _train_realistic(job: Job, realistic: Realistic, accelerator: Any, model: Any, optimizer: Any) -> list[float]:
    scheduler = accelerator.prepare(torch.optim.lr_scheduler.LambdaLR(job.optimizer, realistic.factor))
    book = Book(realistic.path)
    for _ in range(job.epochs):
        for x, y in job.data:
            optimizer.zero_grad()
            loss = job.loss(model(x), y)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            scheduler.step()
            book.losses.append(loss.item())
        if book.close_epoch():
            break
    return book.losses
