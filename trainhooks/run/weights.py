"""`load_weights`: the weights that a run saved, for a model to be used."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, overload

import torch
from torch import Tensor, nn

from trainhooks.core import bare_name, named_parameters, whole_number
from trainhooks.errors import CheckpointError, StorageError
from trainhooks.loop import load_bare_state, load_what_fits, tensors_of
from trainhooks.store import Experiment, Store, open_store

if TYPE_CHECKING:
    from trainhooks.checkpoint import Manifest

Which: TypeAlias = Literal["latest", "best"] | int
_Place: TypeAlias = "tuple[Store, Manifest, str | None]"
"""A run's folder, a checkpoint in it, and the value by which it is the best."""


@overload
def load_weights(
    model: nn.Module, experiment: Experiment, which: Which = "latest", *, average: str | Literal[False] | None = None,
    strict: Literal[True] = True,
) -> "Manifest": ...  # fmt: skip
@overload
def load_weights(
    model: nn.Module, experiment: Experiment, which: Which = "latest", *, average: str | Literal[False] | None = None,
    strict: Literal[False],
) -> tuple[str, ...]: ...  # fmt: skip
def load_weights(
    model: nn.Module, experiment: Experiment, which: Which = "latest", *, average: str | Literal[False] | None = None,
    strict: bool = True,
) -> "Manifest | tuple[str, ...]":  # fmt: skip
    """Give a model the weights of a checkpoint; nothing else of it is read.

    Args:
        model: One like that which was trained: its parameters and buffers have the same names and shapes. It stays on
            its device.
        experiment: Where the checkpoints are; the newest of its runs that has a fitting one is taken.
        which: `"latest"`; `"best"` by the value that the run's `checkpoint` hook named in `keep_best`; or an update
            count.
        average: Whose weights. The name of a hook set that averages them, such as `"ema"`; False for those that were
            trained; None for `"best"` those that the evaluation looked at which recorded the value, which may be an
            average, and else those that were trained.
        strict: Whether a model of another form is refused; if not, it gets what fits by name and shape.

    Returns:
        The checkpoint's manifest: `step`, `metrics`, `tags`, `files`. With `strict=False` the names that did not fit,
        of the model, of the checkpoint, or of both, sorted.

    Raises:
        CheckpointError: if there is no such checkpoint or average, it is damaged, or it is of another model. The latest
            that is damaged is passed over for an earlier one.

    Warns:
        RuntimeWarning: if for `"best"` another hook set may have written to the model around that evaluation: what it
            wrote is in no checkpoint.
    """
    damaged: list[str] = []
    for place in _candidates(open_store(experiment), which):
        try:
            state, weights = _read(*place, average)
        except StorageError:
            raise
        except _NoAverageError as error:
            raise CheckpointError(str(error)) from None
        except CheckpointError as error:
            if which != "latest":
                raise
            damaged.append(str(error))
            continue
        rest = _load(model, state, weights, strict=strict)
        return place[1] if strict else tuple(sorted(rest))
    why = f" Damaged: {'; '.join(damaged)}." if damaged else ""
    raise CheckpointError(f"There is no checkpoint {which!r} in {open_store(experiment).url}.{why}")


class _NoAverageError(CheckpointError):
    """A checkpoint holds no weights of that set."""


def _candidates(store: Store, which: str | int) -> Iterator[_Place]:
    from trainhooks.checkpoint import best_of, manifests_of, runs_of  # a run that loads nothing does not load it

    for folder, _ in runs_of(store):
        manifests = manifests_of(folder)
        if which == "latest":
            yield from ((folder, one, None) for one in manifests)
        elif which == "best":
            monitors = next((one.monitors for one in manifests if one.monitors), ())
            if monitors and (best := best_of(manifests, *monitors[0])) is not None:
                yield folder, best, monitors[0][0]
        elif (count := whole_number(which)) is not None:
            yield from ((folder, one, None) for one in manifests if one.step == count)
        else:
            raise CheckpointError(f"which is 'latest', 'best' or an update count, got {which!r}.")


def _read(
    folder: Store, manifest: "Manifest", value: str | None, average: str | Literal[False] | None
) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """The state of the model that was trained, and what is to be put over it."""
    from trainhooks.checkpoint import read

    of_evaluation, writers = _looked_at(manifest, value)
    if writers:
        warnings.warn(
            f"{' and '.join(map(repr, writers))} may have written to the model around the evaluation that recorded "
            f"{value!r}. What they wrote is in no checkpoint, so this model may measure another value.",
            RuntimeWarning,
            stacklevel=3,
        )
    name = of_evaluation if average is None else average
    state = cast("dict[str, Any]", read(folder, manifest, part="model"))
    return state, _average_in(folder, manifest, name) if name else {}


def _looked_at(manifest: "Manifest", value: str | None) -> tuple[str | None, Sequence[str]]:
    """Whose weights the evaluation looked at that recorded a value, None for those that were trained; who else wrote.

    Raises:
        CheckpointError: if the manifest does not say it in the form that is written.
    """
    from trainhooks.checkpoint import JUDGED

    judged = cast("Mapping[str, Mapping[str, Any]]", manifest.extra.get(JUDGED, {}))
    try:
        found = next((one for one in judged.values() if value in one["values"]), None)
        average, writers = (None, []) if found is None else (found["average"], list(found["writers"]))
    except (AttributeError, KeyError, TypeError):
        raise CheckpointError(f"{manifest.name} does not say what its evaluations looked at") from None
    return average, writers


def _average_in(folder: Store, manifest: "Manifest", name: str) -> Mapping[str, Tensor]:
    """The weights of a set: those that an evaluation looked at there, or else the average in its state."""
    from trainhooks.checkpoint import AVERAGES, NoEntryError, entry_of, read

    found: list[object] = []
    try:
        found = [read(folder, manifest, part=(AVERAGES, entry_of(name)))]
    except NoEntryError:
        with suppress(NoEntryError):
            found = [read(folder, manifest, part=("hooks", name, what)) for what in ("parameters", "buffers")]
    weights = {
        key: one
        for part in found
        if isinstance(part, Mapping)
        for key, one in cast("Mapping[str, object]", part).items()
        if isinstance(one, Tensor)
    }
    if not weights:
        raise _NoAverageError(
            f"{manifest.name[0].upper()}{manifest.name[1:]} holds no average of a hook set {name!r}. It holds those "
            "that evaluations looked at there, and those of ema and swa once they have begun."
        )
    return weights


def _load(
    model: nn.Module, state: Mapping[str, Any], weights: Mapping[str, Tensor], *, strict: bool
) -> set[str]:
    """Give the model the state, and the weights over it; the names that did not fit."""
    own, trained = tensors_of(model), dict(named_parameters(model))
    weights = {bare_name(name): one for name, one in weights.items()}
    fitting = {name for name, one in weights.items() if name in own and own[name].shape == one.shape}
    # A buffer that is no part of the state, such as a cache, may have another shape or not be there.
    rest = {name for name in weights.keys() - fitting if name in state or name in trained}
    if strict and rest:
        raise CheckpointError(
            f"The checkpoint is of another model: in the average {', '.join(map(repr, sorted(rest)))} does not fit by "
            "name and shape."
        )
    if strict:
        load_bare_state(model, state)
    else:
        rest |= load_what_fits(model, state)
    with torch.no_grad():
        for name in fitting:
            own[name].copy_(weights[name])
    return rest
