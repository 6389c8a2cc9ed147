"""Averages of weights over ranks: those of one process, whether the model is replicated or sharded."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tests.hooks.averages import average_of
from tests.loop.programs import batches, sgd, squares
from tests.ranks import on_ranks
from tests.run.several import ENGINES, me, parameters_of, whole
from trainhooks import (
    BatchPrediction,
    Evaluation,
    Experiment,
    HookDefinitionError,
    HookSet,
    TrainBegin,
    compose,
    evaluate,
    for_rank,
    fsdp,
    load_weights,
    train,
)
from trainhooks.hooks import checkpoint, clip_grad_norm, early_stopping, ema, freeze, grad_stats, swa

Averages: TypeAlias = Callable[[], HookSet]
EMA: Averages = partial(ema, 0.7, apply_at_end=True)
SWA: Averages = partial(swa, start=2, every=2, apply_at_end=True)
EVERY_ONE: dict[str, Averages] = {"ema": EMA, "swa": SWA}


class Left(NamedTuple):
    """What a run left: the whole parameters of the model, those of the average, and the evaluation's loss."""

    model: list[Tensor]
    average: list[Tensor]
    loss: float
    sharded: bool


def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


def averaged(engine: str, name: str) -> Left:
    model = layers()
    result = train(
        model, batches(5), squares, sgd, epochs=1, hooks=EVERY_ONE[name](), parallel=ENGINES[engine](),
        evaluations=[Evaluation("val", batches(2, seed=9))],
    )  # fmt: skip
    average = list(average_of(result, name).parameters.values())
    sharded = {isinstance(one, DTensor) for one in (*average, *model.parameters())}
    return Left(parameters_of(model), whole(average), result.metrics["val/loss"], sharded == {True})


