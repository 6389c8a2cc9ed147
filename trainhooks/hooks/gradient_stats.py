"""Hooks that look at an update's final gradients, parameter by parameter, and change nothing."""

import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast, final

import torch
from attrs import evolve, field, frozen
from torch import Tensor, nn

from trainhooks.core import (
    EpochBegin,
    EpochEnd,
    GradientsReady,
    HookSet,
    Record,
    TrainBegin,
    factory,
    named_parameters,
    stateful,
)
from trainhooks.errors import HookDefinitionError, RunDefinitionError, shown

from .arguments import check_count
from .pictures import Histogram, histogram_drawer
from .shards import Shard, whole


@factory
def grad_stats(*patterns: str) -> HookSet:
    """Record the mean, standard deviation, zero ratio and norm of each parameter's final gradient.

    The names are `grad/<parameter>/mean`, `/std` (over all elements, without Bessel's correction), `/zero_ratio`
    (elements that are 0, as a share of all) and `/norm` (the 2-norm); and `grad_norm`, the 2-norm of all gradients of
    the optimizer together, whatever the patterns. In a run with several optimizers that is `grad_norm/<position>`.
    Gradients are seen before any clipping. The values stay on the device until records are read, but they cost several
    operations for each parameter: wrap it, as in `when(every(100, "updates"), grad_stats())`. Gradients of a sharded
    model are gathered for it, one at a time; every rank calls it. Other hooks can read `grad_norm` alone, since
    parameters are not known before the run.

    Args:
        *patterns: Names of parameters, such as `"encoder.*"`, as `fnmatch` takes them; none for all parameters.

    Raises:
        HookDefinitionError: if a pattern is no string.
        RunDefinitionError: at the first update, if the model has no parameter that a pattern fits.

    Example:
        >>> grad_stats("*.weight")
        grad_stats('*.weight')
    """
    wanted = _checked("grad_stats", patterns)

    def on_after_gradient_update(ctx: GradientsReady) -> Record:
        _check_fit("grad_stats", wanted, ctx.run.model)
        several = len(ctx.run.optimizers) > 1
        values = {f"grad_norm/{ctx.optimizer_idx}" if several else "grad_norm": ctx.grad_norm}
        for name, part in _chosen(ctx, wanted):
            gradient = _elements(whole(part))
            std, mean = torch.std_mean(gradient, correction=0)
            values[f"grad/{name}/mean"] = mean
            values[f"grad/{name}/std"] = std
            values[f"grad/{name}/zero_ratio"] = torch.mean(gradient == 0, dtype=torch.float32)
            values[f"grad/{name}/norm"] = torch.linalg.vector_norm(gradient)
        return Record(values)

    return HookSet(
        name="grad_stats", provides=frozenset({"grad_norm"}), collective=True,
        on_after_gradient_update=on_after_gradient_update,
    )  # fmt: skip


@final
@frozen(kw_only=True)
class Newest:
    """What `grad_histogram` keeps of the epoch at hand."""

    batches: int | None = None
    """How many batches the epoch has; None if the data has no length."""
    gradients: Mapping[str, Tensor] = field(factory=dict[str, Tensor])
    """Copies of the final gradients of the epoch's last update, by parameter."""


