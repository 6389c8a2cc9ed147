"""What hooks do with a tensor of which each rank holds a part, such as torch's `fully_shard` makes, and with the ranks.

`own_part` and `part_like` communicate with nobody. Whoever calls another function declares `collective=True`.
"""

import math
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from trainhooks.core import Gradients, Run, total_norm
from trainhooks.distributed import Ranks


@runtime_checkable
class Shard(Protocol):
    """A tensor of which this rank holds a part: a `DTensor`, which takes a second to import where nobody has."""

    device_mesh: Any
    placements: Any

    def to_local(self) -> Tensor: ...
    def full_tensor(self) -> Tensor: ...


def own_part(tensor: Tensor) -> Tensor:
    """The part that this rank holds, which shares its memory; a tensor that is not sharded, as it is."""
    if type(tensor) is Tensor or type(tensor) is nn.Parameter:  # asking a protocol takes longer than averaging
        return tensor
    return tensor.to_local() if isinstance(tensor, Shard) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor, gathered from all ranks where it is sharded; every rank calls it."""
    return tensor.full_tensor() if isinstance(tensor, Shard) else tensor


def part_like(full: Tensor, tensor: Tensor) -> Tensor:
    """The part of `full` that this rank would hold if it were sharded as `tensor` is."""
    if not isinstance(tensor, Shard):
        return full
    from torch.distributed.tensor import distribute_tensor

    parted = distribute_tensor(full, tensor.device_mesh, tensor.placements, src_data_rank=None)
    return own_part(cast("Tensor", parted))


def ranks_of(run: Run) -> Ranks | None:
    """The processes of a run, for a hook that must talk to them; None if this is the only one."""
    return Ranks(run.rank) if run.rank.world > 1 else None


def norm_of(gradients: Gradients, norm_type: float, run: Run) -> Tensor:
    """The norm of all gradients together, 0-d, over all parts of those that are sharded; every rank calls it."""
    ranks = ranks_of(run)
    if ranks is None or norm_type != math.inf or not any(isinstance(one, Shard) for one in gradients):
        return whole(total_norm(gradients, norm_type))
    parts = [own_part(one) for one in gradients if one is not None]
    by_rank = torch.zeros(run.rank.world, device=parts[0].device, dtype=parts[0].dtype)
    if filled := [one for one in parts if one.numel()]:  # torch refuses the others, on their rank alone
        by_rank[run.rank.index] = total_norm(filled, norm_type)
    return ranks.sum_later(by_rank).wait().amax()
