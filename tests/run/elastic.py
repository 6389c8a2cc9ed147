"""A program that several processes run, and in which one of them does something to them: see `Plan`.

`python -m tests.run.elastic FOLDER PLAN`, under torchrun. It goes on from the newest checkpoint in the folder, and each
rank leaves what it has in the end in `FOLDER/<rank>.json`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias, cast

import torch
from attrs import asdict, define, field, frozen
from torch import Tensor
from torch.utils.data import DataLoader

from tests.loop.programs import Batch, batches, linear, sgd, squares
from tests.run.ranked import ENGINES, SAMPLES, Engine, adamw, network, state_of
from tests.run.resuming import Noisy
from tests.run.saved import experiment
from trainhooks import BatchEnd, Evaluation, HookSet, LossReady, ProcessStart, TrainEnd, TrainResult, every, train
from trainhooks.data import seeded_loader
from trainhooks.distributed import rank_here
from trainhooks.hooks import checkpoint, ema

Deed: TypeAlias = Literal["nothing", "raise", "raise in backward", "kill", "term", "term agent", "term group"]
Reader: TypeAlias = Literal["seeded", "seeded workers", "torch workers"]


@frozen(kw_only=True)
class Plan:
    """What happens, in the first of the processes that the launcher starts."""

    deed: Deed = "nothing"
    rank: int = 1
    """Who does it."""
    update: int = 4
    """At which update's end."""
    engine: Engine = "ddp"
    updates: int = 12
    """How many updates the run makes in all."""
    reader: Reader = "seeded"
    policy: Literal["raise", "return"] = "raise"
    pause: float = 0.0
    """Seconds for which the others sleep at the end of that update, and of each that follows."""
    batch: int = 2
    """Samples of a batch of each process."""
    plain: bool = False
    """Whether the model, and the data that is read, are without randomness and buffers."""
    background: bool = True
    """Whether checkpoints are written while training goes on."""

    def text(self) -> str:
        """It as an argument of the program."""
        return json.dumps(asdict(self))


@define
class Left:
    """What a rank leaves, as plain data."""

    end: str = "raised"
    updates: int = 0
    begun: int | None = None
    """The update at which the last of its processes began to train."""
    restarts: int | None = None
    """How often the launcher had restarted it, as `on_multiprocess_start` said."""
    handled: list[int] = field(factory=list[int])
    """The signals that the program's own handler was called for."""
    restored: bool = False
    """Whether that handler was back."""
    raised: float = 0.0
    """When it raised, in seconds since the epoch."""
    model: dict[str, list[Any]] = field(factory=dict[str, "list[Any]"])
    average: str = ""


def ran(folder: Path, plan: Plan) -> Left:
    """Run it in this process; what leaves it otherwise than by returning is noted, and raised."""
    left = Left()

    def earlier(number: int, frame: FrameType | None) -> None:
        left.handled.append(number)

    signal.signal(signal.SIGTERM, earlier)
    try:
        result = _trained(folder, plan, left)
        left.end, left.average = str(result.end), repr(result.hook_states["ema"])
    except BaseException as error:
        left.end = repr(error)
        raise
    finally:
        left.restored = signal.getsignal(signal.SIGTERM) is earlier
        (folder / f"{rank_here().index}.json").write_text(json.dumps(asdict(left)), encoding="utf-8")
    return left


def _trained(folder: Path, plan: Plan, left: Left) -> TrainResult:
    model = linear() if plan.plain else network()

    def begin(ctx: ProcessStart) -> None:
        left.restarts = ctx.restart_count

    def note(ctx: BatchEnd) -> None:
        left.updates = ctx.at.updates
        left.begun = ctx.at.updates - 1 if left.begun is None else left.begun
        if ctx.at.updates >= plan.update and not left.restarts:
            if ctx.run.rank.index != plan.rank:
                time.sleep(plan.pause)
            elif ctx.at.updates == plan.update:
                left.raised = time.time()
                DEEDS[plan.deed]()

    def break_backward(ctx: LossReady, loss: Tensor) -> Tensor:
        if plan.deed == "raise in backward" and (ctx.run.rank.index, ctx.at.updates) == (plan.rank, plan.update):
            loss.register_hook(fail)
        return loss

    def end(ctx: TrainEnd) -> None:
        print(f"Rank {ctx.run.rank.index} calls its end hooks.", file=sys.stderr, flush=True)

    torch.manual_seed(torch.seed() % 2**31)
    result = train(
        model, _read(plan), squares, sgd if plan.plain else adamw, epochs=9, max_updates=plan.updates, seed=11,
        parallel=ENGINES[plan.engine](), experiment=experiment(folder), resume="auto", on_interrupt=plan.policy,
        evaluations=[Evaluation("val", batches(2), when=every(3, "updates"))],
        hooks=[
            ema(0.9), checkpoint(when=every(3, "updates"), keep_last=None, background=plan.background),
            HookSet(
                name="noting", on_multiprocess_start=begin, on_batch_end=note, transform_loss=break_backward,
                on_train_end=end,
            ),
        ],
    )  # fmt: skip
    left.model = state_of(model)
    return result


def _read(plan: Plan) -> Iterable[Batch]:
    data: Any = [(x[0], y[0]) for x, y in batches(24, size=1)] if plan.plain else Noisy(samples=SAMPLES)
    if plan.reader == "torch workers":
        return cast("Iterable[Batch]", DataLoader(data, plan.batch, num_workers=2))
    return seeded_loader(data, batch_size=plan.batch, seed=5, num_workers=2 if plan.reader == "seeded workers" else 0)


def fail(*given: object) -> None:
    raise ValueError("no")


def _to(pid: Callable[[], int], number: int) -> Callable[[], None]:
    return lambda: os.kill(pid(), number)


def _from_outside() -> None:
    """Send SIGTERM to this process and its children: torch's data workers forgive it if it comes from their parent."""
    subprocess.run(["kill", "-TERM", "--", f"-{os.getpgrp()}"], start_new_session=True, check=True)


DEEDS: Mapping[Deed, Callable[[], object]] = {
    "nothing": lambda: None,
    "raise in backward": lambda: None,
    "raise": fail,
    "kill": _to(os.getpid, signal.SIGKILL),
    "term": _to(os.getpid, signal.SIGTERM),
    "term agent": _to(os.getppid, signal.SIGTERM),
    "term group": _from_outside,
}


def left_by(rank: int, folder: Path) -> Left:
    """What the last process of this rank left; one that was killed left nothing."""
    return Left(**json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")))


def left_in(folder: Path, world: int = 2) -> list[Left]:
    """What each rank left."""
    return [left_by(rank, folder) for rank in range(world)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    ran(Path(sys.argv[1]), Plan(**json.loads(sys.argv[2])))
