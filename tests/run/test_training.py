"""The front door: what a run is given and what it leaves behind."""

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy
import pytest
import torch
from torch import Tensor, nn

import trainhooks
from tests.loop.programs import Batch, batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchEnd,
    Completed,
    EpochEnd,
    Evaluation,
    EvaluationBegin,
    HookDefinitionError,
    HookDict,
    Progress,
    Rank,
    Registration,
    Run,
    RunDefinitionError,
    TrainBegin,
    evaluate,
    predict,
    stateful,
    supervised,
    train,
)


def test_the_public_names_are_there_with_the_parameters_that_were_promised() -> None:
    for name in trainhooks.__all__:
        assert hasattr(trainhooks, name)
    parameters = list(inspect.signature(train).parameters)
    assert parameters[:4] == ["model", "data", "step", "optimizer"]
    assert {"epochs", "max_updates", "hooks", "evaluations", "accumulate", "precision", "device", "transfer", "seed",
            "on_interrupt", "specialised"} <= set(parameters)  # fmt: skip


def test_a_result_says_how_far_the_run_came_and_what_it_measured() -> None:
    model = linear()

    def count(ctx: BatchEnd, seen: int) -> tuple[int, None]:
        return seen + 1, None

    result = train(
        model, batches(3), squares, sgd(model), epochs=2, hooks=stateful("counter", lambda: 0, on_batch_end=count),
        evaluations=[Evaluation("val", batches(1))],
    )  # fmt: skip
    assert result.end == Completed()
    assert result.at == Progress(updates=6, batches=6, epochs=2, epoch=1, batch=2)
    assert result.hook_states == {"counter": 6}
    assert result.checkpoints == ()
    assert [(row["epoch"], row["updates"]) for row in result.history] == [(0, 3), (1, 6)]
    assert result.history[1] == {"epoch": 1, "updates": 6, **result.metrics}
    assert all(type(row) is dict for row in result.history)


def test_contexts_carry_the_facts_of_the_run() -> None:
    model, runs = linear(), list[Run]()
    optimizer = sgd(model)

    def registered(ctx: Registration) -> None:
        runs.append(ctx.run)

    def begun(ctx: TrainBegin) -> None:
        runs.append(ctx.run)
        assert not ctx.resumed

    train(
        model, batches(2), squares, optimizer, epochs=1, max_updates=9, accumulate=2, seed=4,
        hooks={"on_train_loop_registration": registered, "on_train_begin": begun},
    )  # fmt: skip
    for run in runs:
        assert run.model is model
        assert run.optimizers == (optimizer,)
        assert (run.epochs, run.max_updates, run.accumulate, run.seed) == (1, 9, 2, 4)
        assert run.rank == Rank(index=0, world=1, local_index=0, local_world=1)
        assert (run.precision, run.device) == ("float32", torch.device("cpu"))
    assert runs[0].run_id == runs[1].run_id


def test_an_optimizer_can_be_made_once_the_model_is_on_its_device() -> None:
    model, seen = linear(), list[tuple[int, torch.optim.Optimizer | None]]()

    def make(model: nn.Module) -> torch.optim.Optimizer:
        seen.append((len(seen), None))
        return sgd(model)

    def begun(ctx: TrainBegin) -> None:
        assert isinstance(ctx.run.optimizers[0], torch.optim.SGD)

    def registered(ctx: Registration) -> None:
        assert ctx.run.optimizers == ()
        assert seen == []

    train(
        model, batches(2), squares, make, epochs=1,
        hooks={"on_train_begin": begun, "on_train_loop_registration": registered},
    )  # fmt: skip
    assert len(seen) == 1


def test_a_seed_seeds_every_global_generator_before_training() -> None:
    drawn: list[tuple[float, float, float]] = []

    def draw(ctx: TrainBegin) -> None:
        drawn.append((random.random(), float(numpy.random.rand()), torch.rand(1).item()))

    for _ in range(2):
        model = linear()
        train(model, batches(1), squares, sgd(model), epochs=1, seed=7, hooks={"on_train_begin": draw})
    torch.manual_seed(7)
    assert drawn[0] == drawn[1]
    assert drawn[0][2] == torch.rand(1).item()


def test_without_a_seed_the_global_generators_are_left_alone() -> None:
    """Keeps P08."""
    torch.manual_seed(1)
    expected = torch.rand(1).item()
    model = linear()
    torch.manual_seed(1)
    train(model, batches(3), squares, sgd(model), epochs=2, evaluations=[Evaluation("val", batches(1))])
    assert torch.rand(1).item() == expected


def test_the_model_moves_to_the_device_and_a_transfer_replaces_the_rule() -> None:
    model, moved = linear(), list[torch.device]()

    def transfer(batch: Batch, device: torch.device) -> Batch:
        moved.append(device)
        return batch

    train(model, batches(3), squares, sgd(model), epochs=1, device="cpu", transfer=transfer)
    assert moved == [torch.device("cpu")] * 3


