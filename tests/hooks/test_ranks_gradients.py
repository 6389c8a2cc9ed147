"""Hooks on gradients over ranks: those of the whole gradients, whether the model is replicated or sharded."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import pytest
import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from tests.loop.programs import Batch, batches, present, sgd, squares
from tests.ranks import on_ranks
from tests.run.several import ENGINES, me, parameters_of, whole
from trainhooks import Evaluation, Gradients, GradientsReady, HookSet, StepOutput, Stopped, train
from trainhooks.hooks import (
    clip_grad_norm,
    clip_grad_value,
    grad_histogram,
    grad_noise,
    grad_stats,
    skip_nonfinite_update,
    stop_on_constant_predictions,
)

B = TypeVar("B")

HOOKS: dict[str, Callable[[], list[HookSet]]] = {
    "norm": lambda: [clip_grad_norm(0.05)],
    "two norms": lambda: [clip_grad_norm(0.5), clip_grad_norm(0.05)],
    "greatest": lambda: [clip_grad_norm(0.02, math.inf)],
    "sum": lambda: [clip_grad_norm(0.1, 1.0)],
    "value": lambda: [clip_grad_value(0.03)],
    "noise": lambda: [grad_noise(0.1)],
    "skips": lambda: [skip_nonfinite_update()],
}


def layers() -> nn.Module:
    """Its last layer is too small for every rank to have a part of it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2), nn.Tanh(), nn.Linear(2, 1))


def changed(engine: str, name: str) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The parameters at the end, and the gradients that each update's optimizer got; every rank has the same data."""
    model, seen = layers(), list[list[Tensor]]()

    def look(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        seen.append(whole(present(gradients)))
        return gradients

    def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        x, y = batch
        return squares(model, (x, y[:, :1]))

    hooks = [*HOOKS[name](), HookSet(name="look", transform_gradients=look)]
    train(model, batches(3), step, sgd, epochs=1, hooks=hooks, seed=4, parallel=ENGINES[engine]())
    return parameters_of(model), seen


def close(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.allclose(one, other, rtol=0, atol=1e-6) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", list(HOOKS))
def test_gradients_are_changed_as_in_one_process(name: str, engine: str) -> None:
    ((parameters, seen),) = on_ranks(1, changed, "ddp", name)
    for other, seen_there in on_ranks(2, changed, engine, name):
        assert close(other, parameters)
        assert all(close(some, others) for some, others in zip(seen_there, seen, strict=True))
    bounds = {"norm": (0.05, 2.0), "two norms": (0.05, 2.0), "greatest": (0.02, math.inf), "sum": (0.1, 1.0)}
    if name in bounds:
        limit, norm_type = bounds[name]
        assert [float(get_total_norm(one, norm_type)) for one in seen] == pytest.approx([limit] * 3, rel=1e-3)


def skipping(engine: str) -> tuple[list[int], bool]:
    """The updates that were made, and whether all parameters are numbers; rank 1 has a bad second batch."""
    model, data, made = layers(), batches(3), list[int]()
    if me() == 1:
        data[1] = (data[1][0] * math.inf, data[1][1])
    looks = HookSet(name="look", on_batch_end=lambda ctx: made.append(ctx.at.updates))

    def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        return squares(model, (batch[0], batch[1][:, :1]))

    train(model, data, step, sgd, epochs=1, hooks=[skip_nonfinite_update(), looks], parallel=ENGINES[engine]())
    return made, all(bool(torch.isfinite(one).all()) for one in parameters_of(model))


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_a_gradient_that_is_not_finite_on_one_rank_skips_the_update_on_all(engine: str) -> None:
    """Keeps P43."""
    assert on_ranks(2, skipping, engine) == [([1, 1, 2], True)] * 2


@frozen
class Unsized(Generic[B]):
    """Batches that do not say how many they are."""

    batches: Sequence[B]

    def __iter__(self) -> Iterator[B]:
        return iter(self.batches)


def measured(engine: str, folder: Path, sized: bool) -> tuple[dict[str, float], list[str]]:
    """What was recorded of the gradients, and the pictures that this rank drew."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    with torch.no_grad():
        for number, one in enumerate(model.parameters()):
            one.copy_(torch.linspace(-1, 1, one.numel()).reshape(one.shape) + number)
    own = folder / f"rank{me()}"
    data = batches(2) if sized else Unsized(batches(2))
    hooks = [grad_stats(), grad_histogram(own, "*.weight", bins=4)]
    result = train(model, data, squares, sgd, epochs=1, hooks=hooks, parallel=ENGINES[engine]())
    recorded = {name: value for name, value in result.metrics.items() if name.startswith("grad")}
    pictures = [one.read_bytes().hex() for one in sorted(own.iterdir())] if own.exists() else ["no folder"]
    return recorded, pictures


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_gradients_are_measured_as_a_whole_and_drawn_by_rank_0(engine: str, sized: bool, tmp_path: Path) -> None:
    ((recorded, pictures),) = on_ranks(1, measured, "ddp", tmp_path / "alone", sized)
    (first, drawn), (other, none) = on_ranks(2, measured, engine, tmp_path / "both", sized)
    assert len(recorded) == 17
    assert first == other == pytest.approx(recorded, rel=1e-6)
    assert drawn == pictures
    assert len(drawn) == 1
    assert none == ["no folder"]


def constant(engine: str, outputs: tuple[tuple[float, ...], ...]) -> str:
    """Why the run stopped, if it did; each rank predicts its numbers, a batch each."""
    weight = nn.Linear(1, 1)

    def step(model: nn.Module, batch: Tensor) -> StepOutput[Tensor]:
        return StepOutput(model(batch.reshape(1, 1)).sum() * 0.0, weight=1.0, output=batch.reshape(1))

    result = train(
        weight, [torch.ones(1)], step, sgd, epochs=1, parallel=ENGINES[engine](),
        hooks=stop_on_constant_predictions("val"),
        evaluations=[Evaluation("val", Unsized([torch.tensor(one) for one in outputs[me()]]))],
    )  # fmt: skip
    return result.end.reason if isinstance(result.end, Stopped) else "went on"


@pytest.mark.parametrize(
    ("outputs", "ends"),
    [
        (((1.0, 1.0), (1.0,)), "all 3 predictions of 'val' are the same"),
        (((1.0, 1.0), ()), "all 2 predictions of 'val' are the same"),
        (((1.0,), (1.0,)), "all 2 predictions of 'val' are the same"),
        (((1.0, 1.0), (2.0, 2.0)), "went on"),
        (((), (2.0, 1.0)), "went on"),
    ],
)
def test_predictions_are_compared_over_all_ranks(outputs: tuple[tuple[float, ...], ...], ends: str) -> None:
    assert on_ranks(2, constant, "ddp", outputs) == [ends] * 2
