"""Which process this is, from what its launcher left in the environment."""

import os

import torch.distributed as dist

from trainhooks.core import Rank
from trainhooks.errors import RunDefinitionError


def rank_here() -> Rank:
    """This process among those of its job: of the process group, if there is one, else as the launcher says.

    Raises:
        RunDefinitionError: if what the launcher says is no rank.
    """
    index, world = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if dist.is_available() and dist.is_initialized():
        index, world = dist.get_rank(), dist.get_world_size()
    local_world = _number("LOCAL_WORLD_SIZE", world)
    local_index = _number("LOCAL_RANK", index % max(1, local_world))
    if not (0 <= index < world and 0 <= local_index < local_world <= world):
        raise RunDefinitionError(
            f"The environment says rank {index} of {world}, {local_index} of {local_world} on this machine, which "
            "cannot be; start the program by torchrun, or leave RANK and WORLD_SIZE unset."
        )
    return Rank(index=index, world=world, local_index=local_index, local_world=local_world)


def restart_count() -> int:
    """How often the launcher has restarted the processes of this job, from 0."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def is_restarted_by_a_launcher() -> bool:
    """Whether torchrun watches this process, and takes any exit code but 0 for a failure."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    try:
        return int(text or default)
    except ValueError:
        raise RunDefinitionError(f"The environment says {name}={text}, which is no whole number.") from None