@factory
def grad_histogram(folder: str | os.PathLike[str], *patterns: str, bins: int = 50) -> HookSet:
    """Draw a histogram of each parameter's final gradient in an epoch's last update, one picture an epoch.

    The pictures are `<folder>/epoch-0000.png` and so on, by the epoch's number from 0. A histogram spans the finite
    elements, and its title counts the others; of complex elements both parts count. The gradients of the last update
    are copied, counted on their device at the epoch's end, and all counts are read from there at once. Where the data
    has no length, nobody knows which update is the last, so each one's gradients are copied; where it has one, an epoch
    that somebody ends early has no picture.
    Only rank 0 draws; of a sharded model every rank keeps its part, and all are put together at the epoch's end.

    Args:
        folder: Where the pictures go; made if need be. A picture that is there already is replaced.
        *patterns: Names of parameters, such as `"encoder.*"`, as `fnmatch` takes them; none for all parameters.
        bins: How many bins a histogram has, 1 or more.

    Raises:
        HookDefinitionError: if an argument is none of these.
        ImportError: if matplotlib is not installed, with the line that installs it.
        OSError: when the run starts, if the folder cannot be made.
        RunDefinitionError: when the run starts, if the model has no parameter that a pattern fits.

    Example:
        >>> grad_histogram("runs/first/gradients", "*.weight")
        grad_histogram('runs/first/gradients', '*.weight')
    """
    wanted = _checked("grad_histogram", patterns)
    check_count("grad_histogram", "bins", bins, 1)
    into, draw = Path(folder), histogram_drawer()

    def init(begin: TrainBegin) -> Newest:
        _check_fit("grad_histogram", wanted, begin.run.model)
        if begin.run.rank.index == 0:
            into.mkdir(parents=True, exist_ok=True)
        return Newest()

    def on_epoch_begin(ctx: EpochBegin, newest: Newest) -> tuple[Newest, None]:
        return Newest(batches=ctx.batches), None

    def on_after_gradient_update(ctx: GradientsReady, newest: Newest) -> tuple[Newest, None]:
        if newest.batches is not None and ctx.at.batch + 1 < newest.batches:
            return newest, None
        earlier: Mapping[str, Tensor] = newest.gradients if ctx.optimizer_idx else {}
        first = ctx.run.rank.index == 0
        kept = ((name, one) for name, one in _chosen(ctx, wanted) if first or isinstance(one, Shard))
        copies = {name: gradient.detach().clone() for name, gradient in kept}
        return evolve(newest, gradients={**earlier, **copies}), None

    def on_epoch_end(ctx: EpochEnd, newest: Newest) -> tuple[Newest, None]:
        gradients: dict[str, Tensor] = {}
        for name, part in newest.gradients.items():
            gradient = whole(part)  # every rank takes part; one of them keeps it
            if ctx.run.rank.index == 0:
                gradients[name] = gradient
        if gradients:
            title = f"gradients of update {ctx.at.updates}, epoch {ctx.at.epoch}"
            draw(into / f"epoch-{ctx.at.epoch:04}.png", title, histograms(gradients, bins))
        return Newest(), None

    return stateful(
        "grad_histogram", init, collective=True, governs=frozenset({"on_epoch_end"}), on_epoch_begin=on_epoch_begin,
        on_after_gradient_update=on_after_gradient_update, on_epoch_end=on_epoch_end,
    )  # fmt: skip


def histograms(tensors: Mapping[str, Tensor], bins: int) -> list[Histogram]:
    """A histogram of each tensor's elements, counted where it is; one read for all of them."""
    tensors = {name: _elements(tensor) for name, tensor in tensors.items()}
    where = next(iter(tensors.values())).device
    rows = torch.stack([_counted(tensor, bins).to(where) for tensor in tensors.values()])
    found: list[Histogram] = []
    for (name, tensor), row in zip(tensors.items(), cast("list[list[float]]", rows.tolist()), strict=True):
        low, high, *counts = row
        others = tensor.numel() - int(sum(counts))
        title = f"{name}: {others} of {tensor.numel()} not finite" if others else name
        found.append(Histogram(title=title, counts=counts, low=low, high=high))
    return found


def _counted(tensor: Tensor, bins: int) -> Tensor:
    """The least and the greatest finite element, then how many are in each bin between; 1-d, on the device."""
    wide = tensor.flatten().to(torch.float32 if tensor.device.type == "mps" else torch.float64)
    finite = torch.isfinite(wide)
    low = torch.where(finite, wide, torch.inf).amin()
    high = torch.where(finite, wide, -torch.inf).amax()
    alone = low == high
    low, high = low - alone.to(low.dtype), high + alone.to(high.dtype)
    counts = torch.histc((wide - low) / (high - low), bins, min=0, max=1)  # histc reads the device to find a range
    return torch.cat([low.reshape(1), high.reshape(1), counts])


def _elements(gradient: Tensor) -> Tensor:
    """All elements of a gradient as real numbers: a sparse one made dense, the two parts of complex ones apart."""
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return torch.view_as_real(dense) if dense.is_complex() else dense


def _chosen(ctx: GradientsReady, patterns: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    for name, gradient in zip(ctx.names, ctx.gradients, strict=True):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            yield name, gradient


def _checked(factory: str, patterns: Sequence[object]) -> tuple[str, ...]:
    named = tuple(one for one in patterns if isinstance(one, str))
    if len(named) < len(patterns):
        raise HookDefinitionError(f"{factory} takes names of parameters, such as 'encoder.*', got {shown(patterns)}.")
    return named or ("*",)


def _check_fit(factory: str, patterns: Sequence[str], model: nn.Module) -> None:
    names = [name for name, _ in named_parameters(model)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RunDefinitionError(
                f"{factory} was given {pattern!r}, which fits no parameter of the model: {', '.join(names)}."
            )