def test_the_model_is_in_train_mode_when_training_begins_and_as_before_when_it_ends() -> None:
    model, seen = linear().eval(), list[bool]()

    def look(ctx: TrainBegin) -> None:
        seen.append(model.training)

    train(model, batches(1), squares, sgd(model), epochs=1, hooks={"on_train_begin": look})
    assert seen == [True]
    assert not model.training


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)])
def test_training_has_gradients_where_its_caller_has_none(off: Callable[[], AbstractContextManager[object]]) -> None:
    ours, theirs, data = linear(), linear(), batches(3)
    evaluations = [Evaluation("val", data)]
    train(theirs, data, squares, sgd(theirs), epochs=2, evaluations=evaluations)
    optimizer = sgd(ours)
    with off():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        train(ours, data, squares, optimizer, epochs=2, evaluations=evaluations)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert equal(weights(ours), weights(theirs))


def test_a_hook_of_an_evaluation_may_train() -> None:
    """As in adaptation at the time of a test, in the middle of what has no gradients."""
    model, inner = linear(), linear(1)

    def adapt(ctx: EvaluationBegin) -> None:
        train(inner, batches(1), squares, torch.optim.SGD(inner.parameters(), 0.1), epochs=1)

    evaluations = [Evaluation("val", batches(2))]
    hooks: HookDict = {"on_evaluation_begin": adapt}
    train(model, batches(2), squares, sgd(model), epochs=1, evaluations=evaluations, hooks=hooks)
    assert not equal(weights(inner), weights(linear(1)))


def test_evaluations_and_predictions_are_the_same_under_inference_mode() -> None:
    def three(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, None]:
        return model(batch[0]), batch[1], None

    model = linear()
    expected = evaluate(model, batches(2), squares), [one.y_pred for one in predict(model, batches(2), three)]
    with torch.inference_mode():
        found = evaluate(model, batches(2), squares), [one.y_pred for one in predict(model, batches(2), three)]
    assert found[0] == expected[0]
    assert equal(found[1], expected[1])


def test_parameters_made_under_inference_mode_are_refused_by_name() -> None:
    with torch.inference_mode():
        model = linear()
        with pytest.raises(RunDefinitionError, match=r"'weight' was made under torch\.inference_mode\(\)"):
            train(model, batches(1), squares, sgd(model), epochs=1)


def test_a_step_without_gradients_is_told_so() -> None:
    model = linear()

    @torch.no_grad()
    def off(model: nn.Module, batch: Batch) -> Tensor:
        return squares(model, batch).loss

    with pytest.raises(HookDefinitionError, match=r"does not require grad; was it .* under torch\.no_grad\(\)"):
        train(model, batches(1), off, sgd(model), epochs=1)


def test_epochs_and_updates_are_totals_and_the_first_reached_ends_the_run() -> None:
    for epochs, max_updates, at in (
        (2, None, (6, 2)),
        (None, 4, (4, 1)),
        (2, 4, (4, 1)),
        (1, 4, (3, 1)),
        (0, None, (0, 0)),
        (None, 0, (0, 0)),
    ):
        model = linear()
        result = train(model, batches(3), squares, sgd(model), epochs=epochs, max_updates=max_updates)
        assert (result.at.updates, result.at.epochs) == at
        assert result.end == Completed()


def test_an_iterator_serves_one_epoch() -> None:
    model, again = linear(), linear()

    def once() -> Iterator[Batch]:
        yield from batches(3)

    train(model, once(), squares, sgd(model), epochs=1)
    train(again, batches(3), squares, sgd(again), epochs=1)
    assert equal(weights(model), weights(again))


def test_supervised_gives_hooks_and_metrics_what_they_need() -> None:
    model, seen = linear(), list[tuple[float | Tensor, bool]]()

    def look(ctx: BatchEnd[Batch, Tensor]) -> None:
        seen.append((ctx.weight, ctx.output.shape == ctx.batch[1].shape))

    step = supervised(nn.functional.mse_loss)
    result = train(model, batches(2), step, sgd(model), epochs=1, hooks={"on_batch_end": look})
    other = linear()
    again = train(other, batches(2), squares, sgd(other), epochs=1)
    assert seen == [(4.0, True)] * 2
    assert equal(weights(model), weights(other))
    assert result.metrics == again.metrics
    assert step.__qualname__ == "supervised(mse_loss)"


def test_hooks_and_states_are_fresh_in_every_run() -> None:
    """Keeps P12."""

    def best(ctx: EpochEnd, lowest: float) -> tuple[float, None]:
        return min(lowest, ctx.metrics["train/loss"]), None

    hooks = stateful("best", lambda: float("inf"), on_epoch_end=best)
    results = []
    for _ in range(2):
        model = linear()
        results.append(train(model, batches(3), squares, sgd(model), epochs=3, hooks=hooks))
    assert results[0].hook_states == results[1].hook_states
    assert results[0].history == results[1].history


@pytest.mark.gpu
def test_training_on_a_gpu_reads_nothing_in_a_step() -> None:
    model = linear().cuda()

    def quiet(ctx: BatchEnd) -> None:
        torch.cuda.set_sync_debug_mode("error" if 2 < ctx.at.batch < 8 else "default")

    result = train(model, [(x.cuda(), y.cuda()) for x, y in batches(10)], squares, sgd(model), epochs=1,
                   hooks={"on_batch_end": quiet})  # fmt: skip
    assert result.at.updates == 10
