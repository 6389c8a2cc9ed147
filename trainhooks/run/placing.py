"""How the tensors of a checkpoint lie in a run whose model is sharded: as the parameter does that each belongs to."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from trainhooks.checkpoint import Like, Path, is_sharded
from trainhooks.loop import Live, bare_state

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def like_in(live: Live) -> Like:
    """What tells of each tensor of a state how it lies in this run.

    A tensor of the model lies as that of its name, one of an optimizer's state as the parameter that it is kept for,
    and one of a hook's state, such as an average, as the parameter whose name its own ends with; if the shape is one.
    """
    own = {name: one for name, one in bare_state(live.run.model).items() if is_sharded(one)}
    trained = [[one for group in worker.optimizer.param_groups for one in group["params"]] for worker in live.workers]

    def like(path: Path, shape: tuple[int, ...]) -> "DTensor | None":
        found = _counterpart(path, own, trained)
        return found if is_sharded(found) and tuple(found.shape) == shape else None

    return like


def _counterpart(path: Path, own: Mapping[str, Tensor], trained: Sequence[Sequence[Tensor]]) -> Tensor | None:
    match path:
        case ("model", name):
            return own.get(name)
        case ("optimizers", index, "state", place, _):
            return trained[int(index)][int(place)] if place.isdecimal() else None
        case ("hooks", *further):
            words = ".".join(further)
            names = [name for name in own if words.endswith(f".{name}")]
            return own[max(names, key=len)] if names else None
        case _:
            return None
