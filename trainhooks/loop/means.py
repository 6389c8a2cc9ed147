"""Means over items, exact in any order and over any number of ranks, taken without reading a device in a step."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Final, TypeAlias, cast, final

import torch
from attrs import define, field
from torch import Tensor

from trainhooks.core import Ratio, Value
from trainhooks.distributed import Ranks

_BURST: Final = 256
_GREATEST: Final = torch.finfo(torch.float64).max

Terms: TypeAlias = tuple[list[float], list[float]]
"""Numbers whose sums are those of value times weight, and of the weights."""


@final
@define(eq=False)
class Mean:
    """The mean of values, each over its own number of items; items of weight 0 are left out, whatever their value.

    What is on the CPU is summed without rounding until it is read, so the mean depends neither on the order nor on how
    it came together. Values on a device are kept and summed there, in bursts.
    """

    _products: list[float] = field(factory=list[float])  # value times weight, of what was on the CPU
    _counts: list[float] = field(factory=list[float])  # the weights of these
    _sums: Tensor | None = None  # on the device: sum of value times weight, sum of the weights
    _values: list[Tensor] = field(factory=list[Tensor])
    _weights: list[float | Tensor] = field(factory=list[float | Tensor])
    _are_totals: bool = False  # whether what was kept are sums over their items, rather than means

    def take(self, value: Value, weight: float | Tensor) -> None:
        """Take in a step's value of a batch of `weight` items, which a `Ratio` replaces by its own count."""
        if type(value) is Ratio:
            self.add_total(value.total, value.count)
        else:
            self.add(value, weight)

    def add(self, value: float | Tensor, weight: float | Tensor) -> None:
        """Take in a 0-d `value` that is a mean over `weight` items."""
        if type(weight) is not float:  # cheaper than to ask a number whether it is a tensor
            if isinstance(weight, Tensor) and not weight.is_cpu:
                self._keep(value, weight)
                return
            weight = float(weight.item() if isinstance(weight, Tensor) else weight)
        if isinstance(value, Tensor):
            if not value.is_cpu:
                self._keep(value, weight)
                return
            value = value.item() if weight else 0.0
        if weight:
            self._products.append(value * weight)
            counts = self._counts
            counts.append(weight)
            if len(counts) >= _BURST:
                self._products, self._counts = folded(self._products), folded(counts)

    def add_total(self, total: float | Tensor, count: float | Tensor) -> None:
        """Take in a 0-d sum over `count` items."""
        if any(isinstance(one, Tensor) and not one.is_cpu for one in (total, count)):
            self._keep(total, count, are_totals=True)
        elif items := float(count):
            self._append(float(total), items)

    def _append(self, product: float, count: float) -> None:
        self._products.append(product)
        self._counts.append(count)
        if len(self._counts) >= _BURST:
            self._products, self._counts = folded(self._products), folded(self._counts)

    def _keep(self, value: float | Tensor, weight: float | Tensor, *, are_totals: bool = False) -> None:
        if are_totals is not self._are_totals:
            self.fold()
            self._are_totals = are_totals
        tensors = [one for one in (value, weight) if isinstance(one, Tensor)]
        device = next((one for one in tensors if not one.is_cpu), tensors[0]).device
        self._values.append(torch.as_tensor(value, device=device).detach())
        self._weights.append(weight.detach() if isinstance(weight, Tensor) else weight)
        if len(self._values) >= _BURST:
            self.fold()

    def fold(self) -> None:
        """Sum what was kept, on its device."""
        if not self._values:
            return
        values = _wide(torch.stack(self._values))
        weights = torch.stack([torch.as_tensor(one, dtype=values.dtype, device=values.device) for one in self._weights])
        products = torch.where(weights > 0, values if self._are_totals else values * weights, torch.zeros_like(values))
        sums = torch.stack([products.sum(), weights.sum()])
        self._sums = sums if self._sums is None else self._sums + sums
        self._values.clear()
        self._weights.clear()

    def state(self) -> dict[str, list[float] | Tensor | None]:
        """What it holds."""
        self.fold()
        return {"products": folded(self._products), "counts": folded(self._counts), "sums": self._sums}

    @staticmethod
    def of(state: Mapping[str, Any], device: torch.device | None) -> "Mean":
        """A mean that goes on from what `state` gave."""
        sums: Tensor | None = state["sums"]
        return Mean(list(state["products"]), list(state["counts"]), None if sums is None else sums.to(device))

    def terms(self) -> Terms:
        """A few numbers that stand for all that was taken in. Reads the device once, if anything is there."""
        self.fold()
        product, count = ([], []) if self._sums is None else ([one] for one in numbers_of(self._sums))
        return folded(self._products + product), folded(self._counts + count)

    def read(self) -> float:
        """The mean; NaN over no items. Reads the device once, if anything is there."""
        return mean_of([self.terms()])


