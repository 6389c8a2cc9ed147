"""How a model is trained by several processes at once: PyTorch's own engines, with the policies of the loop."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias, cast, final

import torch
from attrs import frozen
from torch import nn

from trainhooks.core import Rank
from trainhooks.errors import RunDefinitionError, shown

StopRule: TypeAlias = Literal["any", "all", "rank0"]
Uneven: TypeAlias = Literal["join", "truncate", "raise"]
ReduceEvery: TypeAlias = Literal["update", "batch"]


class Parallel(Protocol):
    """How a model is trained by several processes at once; `ddp` and `fsdp` make two, and a user may write others."""

    @property
    def stop(self) -> StopRule:
        """When the run stops if ranks disagree: as soon as any asks, once all have asked, or as rank 0 asks."""
        ...

    @property
    def uneven(self) -> Uneven:
        """What happens when ranks have unequal counts of batches in an epoch."""
        ...

    @property
    def timeout(self) -> float | None:
        """Seconds after which a collective that lacks a rank fails; None for torch's own."""
        ...

    @property
    def sharded(self) -> bool:
        """Whether each rank holds a part of every parameter, rather than all of it."""
        ...

    @property
    def needs_every_gradient(self) -> bool:
        """Whether a backward that does not reach one of the parameters would leave ranks waiting for each other."""
        ...

    def wrap(self, model: nn.Module, rank: Rank, device: torch.device, /) -> nn.Module:
        """The model as steps call it, once the process group exists and the model is on its device.

        A backward through it leaves the mean over the ranks in each `.grad`.
        """
        ...

    def reduce_in_backward(self, wrapped: nn.Module, last: bool, /) -> bool:
        """Prepare the next forward and backward of a wrapped model.

        Args:
            wrapped: What `wrap` gave.
            last: Whether it is the window's last.

        Returns:
            Whether gradients are reduced in that backward.
        """
        ...


@final
@frozen(kw_only=True)
class DistributedDataParallel:
    """Each rank holds the whole model; made by `ddp`."""

    stop: StopRule
    uneven: Uneven
    reduce_every: ReduceEvery
    timeout: float | None
    options: tuple[tuple[str, Any], ...]
    """Further arguments of torch's class."""
    sharded: bool = False

    @property
    def needs_every_gradient(self) -> bool:
        """Unless torch's class looks for those without one itself."""
        options = dict(self.options)
        return not (options["find_unused_parameters"] or options["static_graph"])

    def wrap(self, model: nn.Module, rank: Rank, device: torch.device, /) -> nn.Module:
        """The model in torch's `DistributedDataParallel`."""
        is_split = any(one.device != device for one in model.parameters())  # then torch takes no device
        devices = [device] if device.type == "cuda" and not is_split else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices, **dict(self.options))

    def reduce_in_backward(self, wrapped: nn.Module, last: bool, /) -> bool:
        """Say whether the next backward reduces, as `no_sync` does."""
        reduces = last or self.reduce_every == "batch"
        cast("nn.parallel.DistributedDataParallel", wrapped).require_backward_grad_sync = reduces
        return reduces


