"""Small runs that leave artifacts, and what is found of them."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, cast

from attrs import define, field
from torch import nn

from tests.checkpoint.faults import Fault, FaultyStore
from tests.loop.programs import linear, sgd, squares
from tests.run.saved import loader
from trainhooks import BatchEnd, Experiment, Record, Stop, TrainResult, train
from trainhooks.store import Destination, Store, open_store


def experiment(root: Any, **more: Any) -> Experiment:
    return Experiment(project="tests", name="kept", root=root, **more)


def run(root: Any, *hooks: Any, model: nn.Module | None = None, updates: int = 4, **more: Any) -> TrainResult:
    """So many updates, two an epoch; without an experiment if there is no root."""
    trained = linear() if model is None else model
    given: dict[str, Any] = {"experiment": None if root is None else experiment(root), **more}
    return train(
        trained, loader(8), squares, sgd(trained), max_updates=updates, hooks=list(hooks), seed=3, **given
    )  # fmt: skip


def run_of(root: Any) -> Store:
    """The folder of the one run of the experiment."""
    store = open_store(experiment(root))
    (run_id,) = {one.key.partition("/")[0] for one in store.list()}
    return store.at(run_id)


def artifacts(root: Any) -> dict[str, bytes]:
    """What is under `artifacts/` in the one run of the experiment."""
    store = run_of(root).at("artifacts")
    return {one.key: bytes(store.get(one.key)) for one in store.list()}


def index(root: Any, name: str, serial: int = 1) -> dict[str, Any]:
    """An index, of which all files were found whole."""
    store = run_of(root)
    found = cast("dict[str, Any]", json.loads(bytes(store.get(f"artifacts/{name}/{serial:06d}.json"))))
    for file in found["files"]:
        data = bytes(store.get(file["key"]))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
    return found


def stop_at(updates: int) -> dict[str, Any]:
    def stop(ctx: BatchEnd) -> Stop | None:
        return Stop("enough") if ctx.at.updates == updates else None

    return {"name": "stopping", "on_batch_end": stop}


def fail_at(updates: int) -> dict[str, Any]:
    def fail(ctx: BatchEnd) -> None:
        if ctx.at.updates == updates:
            raise ValueError("broken")

    return {"name": "failing", "on_batch_end": fail}


def recording(name: str, value: float) -> dict[str, Any]:
    def record(ctx: BatchEnd) -> Record:
        return Record({name: value})

    return {"name": f"recording {name}", "on_batch_end": record}


def before_each_batch(act: Callable[[int], object]) -> dict[str, Any]:
    """Calls `act` with the count of updates finished so far."""

    def call(ctx: Any) -> None:
        act(ctx.at.updates)

    return {"name": "acting", "on_batch_begin": call}


@define(eq=False)
class Watched:
    """Opens stores that note each call, and fail at one."""

    fault: Fault = "stalls"
    at_call: int = 0
    calls: list[str] = field(factory=list[str])

    def __call__(self, destination: Destination | Experiment) -> "Opened":
        return Opened(open_store(destination), self)

    @property
    def puts(self) -> list[str]:
        return [call.removeprefix("put artifacts/") for call in self.calls if call.startswith("put ")]


@define(eq=False)
class Opened:
    """A store of which only parts are used."""

    inner: Store
    watched: Watched

    def at(self, prefix: str) -> FaultyStore:
        watched = self.watched
        return FaultyStore(self.inner.at(prefix), watched.fault, watched.at_call, watched.calls)