def close(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.allclose(one, other, rtol=0, atol=1e-6) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", ["ema", "swa"])
def test_the_average_is_that_of_one_process(name: str, engine: str) -> None:
    """Keeps P46."""
    (alone,) = on_ranks(1, averaged, "ddp", name)
    for left in on_ranks(2, averaged, engine, name):
        assert close(left.average, alone.average)
        assert close(left.model, alone.average)
        assert left.loss == pytest.approx(alone.loss, rel=1e-6)
        assert left.sharded == (engine == "fsdp")
    (plain,) = on_ranks(1, trained_plainly)
    assert not close(alone.average, plain)


def trained_plainly() -> list[Tensor]:
    model = layers()
    train(model, batches(5), squares, sgd, epochs=1)
    return parameters_of(model)


def failing(engine: str, name: str, within_forward: bool) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """The bytes of this rank's parts before an evaluation that raises, within it, and after it."""
    model = layers()
    trained: list[Tensor] = []
    seen: dict[str, list[bytes]] = {}

    def begin(ctx: TrainBegin) -> None:
        trained.extend(ctx.run.optimizers[0].param_groups[0]["params"])

    def look(when: str) -> None:
        parts = (one.to_local() if isinstance(one, DTensor) else one for one in trained)
        seen[when] = [one.detach().numpy().tobytes() for one in parts]

    def fail(ctx: BatchPrediction) -> None:
        raise ValueError("no")

    def within(module: nn.Module, inputs: object) -> None:
        if not module.training and within_forward:
            raise ValueError("no")

    model[2].register_forward_pre_hook(within)  # type: ignore[index]  # pyright: ignore[reportIndexIssue]  # Sequential
    hooks: list[HookSet] = [
        HookSet(name="before", on_train_begin=begin, on_after_optimizer_step=lambda ctx: look("before")),
        EVERY_ONE[name](),
        HookSet(name="within", on_evaluation_begin=lambda ctx: look("within"), on_after_batch_prediction=fail),
    ]  # fmt: skip
    parallel = fsdp(reshard_after_forward=False) if engine == "fsdp, kept whole" else ENGINES[engine]()
    with pytest.raises(ValueError, match="no"):
        train(
            model, batches(5), squares, sgd, epochs=1, hooks=hooks, parallel=parallel,
            evaluations=[Evaluation("val", batches(2, seed=9))],
        )  # fmt: skip
    look("after")
    return seen["before"], seen["within"], seen["after"]


@pytest.mark.parametrize("within_forward", [False, True])
@pytest.mark.parametrize("engine", ["ddp", "fsdp", "fsdp, kept whole"])
@pytest.mark.parametrize("name", ["ema", "swa"])
def test_the_live_weights_are_bit_equal_after_an_evaluation_that_raises(
    name: str, engine: str, within_forward: bool
) -> None:
    """Keeps P46."""
    for before, within, after in on_ranks(2, failing, engine, name, within_forward):
        assert within != before
        assert after == before


def restored(engine: str) -> tuple[list[Tensor], list[Tensor]]:
    model, kept = layers(), list[Tensor]()

    def keep(ctx: object) -> None:
        if not kept:
            kept.extend(parameters_of(model))

    train(
        model, batches(2), squares, lambda model: torch.optim.SGD(model.parameters(), 5.0), epochs=5,
        parallel=ENGINES[engine](), evaluations=[Evaluation("val", batches(2, seed=9))],
        hooks=[
            early_stopping("val/loss", mode="min", patience=1, restore_best=True),
            HookSet(name="keep", on_epoch_end=keep),
        ],
    )  # fmt: skip
    return kept, parameters_of(model)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_the_best_state_comes_back_on_every_rank(engine: str) -> None:
    for first, last in on_ranks(2, restored, engine):
        assert all(torch.equal(one, other) for one, other in zip(first, last, strict=True))


def judged(engine: str, folder: Path) -> tuple[float, float]:
    """The best value of a run whose evaluations see an average, and what the model measures that is loaded of it."""
    experiment, held_out = Experiment(project="p", name=engine, root=folder), batches(2, seed=9)
    model = layers()
    train(
        model, batches(3), squares, lambda model: torch.optim.SGD(model.parameters(), 0.5), epochs=4,
        parallel=ENGINES[engine](), evaluations=[Evaluation("val", held_out)], experiment=experiment,
        hooks=[ema(0.7), checkpoint(keep_last=None, keep_best=("val/loss", "min"))],
    )  # fmt: skip
    resumed = layers()
    train(
        resumed, batches(3), squares, lambda model: torch.optim.SGD(model.parameters(), 0.5), epochs=5, resume="must",
        parallel=ENGINES[engine](), evaluations=[Evaluation("val", held_out)], experiment=experiment,
        hooks=[ema(0.7), checkpoint(keep_last=None, keep_best=("val/loss", "min"))],
    )  # fmt: skip
    best = layers()
    manifest = load_weights(best, experiment, which="best")
    assert any(one.name.startswith("average-ema") for one in manifest.files)
    return manifest.metrics["val/loss"], evaluate(best, held_out, squares)["evaluation/loss"]


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_the_best_checkpoint_gives_the_average_that_was_judged(engine: str, tmp_path: Path) -> None:
    for recorded, measured in on_ranks(2, judged, engine, tmp_path, fresh=True):
        assert measured == pytest.approx(recorded, rel=1e-5)


def frozen_until(engine: str, until: int | None) -> list[list[bool]]:
    model, changed = layers(), list[list[bool]]()
    before = [one.detach().clone() for one in model.parameters()]

    def look(ctx: object) -> None:
        changed.append([not torch.equal(one, other) for one, other in zip(before, parameters_of(model), strict=True)])

    options = {"find_unused_parameters": True} if engine == "ddp" else {}
    train(
        model, batches(3, seed=me()), squares, sgd, epochs=1, parallel=ENGINES[engine](**options),
        hooks=[freeze("0.*", until=until), HookSet(name="look", on_batch_end=look)],
    )  # fmt: skip
    return changed


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_frozen_parameters_stay_and_are_trained_on_every_rank_once_let_go(engine: str) -> None:
    held, free = [False, False, True, True], [True] * 4
    assert on_ranks(2, frozen_until, engine, None) == [[held] * 3] * 2
    assert on_ranks(2, frozen_until, engine, 2) == [[held, held, free]] * 2


def test_what_every_rank_must_call_is_refused_on_some() -> None:
    """Keeps P40."""
    for one in (
        ema(0.9), swa(start=1), clip_grad_norm(1.0), grad_stats(), freeze("*"),
        early_stopping("train/loss", mode="min", restore_best=True),
    ):  # fmt: skip
        with pytest.raises(HookDefinitionError, match="runs collectives"):
            compose(for_rank(0, one))
    compose(for_rank(0, early_stopping("train/loss", mode="min")))
