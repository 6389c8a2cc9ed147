"""Hooks on what the model said in an evaluation: kept, or written to a file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, cast, final

import torch
from attrs import evolve, frozen
from torch import Tensor

from trainhooks.core import BatchPrediction, EvaluationBegin, EvaluationEnd, HookSet, factory, stateful
from trainhooks.distributed import Ranks
from trainhooks.errors import HookDefinitionError, shown

from .shards import ranks_of


@final
@frozen(kw_only=True, eq=False)
class Predictions:
    """What the model said in one evaluation, and what was true."""

    name: str = ""
    """The evaluation's name; empty before the first."""
    updates: int = 0
    """Updates finished when it was made."""
    y_pred: Tensor | None = None
    """The outputs of all batches, one after another along the first dimension, on their device; None before."""
    y_test: Tensor | None = None
    """The targets likewise; None if the step gives none."""
    batches: list[tuple[Tensor, Tensor | None]] | None = None
    """Output and target of each batch of the evaluation at hand; None between two evaluations."""


Finished: TypeAlias = Callable[[EvaluationEnd, Predictions], Predictions]


@factory
def collect_predictions(name: str) -> HookSet:
    """Keep the outputs and targets of the newest evaluation of one name, on their device.

    They are the state `result.hook_states["collect_predictions"]`, a `Predictions`: put together at the evaluation's
    end, replaced by the next one's. Over ranks each keeps those of its share of the data. A second evaluation of the
    run takes a second set, under a name of its own: `named("of_test", collect_predictions("test"))`.

    Args:
        name: The evaluation's name.

    Raises:
        HookDefinitionError: if it is no name; in the run, if outputs or targets are no tensors of whole batches.
        MissingValueError: when the run starts, if it has no evaluation of that name.

    Example:
        >>> collect_predictions("val")
        collect_predictions(name='val')
    """
    _check_name("collect_predictions", name)

    def keep(ctx: EvaluationEnd, predictions: Predictions) -> Predictions:
        return predictions

    return _collecting("collect_predictions", name, keep)


@factory
def write_predictions(
    folder: str | os.PathLike[str] | Callable[[EvaluationEnd], str | os.PathLike[str]], *, name: str | None = None
) -> HookSet:
    """Write the outputs and targets of each evaluation to a file of its own.

    The file is a dict of plain values, which `torch.load(path, weights_only=True)` reads: `y_pred` and `y_test`
    (tensors on the CPU, all batches along the first dimension; `y_test` is None if the step gives none), `name`,
    `updates` and `epochs` (finished by then). It is whole or not there. The device is read once an evaluation, when
    the file is written. Over ranks it holds those of all, in the order of ranks; rank 0 writes it, and every rank calls
    this.

    Args:
        folder: Where files named `<evaluation>-<updates>.pt` go, made if need be; or a function that gives the path of
            the file of the evaluation that ends. A file that is there already is replaced.
        name: The evaluation whose predictions are written; None for all evaluations.

    Raises:
        HookDefinitionError: if an argument is none of these; in the run, if outputs or targets are no tensors of whole
            batches.
        MissingValueError: when the run starts, if it has no evaluation of that name.
        OSError: in the run, if the file cannot be written.

    Example:
        >>> write_predictions("runs/first/predictions", name="test").collective
        True
    """
    if name is not None:
        _check_name("write_predictions", name)
    path_of = folder if callable(folder) else _in_folder(folder)

    def write(ctx: EvaluationEnd, predictions: Predictions) -> Predictions:
        if (ranks := ranks_of(ctx.run)) is not None:
            predictions = _of_all(ranks, predictions)
        if ctx.run.rank.index == 0:
            _write(Path(path_of(ctx)), ctx, predictions)
        return Predictions(name=ctx.name, updates=ctx.at.updates)

    return _collecting("write_predictions", name, write, collective=True)


