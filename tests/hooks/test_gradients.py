"""Clipping bounds what it receives, with PyTorch's own functions and their very results."""

import math
from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm

from tests.loop.programs import Batch, batches, equal, linear, present, sgd, squares, weights
from trainhooks import Gradients, GradientsReady, HookDict, HookSet, LossReady, Objective, StepOutput, train
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks import clip_grad_norm, clip_grad_value, grad_noise, skip_nonfinite_update

Clip: TypeAlias = Callable[[nn.Module], object]


def by_hand(clip: Clip, count: int = 6) -> list[Tensor]:
    """Weights after a loop written by hand that clips before each step."""
    model = linear()
    optimizer = sgd(model)
    for batch in batches(count):
        optimizer.zero_grad()
        squares(model, batch).loss.backward()
        clip(model)
        optimizer.step()
    return weights(model)


def with_hooks(*hooks: HookSet) -> list[Tensor]:
    model = linear()
    train(model, batches(6), squares, sgd(model), epochs=1, hooks=hooks)
    return weights(model)


CLIPS: dict[str, tuple[list[HookSet], Clip]] = {
    "norm": ([clip_grad_norm(0.5)], lambda model: clip_grad_norm_(model.parameters(), 0.5)),
    "1-norm": ([clip_grad_norm(0.5, 1.0)], lambda model: clip_grad_norm_(model.parameters(), 0.5, 1.0)),
    "inf-norm": ([clip_grad_norm(0.5, math.inf)], lambda model: clip_grad_norm_(model.parameters(), 0.5, math.inf)),
    "value": ([clip_grad_value(0.1)], lambda model: clip_grad_value_(model.parameters(), 0.1)),
    "value, then norm": (
        [clip_grad_value(0.2), clip_grad_norm(0.3)],
        lambda model: (clip_grad_value_(model.parameters(), 0.2), clip_grad_norm_(model.parameters(), 0.3)),
    ),
    "norm twice": (
        [clip_grad_norm(1.0), clip_grad_norm(0.3)],
        lambda model: (clip_grad_norm_(model.parameters(), 1.0), clip_grad_norm_(model.parameters(), 0.3)),
    ),
}


@pytest.mark.parametrize(("hooks", "clip"), CLIPS.values(), ids=CLIPS)
def test_clipping_is_bit_equal_to_a_loop_written_by_hand(hooks: list[HookSet], clip: Clip) -> None:
    """Keeps P71."""
    assert equal(with_hooks(*hooks), by_hand(clip))


def test_gradients_within_the_bound_are_left_as_they_are() -> None:
    assert equal(with_hooks(clip_grad_norm(1e9), clip_grad_value(1e9)), by_hand(lambda model: None))
    assert not equal(with_hooks(clip_grad_norm(0.5)), by_hand(lambda model: None))


