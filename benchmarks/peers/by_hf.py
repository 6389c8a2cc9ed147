"""Trainer of Hugging Face Transformers, the form of its page "Subclassing Trainer methods": `compute_loss`.

What reports, saves or shows progress is off, and `get_train_dataloader` gives the ready batches. The `Trainer` measures
the norm of the gradients and steps a schedule whether one asks for that or not. Of the realistic set it has the clip
and the schedule; its early stopping needs evaluations, so a callback does what is left.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

import os
from collections.abc import Sequence
from tempfile import gettempdir
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from .driver import MAX_NORM, Batch, Book, Job, Source

HOOKS: tuple[str, str] = ("on_step_begin", "on_step_end")


def train(job: Job) -> Sequence[float]:
    if job.realistic is None:
        _trainer(job, Plain, [Noop() for _ in range(job.hooks)]).train()
        return ()
    book = Book(job.realistic.path)
    scheduler = torch.optim.lr_scheduler.LambdaLR(job.optimizer, job.realistic.factor)
    trainer = _trainer(job, Recording, [CloseEpoch(book)], scheduler, max_norm=MAX_NORM)
    trainer.book = book
    trainer.train()
    return book.losses


def _trainer(job: Job, kind: Any, callbacks: list[Any], scheduler: Any = None, max_norm: float = 0.0) -> Any:
    arguments = TrainingArguments(
        output_dir=os.path.join(gettempdir(), "trainer"), num_train_epochs=job.epochs, max_grad_norm=max_norm,
        lr_scheduler_type="constant", use_cpu=True, logging_strategy="no", save_strategy="no", report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    trainer = kind(model=job.model, args=arguments, callbacks=callbacks, optimizers=(job.optimizer, scheduler))
    trainer.remove_callback(PrinterCallback)
    trainer.data, trainer.loss = job.data, job.loss
    return trainer


class Plain(Trainer):
    def get_train_dataloader(self) -> Source:
        return self.data

    def compute_loss(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> Tensor:
        x, y = inputs
        return self.loss(model(x), y)


class Recording(Plain):
    def compute_loss(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().compute_loss(model, inputs)
        self.book.losses.append(loss.item())
        return loss


class Noop(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pass

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pass


class CloseEpoch(TrainerCallback):
    def __init__(self, book: Book) -> None:
        self.book = book

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = self.book.close_epoch()
