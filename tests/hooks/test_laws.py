"""One table of laws, and every hook that ships goes through it."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast, final

import pytest
import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

import trainhooks.hooks
from tests.hooks.reads import DeviceReads
from tests.loop.programs import equal, weights
from trainhooks import BatchEnd, EpochEnd, Evaluation, Hooks, HookSet, TrainResult, supervised, train
from trainhooks.hooks import (
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
    lr_monitor,
    lr_schedule,
    memory,
    mixup,
    performance_report,
    profiler,
    progress,
    reduce_on_plateau,
    rename_metrics,
    skip_nonfinite_update,
    stop_on_constant_predictions,
    stop_on_nonfinite,
    swa,
    threshold_stopping,
    throughput,
    time_limit,
    timing,
    torch_scheduler,
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
    repeats: bool = True
    """Whether two runs of it leave equal states: not if it measures time."""


def still() -> float:
    return 0.0


def set_momentum(run: Any, momentum: float) -> None:
    run.optimizers[0].param_groups[0]["momentum"] = momentum


CASES: Mapping[str, Case] = {
    "clip_grad_norm": Case(make=lambda folder: clip_grad_norm(0.1)),
    "clip_grad_value": Case(make=lambda folder: clip_grad_value(0.01)),
    "collect_predictions": Case(make=lambda folder: collect_predictions("val")),
    "csv": Case(make=lambda folder: csv(folder / "metrics.csv")),
    "cutmix": Case(make=lambda folder: cutmix(classes=3)),
    "early_stopping": Case(make=lambda folder: early_stopping("val/loss", mode="min", restore_best=True)),
    "ema": Case(make=lambda folder: ema(0.9)),
    "freeze": Case(make=lambda folder: freeze("1.bias", until=5)),
    "grad_histogram": Case(make=grad_histogram, runs_on_meta=False),
    "grad_noise": Case(make=lambda folder: grad_noise(0.1), runs_on_meta=False),
    "grad_stats": Case(make=lambda folder: grad_stats()),
    "history": Case(make=lambda folder: history()),
    "lr_monitor": Case(make=lambda folder: lr_monitor()),
    "lr_schedule": Case(make=lambda folder: lr_schedule(cosine(20))),
    "memory": Case(make=lambda folder: memory(), repeats=False),
    "mixup": Case(make=lambda folder: mixup(classes=3)),
    "performance_report": Case(make=lambda folder: performance_report()),
    "profiler": Case(make=profiler, runs_on_meta=False, repeats=False),
    "progress": Case(make=lambda folder: progress(clock=still)),
    "reduce_on_plateau": Case(make=lambda folder: reduce_on_plateau("val/loss", mode="min", patience=0)),
    "rename_metrics": Case(make=lambda folder: rename_metrics({"val/loss": "val/error"})),
    "skip_nonfinite_update": Case(make=lambda folder: skip_nonfinite_update(), reads=1),
    "stop_on_constant_predictions": Case(make=lambda folder: stop_on_constant_predictions("val", only_warn=True)),
    "stop_on_nonfinite": Case(make=lambda folder: stop_on_nonfinite(lag=10_000)),
    "swa": Case(make=lambda folder: swa(start=3)),
    "threshold_stopping": Case(make=lambda folder: threshold_stopping("val/loss", mode="min", threshold=99.0)),
    "throughput": Case(make=lambda folder: throughput(clock=still), repeats=False),
    "time_limit": Case(make=lambda folder: time_limit(60.0, clock=still)),
    "timing": Case(make=lambda folder: timing(clock=still), repeats=False),
    "torch_scheduler": Case(make=lambda folder: torch_scheduler(lambda optimizer: StepLR(optimizer, 3))),
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


CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_the_table_holds_every_hook_that_ships() -> None:
    factories = {name for name in trainhooks.hooks.__all__ if name.islower()}
    assert set(CASES) == factories - PLAIN_FUNCTIONS


@CASE
def test_it_does_to_tensors_and_streams_what_it_declares_and_no_more(case: Case, tmp_path: Path) -> None:
    """Keeps P68."""
    looked_at, free = network(), network()
    run(case.make(tmp_path / "guarded"), looked_at, guard=True)
    run(case.make(tmp_path / "free"), free)
    assert equal(weights(looked_at), weights(free))


@CASE
def test_an_observer_changes_no_trained_parameter(case: Case, tmp_path: Path) -> None:
    """Keeps P08. An observer is a set without `writes` that transforms nothing and asks for nothing in this run."""
    hooks = cast("HookSet", case.make(tmp_path))
    if hooks.writes or any(event.startswith("transform_") for event, _ in hooks.slots):
        pytest.skip("changes something, and says so")
    with_it, without = network(), network()
    run(hooks, with_it)
    run((), without)
    assert equal(weights(with_it), weights(without))


@CASE
def test_two_runs_of_one_set_are_equal(case: Case, tmp_path: Path) -> None:
    """Keeps P12."""
    hooks = case.make(tmp_path)
    first, second = network(), network()
    results = [run(hooks, model) for model in (first, second)]
    assert equal(weights(first), weights(second))
    if case.repeats:
        one, other = (plain((result.metrics, result.history, result.end)) for result in results)
        assert one == other
        assert plain(results[0].hook_states) == plain(results[1].hook_states)


@CASE
def test_it_reads_no_device_value_in_a_step_that_it_does_not_declare(case: Case, tmp_path: Path) -> None:
    """Keeps P57."""
    if not case.runs_on_meta:
        pytest.skip("calls what the meta device does not have")
    short, long = (reads_of(case, tmp_path / str(count), count) for count in (20, 60))
    more = {reader: count - short[reader] for reader, count in long.items() if count > short[reader]}
    assert sum(more.values()) == 40 * case.reads, more


def test_a_hook_that_reads_in_each_step_would_be_noticed(tmp_path: Path) -> None:
    def read(ctx: BatchEnd) -> None:
        assert float(ctx.loss) == 1.0

    short, long = (reads_of(Case(make=lambda folder: {"on_batch_end": read}), tmp_path, count) for count in (20, 60))
    assert long.total() - short.total() == 40


def reads_of(case: Case, folder: Path, count: int) -> Counter[str]:
    """Who read the device how often, in a run of one epoch of so many updates."""
    with torch.device("meta"):
        model = network()
    with DeviceReads() as reads:
        run(case.make(folder), model, count, epochs=1)
    return Counter(reads.found)


@CASE
def test_a_failure_elsewhere_is_the_one_that_is_raised_and_everything_is_put_back(case: Case, tmp_path: Path) -> None:
    """Keeps P05."""

    def fail(ctx: EpochEnd) -> None:
        raise ValueError("broken")

    def fail_in_evaluation(output: Tensor, target: Tensor) -> float:
        raise ValueError("broken")

    for hooks, metrics in (([{"on_epoch_end": fail}], {}), ([], {"broken": fail_in_evaluation})):
        model, reference = network(), network()
        evaluations = [Evaluation("late", pictures(1), metrics=cast("Any", metrics))]
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with pytest.raises(ValueError, match="broken") as caught:
            train(
                model, pictures(3), supervised(F.cross_entropy), optimizer, epochs=2, seed=7,
                evaluations=[Evaluation("val", pictures(1)), *evaluations],
                hooks=cast("Any", [case.make(tmp_path), *hooks]),
            )  # fmt: skip
        assert not any("While the run ended" in note for note in caught.value.__notes__)
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert [module.training for module in model.modules()] == [module.training for module in reference.modules()]


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
