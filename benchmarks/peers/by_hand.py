"""The loop that one writes."""

import csv
from collections.abc import Callable, Sequence

from torch import nn

from .driver import MAX_NORM, PATIENCE, Job, Realistic

HOOKS: tuple[str, str] = ("begin", "end")


def train(job: Job) -> Sequence[float]:
    if job.realistic is not None:
        return _train_realistic(job, job.realistic)
    if job.hooks:
        _train_calling(job, *hooks(job.hooks))
    else:
        _train_plain(job)
    return ()


def hooks(count: int) -> tuple[list[Callable[[int], None]], list[Callable[[int], None]]]:
    """So many for the begin and for the end, each a function of its own."""

    def pair() -> tuple[Callable[[int], None], Callable[[int], None]]:
        def begin(index: int) -> None:
            pass

        def end(index: int) -> None:
            pass

        return begin, end

    pairs = [pair() for _ in range(count)]
    return [begin for begin, _ in pairs], [end for _, end in pairs]


def _train_plain(job: Job) -> None:
    model, optimizer, loss_of = job.model, job.optimizer, job.loss
    for _ in range(job.epochs):
        for x, y in job.data:
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()


def _train_calling(job: Job, begin: Sequence[Callable[[int], None]], end: Sequence[Callable[[int], None]]) -> None:
    model, optimizer, loss_of = job.model, job.optimizer, job.loss
    for _ in range(job.epochs):
        for index, (x, y) in enumerate(job.data):
            for hook in begin:
                hook(index)
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
            for hook in end:
                hook(index)


def _train_realistic(job: Job, realistic: Realistic) -> list[float]:
    """The schedule is plain arithmetic: a scheduler object would only slow it down."""
    model, optimizer, loss_of = job.model, job.optimizer, job.loss
    parameters = list(model.parameters())
    group = optimizer.param_groups[0]
    rate = group["lr"]
    losses: list[float] = []
    best, bad = float("inf"), 0
    with realistic.path.open("w", newline="") as file:
        rows = csv.writer(file)
        for epoch in range(job.epochs):
            total = 0.0
            for x, y in job.data:
                group["lr"] = rate * realistic.factor(len(losses))
                optimizer.zero_grad()
                loss = loss_of(model(x), y)
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, MAX_NORM)
                optimizer.step()
                losses.append(loss.item())
                total += losses[-1]
            mean = total / len(job.data)
            rows.writerow((epoch, mean))
            best, bad = (mean, 0) if mean < best else (best, bad + 1)
            if bad >= PATIENCE:
                break
    return losses
