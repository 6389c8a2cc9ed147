"""`load_weights`: the weights that a run saved, for a model to be used."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import nn

from trainhooks.core import whole_number
from trainhooks.errors import CheckpointError, StorageError
from trainhooks.loop import load_bare_state
from trainhooks.store import Experiment, Store, open_store

if TYPE_CHECKING:
    from trainhooks.checkpoint import Manifest


def load_weights(
    model: nn.Module, experiment: Experiment, which: Literal["latest", "best"] | int = "latest"
) -> "Manifest":
    """Give a model the weights of a checkpoint; nothing else of it is read.

    Args:
        model: One like that which was trained: its parameters and buffers have the same names and shapes. It stays on
            its device.
        experiment: Where the checkpoints are; the newest of its runs that has a fitting one is taken.
        which: `"latest"`; `"best"` by the value that the run's `checkpoint` hook named in `keep_best`; or an update
            count.

    Returns:
        The checkpoint's manifest: `step`, `metrics`, `tags`, `files`.

    Raises:
        CheckpointError: if there is no such checkpoint, it is damaged, or it is of another model. The latest that is
            damaged is passed over for an earlier one.
    """
    from trainhooks.checkpoint import read  # a run that loads nothing does not load what reads

    damaged: list[str] = []
    for folder, manifest in _candidates(open_store(experiment), which):
        try:
            state = cast("dict[str, Any]", read(folder, manifest, part="model"))
        except StorageError:
            raise
        except CheckpointError as error:
            if which != "latest":
                raise
            damaged.append(str(error))
            continue
        load_bare_state(model, state)
        return manifest
    why = f" Damaged: {'; '.join(damaged)}." if damaged else ""
    raise CheckpointError(f"There is no checkpoint {which!r} in {open_store(experiment).url}.{why}")


def _candidates(store: Store, which: str | int) -> Iterator[tuple[Store, "Manifest"]]:
    from trainhooks.checkpoint import best_of, manifests_of, runs_of

    for folder, _ in runs_of(store):
        manifests = manifests_of(folder)
        if which == "latest":
            yield from ((folder, one) for one in manifests)
        elif which == "best":
            monitors = next((one.monitors for one in manifests if one.monitors), ())
            if monitors and (best := best_of(manifests, *monitors[0])) is not None:
                yield folder, best
        elif (count := whole_number(which)) is not None:
            yield from ((folder, one) for one in manifests if one.step == count)
        else:
            raise CheckpointError(f"which is 'latest', 'best' or an update count, got {which!r}.")
