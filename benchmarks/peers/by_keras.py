"""Keras on torch, the form of its guide "Training & evaluation with the built-in methods": `compile` and `fit`.

It has layers, optimizers, losses and a loss metric of its own, which run on torch's tensors: its ratio is not of the
loop alone. Of the realistic set it has the clip (by the norm over all weights), early stopping and the CSV file; the
schedule and the record of losses are a callback.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any, disable-error-code="import-not-found"
# pyright: basic, reportMissingImports=false

import os
from collections.abc import Iterator, Sequence
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
from torch import nn

from .driver import MAX_NORM, PATIENCE, Batch, Job, Realistic

HOOKS: tuple[str, str] = ("on_train_batch_begin", "on_train_batch_end")


def train(job: Job) -> Sequence[float]:
    with torch.device("cpu"):
        model = keras.Sequential([layer for module in modules_of(job.model) for layer in layers_of(module)])
        model.build(job.data.batches[0][0].shape)
    copy_weights(job.model, model, into_keras=True)
    record = RecordAndSchedule(job)
    callbacks = [Noop() for _ in range(job.hooks)] if job.realistic is None else [record, *realistic_set(job.realistic)]
    norm = None if job.realistic is None else MAX_NORM
    model.compile(optimizer=keras.optimizers.SGD(job.rate, global_clipnorm=norm), loss="mse")
    model.fit(
        batches(job), steps_per_epoch=len(job.data), epochs=job.epochs, callbacks=callbacks, verbose=0, shuffle=False
    )
    copy_weights(job.model, model, into_keras=False)
    return record.losses


def batches(job: Job) -> Iterator[Batch]:
    for _ in range(job.epochs):
        yield from job.data


def modules_of(model: nn.Module) -> list[nn.Module]:
    return list(model) if isinstance(model, nn.Sequential) else [model]


def layers_of(module: nn.Module) -> list[Any]:
    match module:
        case nn.Linear():
            return [keras.layers.Dense(module.out_features)]
        case nn.Conv2d():
            return [keras.layers.Conv2D(module.out_channels, 3, padding="same", data_format="channels_first")]
        case nn.MaxPool2d():
            return [keras.layers.MaxPooling2D(2, data_format="channels_first")]
        case nn.Flatten():
            return [keras.layers.Flatten(data_format="channels_last")]
        case nn.ReLU():
            return [keras.layers.ReLU()]
        case _:
            raise TypeError(f"There is no layer for {module}.")


def copy_weights(model: nn.Module, theirs: Any, *, into_keras: bool) -> None:
    """Between the two, whose axes have another order."""
    with torch.no_grad():
        for parameter, variable in zip(model.parameters(), theirs.trainable_weights, strict=True):
            if into_keras:
                axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(parameter.dim(), (0,))
                variable.assign(parameter.permute(axes).contiguous())
            else:
                axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(parameter.dim(), (0,))
                parameter.copy_(variable.value.permute(axes))


class Noop(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


class RecordAndSchedule(keras.callbacks.Callback):
    """`logs` has the epoch's mean so far; the loss of a step follows from two of them."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self.losses: list[float] = []
        self._total = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        assert self.job.realistic is not None
        self.model.optimizer.learning_rate = self.job.rate * self.job.realistic.factor(len(self.losses))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        before = self._total if batch else 0.0
        self._total = float(logs["loss"]) * (batch + 1)
        self.losses.append(self._total - before)


def realistic_set(realistic: Realistic) -> list[Any]:
    return [
        keras.callbacks.EarlyStopping("loss", mode="min", patience=PATIENCE),
        keras.callbacks.CSVLogger(str(realistic.path)),
    ]
