"""PyTorch-Ignite, the form of its "Getting Started" with an update function of its own: an `Engine` and handlers.

Of the realistic set it has the schedule's and the early stopping's handlers, and a running mean of outputs; the clip
is in the update function, the record and the CSV file are handlers of two lines.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

import csv
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping, LRScheduler
from ignite.metrics import Average

from .driver import MAX_NORM, PATIENCE, Batch, Job, Realistic

HOOKS: tuple[str, str] = ("begin", "end")


def train(job: Job) -> Sequence[float]:
    model, optimizer = job.model, job.optimizer

    def update(engine: Any, batch: Batch) -> None:
        x, y = batch
        optimizer.zero_grad()
        loss = job.loss(model(x), y)
        loss.backward()
        optimizer.step()

    if job.realistic is not None:
        return _train_realistic(job, job.realistic)
    engine = Engine(update)
    for _ in range(job.hooks):
        begin, end = pair()
        engine.add_event_handler(Events.ITERATION_STARTED, begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, end)
    engine.run(job.data, max_epochs=job.epochs)
    return ()


def pair() -> tuple[Callable[[Any], None], Callable[[Any], None]]:
    def begin(engine: Any) -> None:
        pass

    def end(engine: Any) -> None:
        pass

    return begin, end


def _train_realistic(job: Job, realistic: Realistic) -> list[float]:
    model, optimizer = job.model, job.optimizer
    logging.getLogger("ignite").setLevel(logging.ERROR)
    losses: list[float] = []

    def update(engine: Any, batch: Batch) -> float:
        x, y = batch
        optimizer.zero_grad()
        loss = job.loss(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        return loss.item()

    engine = Engine(update)
    scheduler = LRScheduler(torch.optim.lr_scheduler.LambdaLR(optimizer, realistic.factor))
    engine.add_event_handler(Events.ITERATION_STARTED, scheduler)
    Average().attach(engine, "loss")
    stopping = EarlyStopping(PATIENCE, lambda engine: -engine.state.metrics["loss"], engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, stopping)

    @engine.on(Events.ITERATION_COMPLETED)
    def record(engine: Any) -> None:
        losses.append(engine.state.output)

    with realistic.path.open("w", newline="") as file:
        rows = csv.writer(file)

        @engine.on(Events.EPOCH_COMPLETED)
        def write(engine: Any) -> None:
            rows.writerow((engine.state.epoch, engine.state.metrics["loss"]))

        engine.run(job.data, max_epochs=job.epochs)
    return losses
