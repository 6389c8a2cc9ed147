"""What programs over ranks share: the ways to train together, data of a rank's own, and whole tensors."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tests.loop.programs import Batch, batches
from trainhooks import ddp, fsdp
from trainhooks.distributed import Parallel, rank_here

ENGINES: Mapping[str, Callable[..., Parallel]] = {"ddp": ddp, "fsdp": fsdp}


def me() -> int:
    """This process among those of the run."""
    return rank_here().index


def own_batches(count: int, rank: int | None = None) -> list[Batch]:
    """Batches of one rank, unlike those of the others."""
    return batches(count, seed=10 + (me() if rank is None else rank))


def joined(*parts: Batch) -> Batch:
    """A batch of the items of all parts."""
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def whole(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors as they are over all ranks; every rank takes part."""
    return [one.full_tensor() if isinstance(one, DTensor) else one.clone() for one in tensors]


def parameters_of(model: nn.Module) -> list[Tensor]:
    """A model's whole parameters; every rank takes part."""
    return [one.detach() for one in whole(model.parameters())]
