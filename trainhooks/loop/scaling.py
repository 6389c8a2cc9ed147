"""The scaled loss of an fp16 run."""

from typing import final

import torch
from attrs import define, field
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from .quick import overflowed


@final
@define(eq=False)
class Scaling:
    """The scaler of a run, shared by its optimizers: each is unscaled once a window, and the scale changes once."""

    scaler: GradScaler
    waiting: bool = field(default=False, init=False)
    """Whether gradients of this window have been unscaled."""

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to back-propagate."""
        scaled: Tensor = self.scaler.scale(loss)
        return scaled

    def unscale(self, optimizer: Optimizer) -> bool:
        """Unscale a window's gradients; whether all of them are finite. Reads the device once."""
        self.scaler.unscale_(optimizer)
        self.waiting = True
        return not overflowed(self.scaler, optimizer)

    def end_window(self) -> None:
        """Let the scale grow, or shrink after an overflow."""
        if self.waiting:
            self.scaler.update()
            self.waiting = False


def scaling_of(precision: str, device: torch.device) -> Scaling | None:
    """The scaler that a precision needs."""
    return Scaling(GradScaler(device.type)) if precision == "fp16-mixed" else None
