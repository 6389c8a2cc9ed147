"""PyTorch Lightning, the form of its page "Lightning in 15 minutes"; what that page switches on by default is off.

The logger, the checkpoints, the progress bar and the summary are what is off. In the realistic set the
module lists each step's loss, `self.log` forms the mean, and `CSVLogger` writes it once an epoch.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

import logging
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from .driver import MAX_NORM, PATIENCE, Batch, Job

HOOKS: tuple[str, str] = ("on_train_batch_start", "on_train_batch_end")


def train(job: Job) -> Sequence[float]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    if job.realistic is None:
        callbacks: list[Any] = [Noop() for _ in range(job.hooks)]
        pl.Trainer(accelerator="cpu", max_epochs=job.epochs, logger=False, callbacks=callbacks, **quiet).fit(
            Module(job), job.data
        )
        return ()
    module = RealisticModule(job)
    path = job.realistic.path
    pl.Trainer(
        accelerator="cpu", max_epochs=job.epochs, gradient_clip_val=MAX_NORM, log_every_n_steps=len(job.data),
        logger=CSVLogger(path.parent, name="", version="", flush_logs_every_n_steps=len(job.data)),
        callbacks=[EarlyStopping("loss", mode="min", patience=PATIENCE, check_on_train_epoch_end=True)], **quiet,
    ).fit(module, job.data)  # fmt: skip
    return [float(loss) for loss in module.losses]


class Module(pl.LightningModule):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model, self.job = job.model, job

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return self.job.loss(self.model(x), y)

    def configure_optimizers(self) -> Any:
        return self.job.optimizer


class RealisticModule(Module):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.losses: list[Tensor] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss, on_step=False, on_epoch=True)
        self.losses.append(loss.detach())
        return loss

    def configure_optimizers(self) -> Any:
        assert self.job.realistic is not None
        scheduler = torch.optim.lr_scheduler.LambdaLR(self.job.optimizer, self.job.realistic.factor)
        return {"optimizer": self.job.optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Noop(pl.Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        pass

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        pass