def norms_received(*hooks: HookSet | HookDict) -> list[float]:
    """The norm of the gradients that a transform after `hooks` receives, at each update."""
    norms: list[float] = []

    def measure(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        norms.append(float(get_total_norm(present(gradients))))
        return gradients

    model = linear()
    train(model, batches(6), squares, sgd(model), epochs=1, hooks=[*hooks, {"transform_gradients": measure}])
    return norms


def test_two_clips_each_bound_what_they_receive() -> None:
    """Keeps P73. The second would leave the gradients at the first's bound if it used the norm from before."""
    assert norms_received(clip_grad_norm(0.5), clip_grad_norm(0.1)) == pytest.approx([0.1] * 6, rel=1e-4)
    assert norms_received(clip_grad_norm(0.1), clip_grad_norm(0.5)) == pytest.approx([0.1] * 6, rel=1e-4)


def test_a_clip_bounds_what_another_transform_made_of_the_gradients() -> None:
    """Keeps P73. Also where the transform returned new tensors, and where somebody read the norm before."""

    def tenfold(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        return [gradient * 10 for gradient in present(gradients)]

    def read(ctx: GradientsReady) -> None:
        assert float(ctx.grad_norm) > 0.01

    before: HookDict = {"transform_gradients": tenfold, "on_after_gradient_update": read}
    assert norms_received(before, clip_grad_norm(0.01)) == pytest.approx([0.01] * 6, rel=1e-4)


def test_a_clip_shares_the_norm_with_whoever_else_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []

    def counting(clip: object, gradients: Gradients) -> Tensor:
        computed.append(len(gradients))
        return get_total_norm(present(gradients))

    monkeypatch.setattr("trainhooks.loop.quick.Clip.norm", counting)
    seen: list[Tensor] = []
    hear: HookDict = {"on_after_gradient_update": lambda ctx: seen.append(ctx.grad_norm)}
    model = linear()
    train(model, batches(6), squares, sgd(model), epochs=1, hooks=[hear, clip_grad_norm(0.5)])
    assert len(seen) == len(computed) == 6


def test_each_optimizers_gradients_are_clipped_on_their_own() -> None:
    norms: dict[int, list[float]] = {0: [], 1: []}

    def measure(ctx: GradientsReady, gradients: Gradients) -> Gradients:
        norms[ctx.optimizer_idx].append(float(get_total_norm(present(gradients))))
        return gradients

    model = nn.ModuleList([linear(0), linear(1)])

    def half(index: int) -> Objective:
        def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
            return squares(model.get_submodule(str(index)), batch)

        return Objective(f"half{index}", step, torch.optim.SGD(model[index].parameters(), 0.1))

    hooks: list[HookSet | HookDict] = [clip_grad_norm(0.5), {"transform_gradients": measure}]
    train(model, batches(4), None, [half(0), half(1)], epochs=1, hooks=hooks)
    assert norms[0] == pytest.approx([0.5] * 4, rel=1e-4)
    assert norms[1] == pytest.approx([0.5] * 4, rel=1e-4)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: clip_grad_norm(0), r"clip_grad_norm takes max_norm as a number above 0, got 0\."),
        (lambda: clip_grad_norm(float("nan")), "clip_grad_norm takes max_norm as a number above 0, got nan"),
        (lambda: clip_grad_norm(1.0, -1), "clip_grad_norm takes norm_type as a number above 0, got -1"),
        (lambda: clip_grad_value(-0.5), r"clip_grad_value takes clip_value as a number above 0, got -0\.5\."),
    ],
)
def test_a_bound_that_bounds_nothing_is_refused(make: Callable[[], HookSet], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        make()


def of_words(model: nn.Module, batch: Batch) -> Tensor:
    """A loss whose gradient of the table is sparse, with a row that comes twice."""
    rows = (batch[0][:, 0].abs() * 3).long().clamp(max=4)
    words: Tensor = model.get_submodule("0")(torch.cat([rows, rows]))
    return words.square().mean() * 40


def table(sparse: bool) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 3, sparse=sparse))


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize(
    "clip",
    [clip_grad_norm(0.5), clip_grad_norm(0.5, 1.0), clip_grad_norm(0.5, math.inf), clip_grad_value(0.1)],
    ids=["norm", "1-norm", "inf-norm", "value"],
)
def test_sparse_gradients_are_clipped_as_dense_ones_are(clip: HookSet, accumulate: int) -> None:
    """With four batches a window the last one is short, and gradients are scaled too."""
    sparse, dense = table(True), table(False)
    for model in (sparse, dense):
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        train(model, batches(6), of_words, optimizer, epochs=1, hooks=clip, accumulate=accumulate)
    torch.testing.assert_close(weights(sparse), weights(dense), rtol=1e-5, atol=1e-6)
    assert not equal(weights(dense), weights(table(False)))


def test_noise_on_a_sparse_gradient_is_refused_by_name() -> None:
    model = table(True)
    with pytest.raises(HookDefinitionError, match=r"the gradient of '0\.weight' is sparse"):
        train(model, batches(1), of_words, torch.optim.SGD(model.parameters(), 0.5), epochs=1, hooks=grad_noise(0.1))


def test_clamping_a_complex_gradient_is_refused_by_name() -> None:
    model = nn.Module()
    model.register_parameter("turn", nn.Parameter(torch.ones(2, dtype=torch.complex64)))

    def size(model: nn.Module, batch: Batch) -> Tensor:
        return model.get_parameter("turn").abs().square().sum()

    with pytest.raises(HookDefinitionError, match=r"the gradient of 'turn' is complex; write clip_grad_norm"):
        train(model, batches(1), size, torch.optim.SGD(model.parameters(), 0.5), epochs=1, hooks=clip_grad_value(0.1))


def test_an_update_with_a_sparse_gradient_that_is_not_finite_is_skipped() -> None:
    model = table(True)

    def spoil(ctx: LossReady, loss: Tensor) -> Tensor:
        return loss * (math.nan if ctx.at.batches == 1 else 1.0)

    hooks = [skip_nonfinite_update(), HookSet(name="spoil", transform_loss=spoil)]
    result = train(model, batches(3), of_words, torch.optim.SGD(model.parameters(), 0.5), epochs=1, hooks=hooks)
    assert result.at.updates == 2
