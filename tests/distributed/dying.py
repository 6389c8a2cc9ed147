"""A program for torchrun whose last rank kills itself in the first rounds, before it joined or after it did."""

import os
import signal
import sys

import torch
import torch.distributed as dist

from trainhooks.distributed import join, rank_here, restart_count


def main(dies: list[str]) -> None:
    """Die `before` or `after` joining, as said for each round, and join in the first of which nothing is said."""
    rank, round_ = rank_here(), restart_count()
    death = dies[round_] if round_ < len(dies) and rank.index == rank.world - 1 else "never"
    if death == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    ranks = join(rank, torch.device("cpu"))
    found = ranks.gather(rank.index)
    if death == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.any(True)
    sys.stdout.write(f"round {round_}: {found}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
