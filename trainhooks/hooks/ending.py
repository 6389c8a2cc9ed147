"""A hook that keeps what a run came to: its weights, its metrics, and results computed at its end."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast, final

import torch
from attrs import asdict, field, frozen
from torch import Tensor, nn

from trainhooks.core import (
    Completed,
    HookSet,
    Recorded,
    Stopped,
    TrainBegin,
    TrainEnd,
    bare_name,
    factory,
    says_itself,
    stateful,
)
from trainhooks.errors import HookDefinitionError, shown
from trainhooks.store import slug

from .artifacts import Piece, publish, run_folder, tidy_name

Results: TypeAlias = Callable[[TrainEnd], Mapping[str, object]]
"""What `save_at_end` takes: a function of the run's end that gives names, and plain data, tensors or paths."""


@final
@frozen
class Newest:
    """What `save_at_end` knows of the run: the newest value of each name."""

    values: dict[str, float] = field(factory=dict[str, float])
    """The values, by name."""


@factory
def save_at_end(results: Results | None = None, *, name: str = "final") -> HookSet:
    """Save the weights, the metrics and results of a run that is completed or stopped, once, at its end.

    They are in the run's folder under `artifacts/<name>/`, whole or not to be seen. The newest `<serial>.json` there
    says how the run ended, its newest metrics, and which files there are: `model.pt`, a dict of tensors on the CPU,
    `results.pt`, a dict of what `results` gave, both for `torch.load(path, weights_only=True)`, and copies of the
    files that `results` named. A run that goes on later, and ends again, adds another one. A run that fails or is
    interrupted saves nothing here: that is what `checkpoint` is for. Only rank 0 writes, and calls `results`.

    If `results` raises, weights and metrics are saved all the same, and the run raises it.

    Args:
        results: Called with the `TrainEnd`, whose `run.model` holds the weights that the run leaves: the last, or those
            that `restore_best` or `apply_at_end` put into it. It gives a mapping from names to plain data (numbers,
            strings, and lists, tuples and dicts of them), tensors, or `Path`s of files that are there. None for no
            results.
        name: The artifact's name; a second set in one run takes one of its own, `named("best", save_at_end(...))` too.

    Raises:
        HookDefinitionError: if an argument is none of these; in the run, if the results are not.
        NoExperimentError: when the run starts, if it has no experiment.
        StorageError: at the run's end, if something cannot be written.

    Example:
        >>> save_at_end(lambda ctx: {"updates": ctx.at.updates})
        save_at_end(results=<lambda>)
    """
    if results is not None and not callable(results):
        raise HookDefinitionError(
            f"save_at_end takes results as a function of the TrainEnd, got {shown(results)}; write lambda ctx: {{...}}."
        )
    _check_name(name)

    def on_train_begin(ctx: TrainBegin, newest: Newest) -> tuple[Newest, None]:
        run_folder(ctx.run, "save_at_end")
        return newest, None

    def on_record(ctx: Recorded, newest: Newest) -> tuple[Newest, None]:
        newest.values.update(ctx.values)
        return newest, None

    def on_train_end(ctx: TrainEnd, newest: Newest) -> tuple[Newest, None]:
        if isinstance(ctx.end, Completed | Stopped):
            _save(ctx, name, results, newest)
        return newest, None

    saving: HookSet = stateful(
        "save_at_end", Newest, ranks=frozenset({0}), on_train_begin=on_train_begin, on_record=on_record,
        on_train_end=on_train_end,
    )  # fmt: skip
    return says_itself(
        saving, "save_at_end(results) saves when the run ends; checkpoint(when=...) saves within a run."
    )


def _save(ctx: TrainEnd, name: str, results: Results | None, newest: Newest) -> None:
    pieces, failure = [Piece("model.pt", "model.pt", _saved(_weights(ctx.run.model)))], None
    try:
        pieces += [] if results is None else _pieces(results(ctx))
    except Exception as error:  # what cannot be computed anew is saved first
        failure = error
    facts = {
        "run": ctx.run.run_id,
        "end": {"kind": type(ctx.end).__name__, **asdict(ctx.end)},
        "at": asdict(ctx.at),
        "metrics": newest.values,
        "results": None if failure is None else f"failed: {type(failure).__name__}: {failure}",
    }
    publish(run_folder(ctx.run, "save_at_end"), name, pieces, facts)
    if failure is not None:
        raise failure


def _weights(model: nn.Module) -> dict[str, object]:
    """The model's state on the CPU, under the names that it has without `torch.compile`."""
    state = cast("Mapping[str, object]", model.state_dict())
    return {
        bare_name(name): value.detach().cpu() if isinstance(value, Tensor) else value
        for name, value in state.items()
    }


def _saved(value: object) -> memoryview:
    written = io.BytesIO()
    torch.save(value, written)
    return written.getbuffer()


def _pieces(results: object) -> list[Piece]:
    """The files of what a function gave as results."""
    if not isinstance(results, Mapping):
        raise HookDefinitionError(
            f"The results of save_at_end are a mapping from names to values, got {type(results).__name__}."
        )
    data, files = dict[str, object](), list[Piece]()
    for name, value in cast("Mapping[object, object]", results).items():
        if not isinstance(name, str) or not name:
            raise HookDefinitionError(f"The results of save_at_end have names, got {shown(name)} for one.")
        if isinstance(value, os.PathLike):
            files.append(_copied(name, Path(cast("os.PathLike[str]", value))))
        else:
            data[name] = _portable(value, name)
    return [*([Piece("results.pt", "results.pt", _saved(data))] if data else []), *files]


def _copied(name: str, path: Path) -> Piece:
    if not path.is_file():
        raise HookDefinitionError(f"The result {name!r} of save_at_end is the path {str(path)!r}; no file is there.")
    return Piece(name, f"files/{slug(name)}/{tidy_name(path.name)}", path)


def _portable(value: object, name: str) -> object:
    """A copy of tensors and plain data that any machine reads back, without pickled classes."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)  # a copy has its own elements alone, not those it is a view of
    if value is None or isinstance(value, bool | bytes):
        return value
    for kind in (int, float, complex, str):
        if isinstance(value, kind):
            return cast("type[Any]", kind)(value)  # not a class derived from it, such as NumPy's float64
    if isinstance(value, Mapping):
        given = cast("Mapping[object, object]", value)
        return {_portable(key, name): _portable(one, f"{name}[{key!r}]") for key, one in given.items()}
    if isinstance(value, list | tuple):
        parts = [_portable(one, f"{name}[{at}]") for at, one in enumerate(cast("Sequence[object]", value))]
        return tuple(parts) if isinstance(value, tuple) else parts
    raise HookDefinitionError(
        f"The results of save_at_end are plain data, tensors and paths, but {name} is of the class "
        f"{type(value).__qualname__}; give its numbers, such as torch.as_tensor(...) of an array, or write a file "
        "and give its Path."
    )


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise HookDefinitionError(f"save_at_end takes name as a string that is not empty, got {shown(name)}.")
