"""pytorch-pfn-extras, the form of its page "Extensions Manager": one's own loop, and in it `manager.run_iteration`.

It has one event, the end of an iteration: what is called at the begin of a batch is called by the loop. Of the
realistic set it has the schedule and early stopping; the clip is in the loop, and an extension writes the file.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_pfn_extras as ppe
import torch
from pytorch_pfn_extras.training import extensions, triggers

from .driver import MAX_NORM, PATIENCE, Book, Job, Realistic

HOOKS: tuple[str, str] = ("begin", "end")


def train(job: Job) -> Sequence[float]:
    if job.realistic is not None:
        return _train_realistic(job, job.realistic)
    model, optimizer = job.model, job.optimizer
    manager = ppe.training.ExtensionsManager(model, optimizer, job.epochs, iters_per_epoch=len(job.data))
    begins: list[Callable[[Any], None]] = []
    for index in range(job.hooks):
        begin, end = pair()
        begins.append(begin)
        manager.extend(end, name=f"end_{index}", trigger=(1, "iteration"))
    while not manager.stop_trigger:
        for x, y in job.data:
            with manager.run_iteration():
                for begin in begins:
                    begin(manager)
                optimizer.zero_grad()
                loss = job.loss(model(x), y)
                loss.backward()
                optimizer.step()
    return ()


def pair() -> tuple[Callable[[Any], None], Callable[[Any], None]]:
    def begin(manager: Any) -> None:
        pass

    def end(manager: Any) -> None:
        pass

    return begin, end


def _train_realistic(job: Job, realistic: Realistic) -> list[float]:
    model, optimizer = job.model, job.optimizer
    book = Book(realistic.path)
    stop = triggers.EarlyStoppingTrigger(
        monitor="loss", patience=PATIENCE, mode="min", max_trigger=(job.epochs, "epoch")
    )
    manager = ppe.training.ExtensionsManager(
        model, optimizer, job.epochs, iters_per_epoch=len(job.data), stop_trigger=stop
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, realistic.factor)
    step = extensions.LRScheduler(scheduler, stepper=lambda manager, scheduler: scheduler.step())
    manager.extend(step, trigger=(1, "iteration"))
    manager.extend(lambda manager: book.close_epoch(), name="file", trigger=(1, "epoch"))
    while not manager.stop_trigger:
        for x, y in job.data:
            with manager.run_iteration():
                optimizer.zero_grad()
                loss = job.loss(model(x), y)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
                optimizer.step()
                book.losses.append(loss.item())
                ppe.reporting.report({"loss": book.losses[-1]})
    return book.losses
