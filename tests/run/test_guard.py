"""In guard mode, whoever changes what it did not declare is named, with the event."""

import random
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy
import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, equal, present, squares, weights
from trainhooks import (
    EVENTS,
    BatchEnd,
    BatchPrediction,
    EpochEnd,
    Evaluation,
    EvaluationBegin,
    Gradients,
    GradientsReady,
    HookDict,
    Hooks,
    HookSet,
    LossReady,
    MutationError,
    Slots,
    TrainResult,
    stateful,
    train,
)
from trainhooks.hooks import clip_grad_norm, clip_grad_value, csv, early_stopping, history, lr_schedule, progress


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def run(hooks: Hooks[Any, Any], *, guard: bool = True, model: nn.Module | None = None) -> TrainResult:
    model = model or network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    data = [(x.clone(), y.clone()) for x, y in batches(3)]
    return train(
        model, data, squares, optimizer, epochs=2, hooks=hooks, guard=guard,
        evaluations=[Evaluation("val", [(x.clone(), y.clone()) for x, y in batches(1)])],
    )  # fmt: skip


def no_grad(change: Callable[[Any], object]) -> Callable[[Any], None]:
    def hook(ctx: Any) -> None:
        with torch.no_grad():
            change(ctx)

    return hook


def parameter(ctx: Any) -> Tensor:
    return cast("nn.Module", ctx.run.model).get_parameter("0.weight")


def set_data(ctx: Any) -> None:
    parameter(ctx).data = torch.zeros(4, 3)


def replace_parameter(ctx: Any) -> None:
    ctx.run.model[0].weight = nn.Parameter(ctx.run.model[0].weight.detach().clone())


def drop_gradient(ctx: Any) -> None:
    parameter(ctx).grad = None


def clear_gradient(ctx: Any) -> None:
    gradient = parameter(ctx).grad
    assert gradient is not None
    gradient.zero_()


def freeze(ctx: Any) -> None:
    parameter(ctx).requires_grad_(False)


def set_rate(ctx: Any) -> None:
    ctx.run.optimizers[0].param_groups[0]["lr"] = 0.5


def hide(tensor: Tensor) -> None:
    """Change a tensor as fused kernels do: without counting a version."""
    version = tensor._version  # pyright: ignore[reportPrivateUsage]
    cast("Any", tensor.numpy())[...] += 1.0
    assert tensor._version == version  # pyright: ignore[reportPrivateUsage]


FAULTS: Mapping[str, tuple[str, Callable[[Any], object], str, str]] = {
    "parameter": ("on_batch_end", lambda ctx: parameter(ctx).mul_(1.5), "parameters", "the parameter '0.weight'"),
    "data": ("on_batch_end", set_data, "parameters", "the parameter '0.weight'"),
    "fused": ("on_batch_end", lambda ctx: hide(parameter(ctx).detach()), "parameters", "the parameter '0.weight'"),
    "buffer": ("on_epoch_end", lambda ctx: ctx.run.model[1].running_mean.zero_(), "buffers", "'1.running_mean'"),
    "gradient": ("on_after_backward", clear_gradient, "gradients", "gradient of '0.weight'"),
    "no gradient": ("on_after_optimizer_step", drop_gradient, "gradients", "the gradient of '0.weight'"),
    "final gradient": ("on_after_gradient_update", lambda ctx: ctx.gradients[1].add_(1), "gradients", "'0.bias'"),
    "frozen": ("on_train_begin", freeze, "requires_grad", "requires_grad of '0.weight'"),
    "rate": ("on_epoch_end", set_rate, "optimizer", "'lr' of group 0 of optimizer 0"),
    "momentum": (
        "on_batch_end",
        lambda ctx: next(iter(ctx.run.optimizers[0].state.values()))["momentum_buffer"].zero_(),
        "optimizer",
        "the state 'momentum_buffer' of parameter 0 of optimizer 0",
    ),
    "batch": ("on_batch_begin", lambda ctx: ctx.batch[0].add_(1), "batch", r"ctx.batch\[0\]"),
    "batch afterwards": ("on_batch_end", lambda ctx: ctx.batch[1].zero_(), "batch", r"ctx.batch\[1\]"),
}  # fmt: skip


