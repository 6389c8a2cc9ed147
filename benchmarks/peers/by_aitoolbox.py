"""AIToolbox, the form of its pages "TTModel" and "TrainLoop": a `TTModel` of one's own and `TrainLoop.fit`.

Its progress bar cannot be turned off; what it prints goes nowhere. A hook that is empty is dropped when it is
registered, so these return something. Of the realistic set it has the clip, the schedule and early stopping.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

from collections.abc import Sequence
from typing import Any

from aitoolbox.torchtrain.callbacks.abstract import AbstractCallback
from aitoolbox.torchtrain.callbacks.basic import EarlyStopping
from aitoolbox.torchtrain.callbacks.gradient import GradNormClip
from aitoolbox.torchtrain.model import TTModel
from aitoolbox.torchtrain.schedulers.basic import LambdaLRScheduler
from aitoolbox.torchtrain.train_loop import TrainLoop
from torch import Tensor, nn

from .driver import MAX_NORM, PATIENCE, Batch, Book, Job

HOOKS: tuple[str, str] = ("on_batch_begin", "on_batch_end")


def train(job: Job) -> Sequence[float]:
    loop = TrainLoop(Model(job.model), job.data, None, None, job.optimizer, nn.MSELoss(), end_auto_eval=False)
    if job.realistic is None:
        loop.fit(num_epochs=job.epochs, callbacks=[Noop() for _ in range(job.hooks)])
        return ()
    book = Book(job.realistic.path)
    callbacks = [
        GradNormClip(MAX_NORM),
        LambdaLRScheduler(job.realistic.factor, execute_epoch_end=False, execute_batch_end=True),
        EarlyStopping("accumulated_loss", patience=PATIENCE),
        Keep(book),
    ]
    loop.fit(num_epochs=job.epochs, callbacks=callbacks)
    return book.losses


class Model(TTModel):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def get_loss(self, batch_data: Batch, criterion: Any, device: Any) -> Tensor:
        x, y = batch_data
        return criterion(self(x.to(device)), y.to(device))

    def get_predictions(self, batch_data: Batch, device: Any) -> Any:
        x, y = batch_data
        return self(x.to(device)), y, {}


class Noop(AbstractCallback):
    def __init__(self) -> None:
        super().__init__("noop")

    def on_batch_begin(self) -> Any:
        return self

    def on_batch_end(self) -> Any:
        return self


class Keep(AbstractCallback):
    def __init__(self, book: Book) -> None:
        super().__init__("keep")
        self.book = book

    def on_batch_end(self) -> None:
        self.book.losses.append(self.train_loop_obj.loss_batch_accum[-1].item())

    def on_epoch_end(self) -> None:
        self.book.close_epoch()