def one_number(value: object) -> float | Tensor | None:
    """A number as the loop keeps it: a float, or a detached 0-d tensor on its device; None for what is no real number.

    Bools, NumPy's numbers, and tensors and arrays of one element are numbers.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            return None
        own = value.detach() if value.requires_grad else value
        return own.reshape(()) if own.ndim else own
    if isinstance(value, Real):
        return float(value)
    if getattr(value, "size", None) == 1 and callable(item := getattr(value, "item", None)):  # NumPy's bools, arrays
        return one_number(item())
    return None


def mean_of(terms: Iterable[Terms]) -> float:
    """The mean of everything that several means took in; NaN over no items."""
    pairs = list(terms)
    items = total_of([one for _, counts in pairs for one in counts])
    return total_of([one for products, _ in pairs for one in products]) / items if items else math.nan


def read_together(means: Mapping[str, Mean], ranks: Ranks | None) -> dict[str, float | None]:
    """What several means are over all ranks, each over those that have it: the same on every rank; None over no items.

    Every rank calls it; they exchange once, a few numbers for each mean. Reads the device.

    Args:
        means: By name. The first rank that has a name decides its place.
        ranks: The processes of the run; None if this is the only one.
    """
    own = terms_of(means)
    return means_of([own] if ranks is None else ranks.gather(own))


def terms_of(means: Mapping[str, Mean]) -> dict[str, Terms]:
    """The terms of several means; reads the device."""
    return {name: mean.terms() for name, mean in means.items()}


def means_of(found: Sequence[Mapping[str, Terms]]) -> dict[str, float | None]:
    """The means of what each rank found, each over the ranks that have it; None over no items."""
    names = dict.fromkeys(name for one in found for name in one)
    terms = {name: [one[name] for one in found if name in one] for name in names}
    return {name: mean_of(own) if any(counts for _, counts in own) else None for name, own in terms.items()}


def with_items(means: Mapping[str, float | None]) -> dict[str, float]:
    """The means that are over any items."""
    return {name: mean for name, mean in means.items() if mean is not None}


def total_of(numbers: Sequence[float]) -> float:
    """The sum, rounded once: equal in any order."""
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):  # of huge numbers, or of both infinities
        pass
    if special := sum(one for one in numbers if not math.isfinite(one)):
        return special
    from fractions import Fraction  # seldom needed, and slow to import

    exact = sum(map(Fraction, numbers))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def folded(numbers: Sequence[float]) -> list[float]:
    """The fewest numbers with the same sum, exactly: it rounded, what that leaves, and so on."""
    parts: list[float] = []
    rest = list(numbers)
    while part := total_of(rest):
        if not math.isfinite(part):
            if not all(map(math.isfinite, rest)):
                return [part]
            part = math.copysign(_GREATEST, part)
        parts.append(part)
        rest.append(-part)
    return parts


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def numbers_of(values: Tensor) -> list[float]:
    """A 1-d tensor as numbers: one read of its device."""
    return cast("list[float]", values.tolist())