def test_weights_that_a_hook_leaves_in_the_model_at_the_end_are_declared_as_final() -> None:
    slots = cast("Slots", {"on_train_end": no_grad(lambda ctx: parameter(ctx).mul_(1.5))})
    run(HookSet(name="leaving", writes=frozenset({"parameters", "final"}), **slots))
    for declared, missing in (("parameters", "final"), ("final", "parameters")):
        cure = rf"on on_train_end, .* writes=frozenset\(\{{'{missing}'\}}\)"
        with pytest.raises(MutationError, match=rf"'leaving' changed the parameter '0.weight' in place {cure}"):
            run(HookSet(name="leaving", writes=frozenset({declared}), **slots))


@pytest.mark.parametrize(("event", "change", "kind", "what"), FAULTS.values(), ids=FAULTS)
def test_a_change_that_was_not_declared_is_named_with_its_event_and_one_that_was_is_not(
    event: str, change: Callable[[Any], object], kind: str, what: str
) -> None:
    """Keeps P68."""
    slots = cast("Slots", {event: no_grad(change)})
    cure = rf"in place on {event}, and its writes do not say so; declare it, writes=frozenset\(\{{'{kind}'\}}\)"
    with pytest.raises(MutationError, match=rf"'meddler' changed .*{what}.* {cure}"):
        run(HookSet(name="meddler", **slots))
    others = frozenset({"parameters", "buffers", "gradients", "optimizer", "requires_grad", "batch"}) - {kind}
    with pytest.raises(MutationError):
        run(HookSet(name="meddler", writes=others, **slots))
    if kind != "requires_grad":  # then there is no gradient, which is a change of its own
        run(HookSet(name="meddler", writes=frozenset({kind}), **slots))


def test_a_parameter_that_is_another_object_is_a_change() -> None:
    with pytest.raises(MutationError, match=r"'replace_parameter' changed the parameter '0\.weight' in place"):
        run({"on_epoch_begin": replace_parameter})


def loss_in_place(ctx: LossReady, loss: Tensor) -> Tensor:
    with torch.no_grad():
        return loss.mul_(2.0)


def output_of(ctx: BatchEnd[Batch, Tensor]) -> None:
    ctx.output.zero_()


def loss_of(ctx: BatchEnd) -> None:
    ctx.loss.zero_()


def prediction_of(ctx: BatchPrediction[Batch, Tensor]) -> None:
    ctx.y_pred.zero_()


@pytest.mark.parametrize(
    ("hooks", "what", "event"),
    [
        ({"transform_loss": loss_in_place}, r"the loss", "transform_loss"),
        ({"on_batch_end": output_of}, r"ctx\.output", "on_batch_end"),
        ({"on_batch_end": loss_of}, r"ctx\.loss", "on_batch_end"),
        ({"on_after_batch_prediction": prediction_of}, r"ctx\.y_pred", "on_after_batch_prediction"),
    ],
)
def test_what_nobody_may_change_is_refused_whatever_is_declared(hooks: HookDict, what: str, event: str) -> None:
    """Keeps P68."""
    everything = frozenset({"parameters", "buffers", "gradients", "optimizer", "requires_grad", "batch"})
    sentence = rf"changed {what} in place on {event}, .*; return a changed copy from a transform, or leave it as it is"
    with pytest.raises(MutationError, match=sentence):
        run({**hooks, "writes": everything})


@pytest.mark.parametrize(
    ("draw", "whose"),
    [(random.random, "python"), (lambda: torch.rand(1), "torch"), (numpy.random.rand, "numpy")],
)
def test_a_draw_from_a_global_random_stream_is_named(draw: Callable[[], object], whose: str) -> None:
    """Keeps P68."""

    def gamble(ctx: EpochEnd) -> None:
        draw()

    sentence = rf"'gamble\w*' drew from {whose}'s global random stream on on_epoch_end, .*; use ctx\.generator\(name\)"
    with pytest.raises(MutationError, match=sentence):
        run({"name": "gambler", "on_epoch_end": gamble})


def test_the_generator_of_a_context_is_no_global_stream() -> None:
    def noise(ctx: EpochEnd) -> None:
        torch.rand(3, generator=ctx.generator("noise"))

    run({"on_epoch_end": noise})


