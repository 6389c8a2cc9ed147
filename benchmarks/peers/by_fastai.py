"""fastai, the form of its page "Learner, Metrics, Callbacks": a `Learner` with torch's optimizer.

Its progress bar and its printing are off. Of the realistic set it has the clip, the schedule, early stopping and the
CSV file; its record smooths the losses, so a callback lists them.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.callback.progress import CSVLogger
from fastai.callback.schedule import ParamScheduler, SchedLin
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.callback.training import GradientClip
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper

from .driver import MAX_NORM, PATIENCE, Job, Realistic

HOOKS: tuple[str, str] = ("before_batch", "after_batch")


def train(job: Job) -> Sequence[float]:
    if job.realistic is None:
        _fit(job, [noop(index) for index in range(job.hooks)])
        return ()
    record = RecordLoss()
    _fit(job, [record, *realistic_set(job, job.realistic)], path=job.realistic.path.parent)
    return record.losses


def _fit(job: Job, callbacks: list[Any], **keywords: Any) -> None:
    learner = Learner(
        DataLoaders(job.data, []), job.model, loss_func=job.loss, opt_func=partial(OptimWrapper, opt=torch.optim.SGD),
        lr=job.rate, cbs=callbacks, **keywords,
    )  # fmt: skip
    with learner.no_bar(), learner.no_logging():
        learner.fit(job.epochs)


class Noop(Callback):
    def before_batch(self) -> None:
        pass

    def after_batch(self) -> None:
        pass


def noop(index: int) -> Any:
    """A class of its own: the learner knows a callback by the name of its class."""
    return type(f"Noop{index}", (Noop,), {})()


class RecordLoss(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_batch(self) -> None:
        self.losses.append(self.learn.loss.item())


def realistic_set(job: Job, realistic: Realistic) -> list[Any]:
    rate = SchedLin(job.rate, job.rate * realistic.factor(realistic.updates))
    return [
        GradientClip(MAX_NORM),
        ParamScheduler({"lr": rate}),
        EarlyStoppingCallback("train_loss", comp=np.less, patience=PATIENCE),
        CSVLogger(realistic.path.name),
    ]
