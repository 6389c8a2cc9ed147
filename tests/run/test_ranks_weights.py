"""What several processes train together is what a hand-written loop, or one process with all the data, would give."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam, AdamW, Optimizer

from tests.loop.programs import Batch, batches, deep, linear, mean_loss, sgd, squares, weights
from tests.ranks import on_ranks
from tests.run.several import ENGINES, joined, own_batches, parameters_of
from trainhooks import BatchEnd, Evaluation, HookSet, Objective, Progress, Record, StepOutput, ddp, fsdp, train
from trainhooks.errors import RunDefinitionError
from trainhooks.hooks import clip_grad_norm

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda model: SGD(model.parameters(), lr=0.02, momentum=0.9),
    "adamw": lambda model: AdamW(model.parameters(), lr=0.01),
}


def twice(optimizer: str, accumulate: int) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters after our loop, and after one written by hand in the same processes."""
    ours = deep()
    torch.manual_seed(5)
    train(
        ours, own_batches(8), mean_loss, OPTIMIZERS[optimizer], epochs=2, accumulate=accumulate, parallel=ddp()
    )
    model = deep()
    model.train()
    torch.manual_seed(5)
    wrapped = DistributedDataParallel(model)
    by_hand = OPTIMIZERS[optimizer](model)
    for _ in range(2):
        for place, batch in enumerate(own_batches(8), start=1):
            closes = place % accumulate == 0
            with nullcontext() if closes else wrapped.no_sync():
                (mean_loss(wrapped, batch) / accumulate).backward()
            if closes:
                by_hand.step()
                by_hand.zero_grad()
    return weights(ours), weights(model)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_equals_a_loop_over_ddp_that_is_written_by_hand(optimizer: str, accumulate: int) -> None:
    """Keeps P71, over ranks: with dropout and batch norm, bit for bit."""
    results = on_ranks(2, twice, optimizer, accumulate)
    for ours, by_hand in results:
        torch.testing.assert_close(ours, by_hand, rtol=0.0, atol=0.0)
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0.0, atol=0.0)
    assert not torch.equal(results[0][0][0], weights(deep())[0])


def test_in_one_process_parallel_changes_nothing_and_makes_no_process_group() -> None:
    def trained(parallel: Any) -> list[Tensor]:
        torch.manual_seed(5)
        model = deep()
        train(model, batches(4), squares, sgd, epochs=2, accumulate=3, parallel=parallel)
        assert not dist.is_initialized()
        return weights(model)

    alone = trained(None)
    torch.testing.assert_close(trained(ddp()), alone, rtol=0.0, atol=0.0)
    torch.testing.assert_close(trained(fsdp()), alone, rtol=0.0, atol=0.0)


def test_a_process_among_several_that_trains_alone_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = linear()
    with pytest.warns(RuntimeWarning, match=r"rank 1 of 2, and parallel=None: .* parallel=trainhooks\.ddp"):
        result = train(model, batches(2), squares, sgd(model), epochs=1)
    assert result.at.updates == 2


class Pair(nn.Module):
    """A generator and its critic."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic = linear(0), nn.Linear(2, 1)
        with torch.no_grad():
            for one in self.critic.parameters():
                one.copy_(torch.linspace(-1.0, 1.0, one.numel()).view_as(one))


def pair(model: nn.Module) -> Pair:
    return cast("Pair", model)


def critic_step(module: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    model, (noise, real) = pair(module), batch
    fake = model.generator(noise)
    loss = softplus(-model.critic(real)).mean() + softplus(model.critic(fake)).mean()
    return StepOutput(loss, weight=float(len(real)), output=fake)


def generator_step(module: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    model, (noise, _) = pair(module), batch
    return StepOutput(softplus(-model.critic(model.generator(noise))).mean(), weight=float(len(noise)))


def adversaries() -> list[Objective]:
    return [
        Objective("critic", critic_step, lambda model: SGD(pair(model).critic.parameters(), lr=0.1)),
        Objective("generator", generator_step, lambda model: Adam(pair(model).generator.parameters(), lr=0.01)),
    ]


def contest(data: list[Batch] | None, accumulate: int, parallel: Any) -> tuple[list[Tensor], Progress, list[Any]]:
    model = Pair()
    result = train(
        model, own_batches(6) if data is None else data, None, adversaries(), epochs=2, accumulate=accumulate,
        hooks=clip_grad_norm(0.5), parallel=parallel,
    )  # fmt: skip
    return weights(model), result.at, [sorted(row.items()) for row in result.history]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_two_objectives_train_one_model_on_all_ranks(accumulate: int) -> None:
    results = on_ranks(2, contest, None, accumulate, ddp())
    data = [joined(*parts) for parts in zip(own_batches(6, 0), own_batches(6, 1), strict=True)]
    alone, at, history = contest(data, accumulate, None)
    for parameters, there, rows in results:
        assert there == at
        assert rows == results[0][2]
        torch.testing.assert_close(parameters, results[0][0], rtol=0.0, atol=0.0)
        torch.testing.assert_close(parameters, alone, rtol=1e-5, atol=1e-6)
    assert [name for name, _ in results[0][2][0]] == [name for name, _ in history[0]]


def test_a_sharded_model_takes_one_objective() -> None:
    with pytest.raises(RunDefinitionError, match=r"fsdp\(\) takes one objective, and the run has 2; write ddp\(\)"):
        train(Pair(), batches(2), None, adversaries(), epochs=1, parallel=fsdp())


def test_a_sharded_model_takes_no_optimizer_that_was_made_before() -> None:
    model = linear()
    with pytest.raises(RunDefinitionError, match=r"give a function of the model: lambda model: torch\.optim\.SGD"):
        train(model, batches(2), squares, sgd(model), epochs=1, parallel=fsdp())


def everything(engine: str, guard: bool, specialised: bool) -> tuple[list[Tensor], Mapping[str, float], Progress]:
    """A run that hears much, in one of the ways in which it can be run."""

    def record(ctx: BatchEnd) -> Record:
        return Record({"own": ctx.loss})

    model = linear()
    result = train(
        model, own_batches(5), squares, sgd, epochs=2, accumulate=2, guard=guard, specialised=specialised,
        hooks=[{"on_batch_end": record}, clip_grad_norm(0.5), HookSet(name="idle", on_record=lambda ctx: None)],
        evaluations=[Evaluation("val", batches(3))], parallel=ENGINES[engine](),
    )  # fmt: skip
    return parameters_of(model), result.metrics, result.at


@pytest.mark.parametrize("engine", ENGINES)
def test_guard_mode_and_the_loop_as_it_stands_give_the_same_run(engine: str) -> None:
    """Keeps P66, over ranks."""
    plain, guarded, reference = (
        on_ranks(2, everything, engine, guard, specialised)
        for guard, specialised in ((False, True), (True, True), (False, False))
    )
    for other in (guarded, reference):
        for (parameters, metrics, at), (parameters_, metrics_, at_) in zip(plain, other, strict=True):
            torch.testing.assert_close(parameters, parameters_, rtol=0.0, atol=0.0)
            assert (metrics, at) == (metrics_, at_)
