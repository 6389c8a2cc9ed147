"""Every hook that ships, once, and a small run for it to be in."""

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, final

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from trainhooks import Evaluation, Experiment, Hooks, TrainEnd, TrainResult, supervised, train
from trainhooks.hooks import (
    checkpoint,
    clip_grad_norm,
    clip_grad_value,
    collect_predictions,
    cosine,
    csv,
    cutmix,
    early_stopping,
    ema,
    freeze,
    grad_histogram,
    grad_noise,
    grad_stats,
    history,
    jsonl,
    lr_monitor,
    lr_schedule,
    memory,
    mixup,
    performance_report,
    profiler,
    progress,
    reduce_on_plateau,
    rename_metrics,
    save_at_end,
    save_source,
    skip_nonfinite_update,
    stop_on_constant_predictions,
    stop_on_nonfinite,
    swa,
    threshold_stopping,
    throughput,
    time_limit,
    timing,
    torch_scheduler,
    upload,
    value_schedule,
    write_predictions,
)

Batch: TypeAlias = tuple[Tensor, Tensor]


@final
@frozen(kw_only=True)
class Case:
    """A hook, and what it declares besides its hook set."""

    make: Callable[[Path], Hooks[Any, Any]]
    """Makes it; files go into the folder."""
    reads: int = 0
    """Device values that it reads in each update, as its docstring says."""
    runs_on_meta: bool = True
    """Whether all that it calls can run on a device that computes nothing."""
    saves: bool = False
    """Whether it needs an experiment."""
    repeats: bool = True
    """Whether two runs of it leave equal states: not if it measures time."""

    def experiment(self, folder: Path) -> Experiment | None:
        """What its runs belong to."""
        return Experiment(project="laws", name="of hooks", root=folder / "runs") if self.saves else None


def still() -> float:
    return 0.0


def set_momentum(run: Any, momentum: float) -> None:
    run.optimizers[0].param_groups[0]["momentum"] = momentum


def steps(optimizer: torch.optim.Optimizer) -> StepLR:
    return StepLR(optimizer, 3)


def at_the_end(ctx: TrainEnd) -> dict[str, object]:
    return {"updates": ctx.at.updates, "bias": cast("Any", ctx.run.model)[1].bias}


def a_log(folder: Path) -> Path:
    """A file that is the same in every run, its time included."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "training.log"
    path.write_text("begun\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


BY_LOSS: tuple[str, Literal["min"]] = ("val/loss", "min")

CASES: Mapping[str, Case] = {
    "checkpoint": Case(make=lambda folder: checkpoint(keep_best=BY_LOSS), saves=True, runs_on_meta=False),
    "clip_grad_norm": Case(make=lambda folder: clip_grad_norm(0.1)),
    "clip_grad_value": Case(make=lambda folder: clip_grad_value(0.01)),
    "collect_predictions": Case(make=lambda folder: collect_predictions("val")),
    "csv": Case(make=lambda folder: csv(folder / "metrics.csv")),
    "cutmix": Case(make=lambda folder: cutmix(num_classes=3)),
    "early_stopping": Case(make=lambda folder: early_stopping("val/loss", mode="min", restore_best=True)),
    "ema": Case(make=lambda folder: ema(0.9)),
    "freeze": Case(make=lambda folder: freeze("1.bias", until=5)),
    "grad_histogram": Case(make=grad_histogram, runs_on_meta=False),
    "grad_noise": Case(make=lambda folder: grad_noise(0.1), runs_on_meta=False),
    "grad_stats": Case(make=lambda folder: grad_stats()),
    "history": Case(make=lambda folder: history()),
    "jsonl": Case(make=lambda folder: jsonl(segment=200), saves=True),
    "lr_monitor": Case(make=lambda folder: lr_monitor()),
    "lr_schedule": Case(make=lambda folder: lr_schedule(cosine(20))),
    "memory": Case(make=lambda folder: memory(), repeats=False),
    "mixup": Case(make=lambda folder: mixup(num_classes=3)),
    "performance_report": Case(make=lambda folder: performance_report()),
    "profiler": Case(make=profiler, runs_on_meta=False, repeats=False),
    "progress": Case(make=lambda folder: progress(clock=still)),
    "reduce_on_plateau": Case(make=lambda folder: reduce_on_plateau("val/loss", mode="min", patience=0)),
    "rename_metrics": Case(make=lambda folder: rename_metrics({"val/loss": "val/error"})),
    "save_at_end": Case(make=lambda folder: save_at_end(at_the_end), saves=True, runs_on_meta=False),
    "save_source": Case(make=lambda folder: save_source(packages=False), saves=True, runs_on_meta=False),
    "skip_nonfinite_update": Case(make=lambda folder: skip_nonfinite_update(), reads=1),
    "stop_on_constant_predictions": Case(make=lambda folder: stop_on_constant_predictions("val", only_warn=True)),
    "stop_on_nonfinite": Case(make=lambda folder: stop_on_nonfinite(lag=10_000)),
    "swa": Case(make=lambda folder: swa(start=3)),
    "threshold_stopping": Case(
        make=lambda folder: threshold_stopping("val/loss", mode="min", divergence_threshold=99.0)
    ),
    "throughput": Case(make=lambda folder: throughput(clock=still), repeats=False),
    "time_limit": Case(make=lambda folder: time_limit(60.0, clock=still)),
    "timing": Case(make=lambda folder: timing(clock=still), repeats=False),
    "torch_scheduler": Case(make=lambda folder: torch_scheduler(steps, unit="updates")),
    "upload": Case(make=lambda folder: upload(a_log(folder)), saves=True, runs_on_meta=False),
    "value_schedule": Case(make=lambda folder: value_schedule(set_momentum, lambda update: update / 20)),
    "write_predictions": Case(make=write_predictions),
}  # fmt: skip
PLAIN_FUNCTIONS = frozenset(
    {"constant", "cosine", "cosine_restarts", "linear", "polynomial", "warmup", "warmup_stable_decay"}
)
"""Factors of a schedule: no hooks."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3))


def pictures(count: int, device: str = "cpu") -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    batches = [(torch.randn(6, 1, 4, 4, generator=generator), torch.arange(6) % 3) for _ in range(count)]
    return [(x.to(device), y.to(device)) for x, y in batches]


def run(hooks: Hooks[Any, Any], model: nn.Module, count: int = 6, epochs: int = 2, **arguments: Any) -> TrainResult:
    device = str(next(model.parameters()).device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return train(
            model, pictures(count, device), supervised(F.cross_entropy), optimizer, epochs=epochs, hooks=hooks, seed=7,
            evaluations=[Evaluation("val", pictures(2, device))], **arguments,
        )  # fmt: skip


def plain(value: Any) -> object:
    """Data that can be compared, whatever tensors and NaN are in it."""
    if isinstance(value, Tensor):
        return (value.dtype, tuple(value.shape), plain(value.tolist()))
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in cast("list[object]", value)]
    if callable(state_dict := getattr(cast("object", value), "state_dict", None)):
        return plain(state_dict())
    fields = cast("tuple[Any, ...]", getattr(type(cast("object", value)), "__attrs_attrs__", ()))
    if fields:
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    return "NaN" if value != value else value
