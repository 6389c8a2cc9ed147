"""Programs that are launched, for tests. As a script it has used a store, so its processes are spawned."""

import torch
import torch.distributed as dist
from torch import nn

from trainhooks import Rank, launch
from trainhooks.distributed import join, rank_here


def trained(updates: int) -> list[float]:
    """Train on a line whose points the ranks share out, by what torch alone offers; the weights in the end."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(rank)  # DDP begins with rank 0's weights
    model = nn.parallel.DistributedDataParallel(nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    x = torch.linspace(-1.0, 1.0, 8)[rank::world].unsqueeze(1)
    for _ in range(updates):
        optimizer.zero_grad()
        (model(x) - (3.0 * x + 1.0)).square().mean().backward()
        optimizer.step()
    dist.destroy_process_group()
    return [round(value.item(), 3) for value in model.parameters()]


def met() -> list[tuple[Rank, int]]:
    """The ranks, as each says who it is, and with how many threads."""
    ranks = join(rank_here(), torch.device("cpu"))
    found = ranks.gather((rank_here(), torch.get_num_threads()))
    dist.destroy_process_group()
    return found


if __name__ == "__main__":
    import obstore

    print(type(obstore.store.MemoryStore()).__name__, launch(met))
