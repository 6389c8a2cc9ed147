"""Runs of several processes that save and go on, and what each of them has left."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import pytest
import torch
from attrs import frozen
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tests.loop.programs import Batch, squares
from tests.run.resuming import Noisy
from tests.run.saved import experiment
from trainhooks import BatchEnd, CheckpointSaved, HookSet, TrainResult, Trigger, ddp, every, fsdp, stateful, train
from trainhooks.data import SeededLoader, seeded_loader
from trainhooks.distributed import Parallel
from trainhooks.hooks import checkpoint, early_stopping, ema, history
from trainhooks.store import Data, Store, open_store
from trainhooks.store.stores import ObjectStorage

Engine: TypeAlias = Literal["ddp", "fsdp", "alone"]
ENGINES: dict[Engine, Callable[[], Parallel | None]] = {"ddp": ddp, "fsdp": fsdp, "alone": lambda: None}
SAMPLES = 26


def network() -> nn.Module:
    """A model with buffers and randomness, whose first dimensions do not divide by two, the same in every process."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2), nn.Linear(2, 2))


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), 0.01)


def whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def state_of(model: nn.Module) -> dict[str, list[Any]]:
    """The model's whole state as plain data; all ranks take part."""
    return {name: whole(value).tolist() for name, value in cast("dict[str, Tensor]", model.state_dict()).items()}


def counting() -> HookSet:
    """A set that keeps what its own rank draws, which is another number on each."""

    def note(ctx: BatchEnd, drawn: list[float]) -> tuple[list[float], None]:
        return [*drawn, torch.rand(()).item()], None

    return stateful("drawn", list[float], on_batch_end=note)


@frozen(kw_only=True)
class Told:
    """What a rank has left, as plain data."""

    updates: int
    model: dict[str, list[Any]]
    average: dict[str, list[Any]]
    states: str
    history: list[dict[str, float]]
    metrics: dict[str, float]
    read: list[int]
    steps: list[int]
    """The checkpoints that are there."""
    heard: list[tuple[int, int]]
    """The update at which it heard of each checkpoint, and the checkpoint's."""


def told(
    folder: Path, engine: Engine, max_updates: int, resume: Any = "never", *,
    save: Trigger = every(3, "updates"), more: Sequence[Any] = (), parallel: Parallel | None = None,
    background: bool = True, on_failure: Literal["raise", "warn"] = "raise",
) -> Told:  # fmt: skip
    """Run a program with everything that a resume can get wrong, from other random streams each time."""
    torch.manual_seed(torch.seed() % 2**31)
    data, model, heard, now = Noisy(samples=SAMPLES), network(), list[tuple[int, int]](), [0]

    def hears(ctx: CheckpointSaved) -> None:
        heard.append((now[0], ctx.step))

    def ends(ctx: BatchEnd) -> None:
        now[0] = ctx.at.updates

    result = train(
        model,
        loader_of(data),
        squares,
        adamw,
        epochs=3,
        max_updates=max_updates,
        seed=11,
        parallel=parallel or ENGINES[engine](),
        experiment=experiment(folder),
        resume=resume,
        hooks=[
            ema(0.9),
            counting(),
            early_stopping("train/loss", mode="min", patience=99),
            history(),
            checkpoint(when=save, keep_last=None, background=background, on_failure=on_failure),
            HookSet(name="hearing", on_batch_end=ends, on_checkpoint_saved=hears),
            *more,
        ],
    )
    return told_of(result, model, data, heard)


def loader_of(data: Noisy) -> SeededLoader[Batch]:
    return seeded_loader(data, batch_size=2, seed=5)


def told_of(result: TrainResult, model: nn.Module, data: Noisy, heard: list[tuple[int, int]]) -> Told:
    states = dict(result.hook_states)
    average = cast("dict[str, Tensor]", cast("Any", states.pop("ema")).weights)
    return Told(
        updates=result.at.updates,
        model=state_of(model),
        average={name: whole(value).tolist() for name, value in average.items()},
        states=repr(states),
        history=result.history,
        metrics=dict(result.metrics),
        read=data.read,
        steps=[one.step for one in result.checkpoints],
        heard=heard,
    )


def store_of(folder: Path) -> Store:
    """The folder of the one run in an experiment's."""
    experiments = folder / "tests" / "saving"
    [run] = experiments.iterdir()
    return open_store(str(run))


def before_each_put(act: Callable[[str], None]) -> None:
    """Do something in this process before anything is written to a store; for processes that end with their test."""
    put = ObjectStorage.put

    def put_after(self: ObjectStorage, key: str, data: Data, *, create: bool = False) -> None:
        act(key)
        put(self, key, data, create=create)

    pytest.MonkeyPatch().setattr(ObjectStorage, "put", put_after)


def stored_by(folder: Path) -> dict[str, list[str]]:
    """The files of a run, from its folder, by their first folder."""
    store, found = store_of(folder), dict[str, list[str]]()
    for one in store.list():
        found.setdefault(one.key.partition("/")[0], []).append(one.key)
    return found
