"""Values that ranks record: what a hook reads of them is the same on every rank."""

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, linear, mean_loss, sgd
from tests.ranks import on_ranks
from tests.run.several import joined, me, own_batches
from trainhooks import (
    EpochEnd,
    Evaluation,
    HookSet,
    Progress,
    Ratio,
    Record,
    StepOutput,
    Stopped,
    Value,
    ddp,
    for_rank,
    train,
)
from trainhooks.hooks import early_stopping, reduce_on_plateau


def watched() -> tuple[Progress, object, float]:
    """A run that watches a value that is better and better on rank 1, and worse and worse over both."""
    rates = list[float]()

    def record(ctx: EpochEnd) -> Record:
        return Record({"own": float(ctx.at.epochs) * (10 if me() == 0 else -1)})

    def note(ctx: EpochEnd) -> None:
        rates.extend(group["lr"] for group in ctx.run.optimizers[0].param_groups)

    result = train(
        linear(), own_batches(2), mean_loss, sgd, epochs=6, parallel=ddp(),
        hooks=[
            HookSet(name="records", provides=frozenset({"own"}), on_epoch_end=record),
            reduce_on_plateau("own", mode="min", patience=0, factor=0.5), {"on_epoch_end": note},
            early_stopping("own", mode="min", patience=3),
        ],
    )  # fmt: skip
    return result.at, result.end, rates[-1]


def test_every_rank_judges_a_value_that_each_records_by_the_mean_over_the_ranks() -> None:
    """Keeps P39."""
    results = on_ranks(2, watched)
    assert results[0] == results[1]
    at, end, rate = results[0]
    assert at.epochs == 4
    assert end == Stopped(
        reason="own was best at update 2 (4.5) and did not improve for 3 values", by=("early_stopping",)
    )
    assert rate == 0.1 * 0.5**2, "that of the last update: the third reduction is for one that never came"


def told() -> tuple[list[float], float]:
    """What a rank reads of a value that rank 1 alone records, and what the run knows of it at its end."""
    seen = list[float]()

    def record(ctx: EpochEnd) -> Record:
        return Record({"own": 10.0 + ctx.at.epochs})

    def read(ctx: EpochEnd) -> None:
        seen.append(ctx.metrics["own"])

    result = train(
        linear(), own_batches(2), mean_loss, sgd, epochs=2, parallel=ddp(),
        hooks=[
            for_rank(1, HookSet(name="records", provides=frozenset({"own"}), on_epoch_end=record)),
            HookSet(name="reads", reads=frozenset({"own"}), on_epoch_end=read),
        ],
    )  # fmt: skip
    return seen, result.metrics["own"]


def test_every_rank_reads_a_value_that_one_rank_records() -> None:
    """Keeps P39."""
    assert on_ranks(2, told) == 2 * [([11.0, 12.0], 12.0)]


def test_the_loss_of_training_is_the_same_value_on_every_rank() -> None:
    """Keeps P39. It is the mean over the items of all ranks."""

    def program() -> list[dict[str, float]]:
        return train(linear(), own_batches(3), mean_loss, sgd, epochs=2, parallel=ddp()).history

    def alone() -> list[dict[str, float]]:
        data = [joined(*parts) for parts in zip(own_batches(3, 0), own_batches(3, 1), strict=True)]
        return train(linear(), data, mean_loss, sgd, epochs=2).history

    histories = on_ranks(2, program)
    assert histories[0] == histories[1]
    for one, other in zip(histories[0], alone(), strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def sums() -> dict[str, float]:
    """What a rank knows of sums and ratios, where rank 1 has a batch less, and rank 0 nothing to count."""

    def step(model: nn.Module, batch: Batch) -> StepOutput[None]:
        x, y = batch
        loss = (cast("Tensor", model(x)) - y).square().mean(1).sum()
        hits = Ratio(y.sum() * me(), torch.tensor(len(y) if me() == 1 else 0))
        values: dict[str, Value] = {"hits": hits, "size": float(len(y)), "never": Ratio(1.0, 0)}
        return StepOutput(loss, weight=len(y), values=values, reduction="sum")

    data = own_batches(3 if me() == 0 else 2)
    result = train(
        linear(), data, step, sgd, epochs=2, parallel=ddp(uneven="join"), evaluations=[Evaluation("val", data)],
        hooks={"reads": frozenset({"val/hits", "train/hits"}), "on_epoch_end": lambda ctx: None},
    )  # fmt: skip
    return dict(result.metrics)


def test_sums_and_ratios_are_over_all_ranks_and_what_stands_in_counts_nothing() -> None:
    """Keeps P39."""
    found = on_ranks(2, sums)
    assert found[0] == found[1]
    targets = torch.cat([y for _, y in own_batches(2, 1)])
    assert set(found[0]) == {f"{part}/{name}" for part in ("train", "val") for name in ("loss", "hits", "size")}
    assert found[0]["train/hits"] == found[0]["val/hits"] == pytest.approx(targets.sum().item() / len(targets))
