"""Mixed precision over ranks: an overflow on one of them is one on all, and a loss that is not finite ends all."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

from tests.loop.programs import Batch, linear, mean_loss, sgd, squares
from tests.ranks import on_ranks
from tests.run.several import ENGINES, joined, me, own_batches, parameters_of
from trainhooks import BatchEnd, OptimizerStepped, Progress, Record, Recorded, StepOutput, Stopped, train
from trainhooks.hooks import stop_on_nonfinite

BATCHES = 4


def gentle(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    """A step whose gradients fit float16, also 65536 times as large."""
    output = squares(model, batch)
    return evolve(output, loss=output.loss / 16)


def mixed(engine: str | None, precision: Any, data: list[Batch] | None = None) -> tuple[Progress, list[Tensor]]:
    model = linear()
    result = train(
        model, data or own_batches(BATCHES), gentle, sgd, epochs=2, accumulate=2, precision=precision,
        parallel=ENGINES[engine]() if engine else None,
    )  # fmt: skip
    return result.at, parameters_of(model)


@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
@pytest.mark.parametrize("engine", ENGINES)
def test_mixed_precision_over_ranks_is_near_that_of_one_process_in_full(engine: str, precision: str) -> None:
    data = [joined(*parts) for parts in zip(own_batches(BATCHES, 0), own_batches(BATCHES, 1), strict=True)]
    at, alone = mixed(None, "float32", data)
    results = on_ranks(2, mixed, engine, precision)
    for there, parameters in results:
        assert there == at
        torch.testing.assert_close(parameters, results[0][1], rtol=0.0, atol=0.0)
        torch.testing.assert_close(parameters, alone, rtol=1e-2, atol=1e-2)
    assert any(not torch.equal(one, other) for one, other in zip(results[0][1], alone, strict=True))


class Left(NamedTuple):
    """What a rank knows after its run."""

    at: Progress
    stepped: list[bool]
    parameters: list[Tensor]


def overflowing(engine: str, where: int | None, row: int) -> Left:
    """A run in which, on one rank and in its second batch, the gradients of one row of the weights are infinite."""
    stepped, model, count = list[bool](), linear(), [0]

    def step(module: nn.Module, batch: Batch) -> Tensor:
        count[0] += 1
        output = gentle(module, batch)
        if count[0] == 2 and me() == where:
            assert output.output is not None
            return output.loss + output.output[:, row].float().sum() * 1e30
        return output.loss

    def note(ctx: OptimizerStepped) -> None:
        stepped.append(ctx.stepped)

    result = train(
        model, own_batches(BATCHES), step, sgd, epochs=1, precision="fp16-mixed", parallel=ENGINES[engine](),
        hooks={"on_after_optimizer_step": note},
    )  # fmt: skip
    return Left(result.at, stepped, parameters_of(model))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_overflow_on_one_rank_is_an_overflow_on_all(engine: str, where: int, row: int) -> None:
    """Keeps P50, over ranks: also where one rank alone holds the part of the gradients that is not finite."""
    results = on_ranks(2, overflowing, engine, where, row)
    for left in results:
        assert left.stepped == [True, False, True, True]
        assert (left.at.updates, left.at.batches) == (3, 4)
        assert all(one.isfinite().all() for one in left.parameters)
        torch.testing.assert_close(left.parameters, results[0].parameters, rtol=0.0, atol=0.0)


LAG = 3


class Ended(NamedTuple):
    """How a run with `stop_on_nonfinite` ended on one rank."""

    end: object
    at: Progress
    losses: list[float]
    """That of each batch, as it was recorded."""


def not_finite(rank: int, k: int, accumulate: int, engine: str) -> Ended:
    """A run whose loss is NaN on one rank in each batch of update k."""
    losses, done = list[float](), [0]

    def spoilt(module: nn.Module, batch: Batch) -> Tensor:
        done[0] += 1
        loss = mean_loss(module, batch)
        return loss * float("nan") if me() == rank and -(-done[0] // accumulate) == k else loss

    def record(ctx: BatchEnd) -> Record:
        return Record({"loss": ctx.loss})

    def note(ctx: Recorded) -> None:
        losses.extend(value for name, value in ctx.values.items() if name == "loss")

    result = train(
        linear(), own_batches(20), spoilt, sgd, epochs=1, accumulate=accumulate, parallel=ENGINES[engine](),
        hooks=[{"on_batch_end": record, "on_record": note}, stop_on_nonfinite(lag=LAG)],
    )  # fmt: skip
    return Ended(result.end, result.at, losses)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rank", "k", "accumulate", "stops"),
    [(0, 1, 1, 4), (0, 4, 1, 7), (0, 5, 2, 7), (1, 2, 1, 4), (1, 3, 1, 4), (1, 3, 2, 4), (1, 4, 2, 7)],
)
def test_a_loss_that_is_not_finite_on_one_rank_ends_all_and_names_the_update(
    rank: int, k: int, accumulate: int, stops: int, engine: str
) -> None:
    """Keeps P56. It is read every third update, and every rank stops at the next."""
    results = on_ranks(2, not_finite, rank, k, accumulate, engine)
    for left in results:
        assert left.end == Stopped(reason=f"the loss was not finite at update {k}", by=("stop_on_nonfinite",))
        assert (left.at.updates, left.at.batches) == (stops, stops * accumulate)
    begins = (k - 1) * accumulate
    assert all(map(math.isfinite, results[rank].losses[:begins]))
    assert all(map(math.isnan, results[rank].losses[begins:]))
    assert all(map(math.isfinite, results[1 - rank].losses[: begins + accumulate]))