@final
@frozen(kw_only=True)
class FullyShardedDataParallel:
    """Each rank holds a part of every parameter; made by `fsdp`."""

    layers: Callable[[nn.Module], bool]
    """Which modules are gathered and freed on their own."""
    param_dtype: torch.dtype | None
    reduce_dtype: torch.dtype | None
    reshard_after_forward: bool
    stop: StopRule
    uneven: Uneven
    reduce_every: ReduceEvery
    timeout: float | None
    sharded: bool = True
    needs_every_gradient: bool = False

    def wrap(self, model: nn.Module, rank: Rank, device: torch.device, /) -> nn.Module:
        """The model itself, with each parameter replaced by this rank's part."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        options: dict[str, Any] = {
            "mesh": init_device_mesh(device.type, (rank.world,)),
            "mp_policy": MixedPrecisionPolicy(param_dtype=self.param_dtype, reduce_dtype=self.reduce_dtype),
            "reshard_after_forward": self.reshard_after_forward,
        }
        for module in reversed(list(model.modules())):  # inner layers first, as torch asks
            if module is not model and self.layers(module):
                fully_shard(module, **options)
        fully_shard(model, **options)
        return model

    def reduce_in_backward(self, wrapped: nn.Module, last: bool, /) -> bool:
        """Say whether the next backward reduces."""
        reduces = last or self.reduce_every == "batch"
        model = cast("Any", wrapped)
        model.set_requires_gradient_sync(reduces)
        model.set_is_last_backward(last)
        return reduces


def ddp(
    *,
    stop: StopRule = "any",
    uneven: Uneven = "join",
    reduce_every: ReduceEvery = "update",
    timeout: float | None = None,
    find_unused_parameters: bool = False,
    gradient_as_bucket_view: bool = False,
    static_graph: bool = False,
    bucket_cap_mb: float | None = None,
) -> DistributedDataParallel:
    """Train with torch's `DistributedDataParallel`: each process holds the model, and they share each update's batch.

    In a program that was started as one process it does nothing. `step` gets the wrapped model, and must call it as a
    whole; hooks see the model as it was given.

    Args:
        stop: When the run stops if processes disagree: `"any"` asks, `"all"` have asked, or `"rank0"` asks.
        uneven: What happens when they have unequal counts of batches in an epoch. `"join"`: one that has no more takes
            part with its last batch, which weighs nothing. `"truncate"`: all end where the first one has no more.
            `"raise"`: an error.
        reduce_every: Whether gradients are reduced once an `"update"`, or for each of its `"batch"`es.
        timeout: Seconds after which a collective that lacks a process fails; None for torch's own.
        find_unused_parameters: Whether parameters may be without a gradient; else the first update names them.
        gradient_as_bucket_view: As in torch.
        static_graph: As in torch.
        bucket_cap_mb: As in torch.

    Raises:
        RunDefinitionError: if a word is none of these.
    """
    _check("ddp", stop, uneven, reduce_every, timeout)
    options = {
        "find_unused_parameters": find_unused_parameters, "gradient_as_bucket_view": gradient_as_bucket_view,
        "static_graph": static_graph, "bucket_cap_mb": bucket_cap_mb,
    }  # fmt: skip
    return DistributedDataParallel(
        stop=stop, uneven=uneven, reduce_every=reduce_every, timeout=timeout, options=tuple(options.items())
    )


def fsdp(
    *,
    layers: type[nn.Module] | tuple[type[nn.Module], ...] | Callable[[nn.Module], bool] = (),
    param_dtype: torch.dtype | None = None,
    reduce_dtype: torch.dtype | None = None,
    reshard_after_forward: bool = True,
    stop: StopRule = "any",
    uneven: Uneven = "join",
    reduce_every: ReduceEvery = "update",
    timeout: float | None = None,
) -> FullyShardedDataParallel:
    """Train with torch's `fully_shard` (FSDP2): each process holds a part of every parameter, gradient and state.

    It replaces the model's parameters, so the optimizer is made afterwards: give `train` a function of the model. In a
    program that was started as one process it shards nothing.

    Args:
        layers: The modules that are gathered and freed on their own, such as a transformer's blocks: a class, several,
            or a function that says of a module whether it is one. The rest is one unit.
        param_dtype: What a layer computes in; None for the parameters' own.
        reduce_dtype: What gradients are reduced in; None for `param_dtype`.
        reshard_after_forward: Whether parameters are freed after forward and gathered again for backward.
        stop: As in `ddp`.
        uneven: As in `ddp`.
        reduce_every: As in `ddp`.
        timeout: As in `ddp`.

    Raises:
        RunDefinitionError: if an argument is none of these.
    """
    _check("fsdp", stop, uneven, reduce_every, timeout)
    return FullyShardedDataParallel(
        layers=_is_layer(layers), param_dtype=param_dtype, reduce_dtype=reduce_dtype,
        reshard_after_forward=reshard_after_forward, stop=stop, uneven=uneven, reduce_every=reduce_every,
        timeout=timeout,
    )  # fmt: skip


def _check(word: str, stop: object, uneven: object, reduce_every: object, timeout: object) -> None:
    for name, value, known in (
        ("stop", stop, ("any", "all", "rank0")),
        ("uneven", uneven, ("join", "truncate", "raise")),
        ("reduce_every", reduce_every, ("update", "batch")),
    ):
        if value not in known:
            raise RunDefinitionError(f"{word} takes {name} as {', '.join(map(repr, known))}, got {shown(value)}.")
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise RunDefinitionError(f"{word} takes timeout as a positive number of seconds or None, got {shown(timeout)}.")


def _is_layer(layers: object) -> Callable[[nn.Module], bool]:
    """What says of a module whether it is one of the layers."""
    if isinstance(layers, type | tuple):
        classes = cast("tuple[type[nn.Module], ...]", layers if isinstance(layers, tuple) else (layers,))
        return lambda module: isinstance(module, classes)
    if not callable(layers):
        raise RunDefinitionError(
            f"fsdp takes layers as a class of modules, several, or a function, got {shown(layers)}."
        )
    return cast("Callable[[nn.Module], bool]", layers)
