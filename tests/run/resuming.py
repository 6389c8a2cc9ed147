"""A run with everything that a resume can get wrong, and what it leaves behind."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from attrs import define, field, frozen
from torch import nn

from tests.loop.programs import Batch, squares
from tests.run.saved import state_of
from trainhooks import EVENTS, Evaluation, Experiment, HookSet, Rank, Slots, TrainResult, Trigger, every, train
from trainhooks.data import SeededLoader, seeded_loader
from trainhooks.hooks import checkpoint, clip_grad_norm, csv, early_stopping, ema, history, lr_monitor, lr_schedule

Precision: TypeAlias = Literal["float32", "bf16-mixed", "fp16-mixed"]
SAMPLES = 23
ALONE = Rank()
_NOT_TRAINING = (
    "on_train_begin", "on_train_end", "on_train_loop_registration", "on_multiprocess_start", "on_checkpoint_saved",
)  # fmt: skip
HEARD = tuple(event for event in EVENTS if event.startswith("on_") and event not in _NOT_TRAINING)
"""The events that a run has as often over several processes as in one."""


@define
class Noisy:
    """Samples with noise from the global stream, which notes what was read."""

    read: list[int] = field(factory=list[int])
    samples: int = SAMPLES

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Batch:
        self.read.append(index)
        generator = torch.Generator().manual_seed(index)
        x, y = torch.randn(3, generator=generator), torch.randn(2, generator=generator)
        return x + 0.1 * torch.randn(3), y


@frozen
class Unsized:
    """Data with a cursor and without a length."""

    inner: SeededLoader[Batch]

    def epoch_batches(self, epoch: int, start: int = 0, rank: Rank = ALONE) -> Iterator[Batch]:
        return self.inner.epoch_batches(epoch, start, rank)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch_batches(0)


@frozen(kw_only=True)
class Program:
    """What a run does, but for where it stops."""

    folder: Path
    accumulate: int = 1
    precision: Precision = "float32"
    workers: int = 0
    evaluate: Trigger = every(1, "epochs")
    sized: bool = True
    """Whether its data says how many batches it has."""


@define
class Ran:
    """What a run left behind, over all its processes."""

    result: TrainResult
    model: nn.Module
    optimizer: torch.optim.Optimizer
    read: list[int]
    trace: list[tuple[object, ...]]

    def facts(self) -> dict[str, Any]:
        """Everything that must be equal, as plain data."""
        states = {name: state for name, state in self.result.hook_states.items() if name != "checkpoint"}
        return {
            "at": self.result.at,
            "history": self.result.history,
            "metrics": self.result.metrics,
            "model": state_of(self.model),
            "optimizer": repr(self.optimizer.state_dict()),
            "states": repr(states),
            "average": {
                name: value.tolist() for name, value in cast("Any", states["ema"]).weights.items()
            },
        }


def network() -> nn.Module:
    """A model with buffers and randomness, the same in every process."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def noting(trace: list[tuple[object, ...]]) -> HookSet:
    """A set that notes every event of training with its progress."""

    def hook(event: str) -> Any:
        def note(ctx: Any) -> None:
            trace.append((event, ctx.at, getattr(ctx, "since", None)))

        return note

    return HookSet(name="noting", **cast("Slots", {event: hook(event) for event in HEARD}))


def ran(
    program: Program, *, max_updates: int, save: Trigger, resume: Any = "never", more: Sequence[Any] = (),
    patience: int = 2, on_interrupt: Literal["raise", "return"] = "raise",
) -> Ran:  # fmt: skip
    """Run the program in this process, from other random streams each time."""
    torch.manual_seed(torch.seed() % 2**31)
    data, trace, model = Noisy(), list[tuple[object, ...]](), network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    checked = [(torch.randn(4, 3, generator=torch.Generator().manual_seed(one)), torch.zeros(4, 2)) for one in range(2)]
    loader = seeded_loader(data, batch_size=3, seed=5, num_workers=program.workers)
    result = train(
        model,
        loader if program.sized else Unsized(loader),
        squares,
        optimizer,
        epochs=4,
        max_updates=max_updates,
        accumulate=program.accumulate,
        precision=program.precision,
        seed=11,
        evaluations=[Evaluation("val", checked, when=program.evaluate)],
        hooks=[
            clip_grad_norm(1.0),
            lr_schedule(lambda update: 1 / (1 + update)),
            ema(0.9),
            early_stopping("val/loss", mode="min", patience=patience),
            lr_monitor(),
            history(),
            csv(program.folder / "metrics.csv"),
            checkpoint(when=save, keep_last=None),
            noting(trace),
            *more,
        ],
        experiment=Experiment(project="tests", name="resuming", root=program.folder / "runs"),
        resume=resume,
        on_interrupt=on_interrupt,
    )
    return Ran(result, model, optimizer, data.read, trace)