def _collecting(factory: str, name: str | None, finished: Finished, *, collective: bool = False) -> HookSet:
    """A set that collects the predictions of an evaluation and hands them to `finished` at its end."""

    def begin(ctx: EvaluationBegin, state: Predictions) -> tuple[Predictions, None]:
        return evolve(state, batches=[]) if name in (None, ctx.name) else state, None

    def take(ctx: BatchPrediction, state: Predictions) -> tuple[Predictions, None]:
        if name in (None, ctx.name):
            if state.batches is None:
                raise HookDefinitionError(
                    f"{factory} acts at the end of an evaluation, and a prediction has none; save what the iterator "
                    "that predict returns gives."
                )
            state.batches.append(_checked(factory, ctx))
        return state, None

    def end(ctx: EvaluationEnd, state: Predictions) -> tuple[Predictions, None]:
        if state.batches is None:  # another evaluation's end
            return state, None
        whole = evolve(_joined(state.batches), name=ctx.name, updates=ctx.at.updates)
        return finished(ctx, whole), None

    return stateful(
        factory, Predictions, reads=frozenset[str]() if name is None else frozenset({f"{name}/loss"}),
        collective=collective, on_evaluation_begin=begin, on_after_batch_prediction=take, on_evaluation_end=end,
    )  # fmt: skip


def _joined(batches: list[tuple[Tensor, Tensor | None]]) -> Predictions:
    outputs, targets = [y_pred for y_pred, _ in batches], [y_test for _, y_test in batches if y_test is not None]
    return Predictions(  # a rank may have had no batch
        y_pred=torch.cat(outputs) if outputs else None,
        y_test=torch.cat(targets) if targets else None,
    )


def _of_all(ranks: Ranks, own: Predictions) -> Predictions:
    """The predictions of all ranks in their order, on the CPU of rank 0; nothing on the others."""
    if own.y_pred is None:
        part = None
    else:
        part = own.y_pred.cpu(), None if own.y_test is None else own.y_test.cpu()
    return _joined([one for one in ranks.gather_to_first(part) if one is not None])


def _checked(factory: str, ctx: BatchPrediction) -> tuple[Tensor, Tensor | None]:
    y_pred: object = ctx.y_pred
    y_test = ctx.y_test
    for what, value in (("output", y_pred), ("target", y_test)):
        if value is None and what == "target":
            continue
        if not isinstance(value, Tensor) or not value.shape:
            raise HookDefinitionError(
                f"{factory} puts batches together along their first dimension, and the {what} of a batch of the "
                f"evaluation {ctx.name!r} is {_kind_of(value)}; return StepOutput(loss, output=..., target=...) with "
                "tensors of whole batches."
            )
    target = cast("Tensor | None", y_test)
    return cast("Tensor", y_pred).detach(), None if target is None else target.detach()


def _kind_of(value: object) -> str:
    return f"a 0-d {value.dtype} tensor" if isinstance(value, Tensor) else repr(value)


def _in_folder(folder: object) -> Callable[[EvaluationEnd], Path]:
    if not isinstance(folder, str | os.PathLike):
        raise HookDefinitionError(
            f"write_predictions takes a folder, or a function that gives a path, got {shown(folder)}."
        )
    where = Path(cast("str | os.PathLike[str]", folder))

    def path_of(ctx: EvaluationEnd) -> Path:
        return where / f"{ctx.name}-{ctx.at.updates:08d}.pt"

    return path_of


def _write(path: Path, ctx: EvaluationEnd, predictions: Predictions) -> None:
    assert predictions.y_pred is not None
    contents = {
        "y_pred": predictions.y_pred.cpu(),
        "y_test": None if predictions.y_test is None else predictions.y_test.cpu(),
        "name": ctx.name,
        "updates": ctx.at.updates,
        "epochs": ctx.at.epochs,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.part")
    torch.save(contents, draft)
    os.replace(draft, path)


def _check_name(factory: str, name: object) -> None:
    if not isinstance(name, str) or not name:
        raise HookDefinitionError(f"{factory} takes the name of an evaluation, such as 'val', got {shown(name)}.")
