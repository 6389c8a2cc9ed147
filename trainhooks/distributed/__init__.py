"""The processes of a run: which one this is, how they meet and talk, and how they share a model."""

from .group import Ranks, Sums, join
from .launching import launch
from .parallel import Parallel, ReduceEvery, StopRule, Uneven, ddp, fsdp
from .rank import is_restarted_by_a_launcher, rank_here, restart_count

__all__ = [
    "Parallel",
    "Ranks",
    "ReduceEvery",
    "StopRule",
    "Sums",
    "Uneven",
    "ddp",
    "fsdp",
    "is_restarted_by_a_launcher",
    "join",
    "launch",
    "rank_here",
    "restart_count",
]