def test_a_context_manager_is_looked_at_when_it_is_entered_and_when_it_is_left() -> None:
    """Keeps P68."""

    def swapping(*, on_leaving: bool) -> Callable[[EvaluationBegin], Any]:
        @contextmanager
        def swap(ctx: EvaluationBegin) -> Generator[None]:
            if not on_leaving:
                parameter(ctx).mul_(2.0)
            yield
            parameter(ctx).mul_(0.5)

        return swap

    for on_leaving in (False, True):
        with pytest.raises(
            MutationError, match=r"'swap' changed the parameter '0\.weight' in place on around_evaluation"
        ):
            run({"name": "swap", "around_evaluation": swapping(on_leaving=on_leaving)})
    run({"around_evaluation": swapping(on_leaving=False), "writes": frozenset({"parameters"})})


def test_a_transform_that_returns_copies_is_an_observer() -> None:
    def scaled(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        return [gradient * 0.5 for gradient in present(gradients)]

    def doubled(ctx: object, batch: Batch) -> Batch:
        return batch[0] * 2, batch[1]

    run({"transform_gradients": scaled, "transform_batch": doubled})


def test_a_hook_that_keeps_a_state_is_looked_at_too() -> None:
    def meddle(ctx: BatchEnd, seen: int) -> tuple[int, None]:
        with torch.no_grad():
            parameter(ctx).add_(1.0)
        return seen + 1, None

    with pytest.raises(MutationError, match="'meddler' changed") as caught:
        run(stateful("meddler", int, on_batch_end=meddle))
    assert "Raised in the hook 'meddler' on on_batch_end" in caught.value.__notes__[0]


def test_the_hooks_that_ship_do_what_they_declare_and_nothing_changes_by_looking(tmp_path: Path) -> None:
    """Keeps P68."""
    hooks = [
        clip_grad_norm(1.0), clip_grad_value(0.5), lr_schedule(lambda update: 0.5**update), history(), progress(),
        early_stopping("val/loss", mode="min", restore_best=True), csv(tmp_path / "metrics.csv"),
    ]  # fmt: skip
    guarded, free = network(), network()
    ours = run(hooks, model=guarded)
    theirs = run(hooks, model=free, guard=False)
    assert equal(weights(guarded), weights(free))
    assert ours.metrics == theirs.metrics


def test_a_plain_run_looks_at_nothing() -> None:
    def meddle(ctx: BatchEnd) -> None:
        with torch.no_grad():
            parameter(ctx).add_(1.0)

    run({"on_batch_end": meddle}, guard=False)


def test_every_event_is_looked_at() -> None:
    """Keeps P68."""
    once = [
        event for event in EVENTS if event not in ("on_multiprocess_start", "on_checkpoint_saved", "transform_metrics")
    ]
    for event in [event for event in once if EVENTS[event].kind == "on" and event != "on_train_end"]:
        with pytest.raises(MutationError, match=f" on {event}, "):
            run(cast("HookDict", {"name": "meddler", event: no_grad(lambda ctx: parameter(ctx).add_(1.0))}))


@dataclass
class Sample:
    x: Tensor
    rows: deque[Tensor]


def test_a_change_is_found_in_whatever_a_batch_is_made_of() -> None:
    batch = [Sample(torch.ones(2, 3), deque([torch.ones(2), torch.eye(2).to_sparse()]))]

    def step(model: nn.Module, batch: Sample) -> Tensor:
        return cast("Tensor", model(batch.x)).square().mean()

    def change(row: int) -> Callable[[BatchEnd[Sample, Any]], None]:
        def hook(ctx: BatchEnd[Sample, Any]) -> None:
            ctx.batch.rows[row].mul_(2.0)

        return hook

    for index in (0, 1):
        model = network()
        with pytest.raises(MutationError, match=rf"changed ctx\.batch\.rows\[{index}\] in place on on_batch_end"):
            train(
                model, batch, step, torch.optim.SGD(model.parameters(), 0.1), epochs=1, guard=True,
                hooks={"on_batch_end": change(index)},
            )  # fmt: skip


def test_sparse_gradients_are_looked_at() -> None:
    model = nn.Embedding(4, 2, sparse=True)

    def step(model: nn.Module, batch: Tensor) -> Tensor:
        return cast("Tensor", model(batch)).square().mean()

    def scale(ctx: GradientsReady) -> None:
        ctx.gradients[0]._values().mul_(2.0)

    def run(hooks: HookDict) -> None:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        train(model, [torch.tensor([0, 2])], step, optimizer, epochs=1, guard=True, hooks=hooks)

    run({"on_after_gradient_update": lambda ctx: None})
    with pytest.raises(MutationError, match="changed the gradient of 'weight' in place"):
        run({"on_after_gradient_update": scale})
