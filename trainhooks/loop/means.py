"""Means over items, taken without reading a device in a step."""

from collections.abc import Mapping
from typing import Any, cast, final

import torch
from attrs import define, field
from torch import Tensor

_BURST = 256


@final
@define(eq=False)
class Mean:
    """The mean of values, each over its own number of items; items of weight 0 are left out, whatever their value.

    Values on the CPU are summed as they come, in order. Values on a device are kept and summed there, in bursts.
    """

    total: float = 0.0
    """Sum of value times weight, of what was on the CPU."""
    items: float = 0.0
    """Sum of the weights that are plain numbers."""
    _sums: Tensor | None = None  # on the device: sum of value times weight, sum of the weights
    _values: list[Tensor] = field(factory=list[Tensor])
    _weights: list[float | Tensor] = field(factory=list[float | Tensor])

    def add(self, value: float | Tensor, weight: float | Tensor) -> None:
        """Take in a 0-d `value` that is a mean over `weight` items."""
        if (isinstance(value, Tensor) and not value.is_cpu) or (isinstance(weight, Tensor) and not weight.is_cpu):
            self._keep(value, weight)
            return
        count = float(weight)
        if count:
            self.total += (value.item() if isinstance(value, Tensor) else value) * count
            self.items += count

    def _keep(self, value: float | Tensor, weight: float | Tensor) -> None:
        where = value if isinstance(value, Tensor) else weight
        assert isinstance(where, Tensor)
        self._values.append(torch.as_tensor(value, device=where.device).detach())
        self._weights.append(weight.detach() if isinstance(weight, Tensor) else weight)
        if len(self._values) >= _BURST:
            self.fold()

    def fold(self) -> None:
        """Sum what was kept, on its device."""
        if not self._values:
            return
        values = _wide(torch.stack(self._values))
        weights = torch.stack([torch.as_tensor(one, dtype=values.dtype, device=values.device) for one in self._weights])
        products = torch.where(weights > 0, values * weights, torch.zeros_like(values))
        sums = torch.stack([products.sum(), weights.sum()])
        self._sums = sums if self._sums is None else self._sums + sums
        self._values.clear()
        self._weights.clear()

    def state(self) -> dict[str, float | Tensor | None]:
        """What it holds."""
        self.fold()
        return {"total": self.total, "items": self.items, "sums": self._sums}

    @staticmethod
    def of(state: Mapping[str, Any], device: torch.device | None) -> "Mean":
        """A mean that goes on from what `state` gave."""
        sums: Tensor | None = state["sums"]
        return Mean(state["total"], state["items"], None if sums is None else sums.to(device))

    def read(self) -> float:
        """The mean; NaN over no items. Reads the device once, if anything is there."""
        self.fold()
        total, items = self.total, self.items
        if self._sums is not None:
            of_device, items_there = numbers_of(self._sums)
            total, items = total + of_device, items + items_there
        return total / items if items else float("nan")


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def numbers_of(values: Tensor) -> list[float]:
    """A 1-d tensor as numbers: one read of its device."""
    return cast("list[float]", values.tolist())
