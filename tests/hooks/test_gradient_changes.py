"""Updates with gradients that are no numbers are skipped, and noise is added, as in a loop written by hand."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

from tests.hooks.reads import Reads
from tests.loop.programs import Batch, batches, equal, gradients, linear, sgd, squares, weights
from trainhooks import GradientsReady, HookDict, HookSet, Objective, OptimizerStepped, Rank, StepOutput, train
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks.gradients import clip_grad_norm, grad_noise, skip_nonfinite_update


def poisoned(places: Mapping[int, float]) -> list[Batch]:
    data = batches(6)
    for place, value in places.items():
        data[place][0][0, 0] = value
    return data


def test_updates_without_finite_gradients_are_skipped_as_in_a_loop_written_by_hand() -> None:
    """Keeps P71."""
    data = poisoned({1: math.nan, 4: math.inf})
    by_hand = linear()
    optimizer = sgd(by_hand)
    for place in (0, 2, 3, 5):
        optimizer.zero_grad()
        squares(by_hand, data[place]).loss.backward()
        optimizer.step()
    model = linear()
    stepped: list[bool] = []

    def note(ctx: OptimizerStepped) -> None:
        stepped.append(ctx.stepped)

    hooks: list[HookSet | HookDict] = [skip_nonfinite_update(), {"on_after_optimizer_step": note}]
    result = train(model, data, squares, sgd(model), epochs=1, hooks=hooks)
    assert equal(weights(model), weights(by_hand))
    assert stepped == [True, False, True, True, False, True]
    assert (result.at.batches, result.at.updates) == (6, 4)


def test_one_batch_makes_the_whole_window_be_skipped() -> None:
    model, other = linear(), linear()
    train(
        model, poisoned({2: math.nan}), squares, sgd(model), epochs=1, accumulate=2, hooks=skip_nonfinite_update()
    )  # fmt: skip
    data = batches(6)
    train(other, data[:2] + data[4:], squares, sgd(other), epochs=1, accumulate=2)
    assert equal(weights(model), weights(other))


def test_each_optimizer_skips_for_its_own_gradients() -> None:
    model, other = nn.ModuleList([linear(0), linear(1)]), linear(0)

    def half(index: int) -> Objective:
        def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
            output = squares(model.get_submodule(str(index)), batch)
            return evolve(output, loss=output.loss * (math.nan if index == 1 else 1.0))

        return Objective(f"half{index}", step, sgd(model[index]))

    before = weights(model[1])
    result = train(model, batches(4), None, [half(0), half(1)], epochs=1, hooks=skip_nonfinite_update())
    train(other, batches(4), squares, sgd(other), epochs=1)
    assert equal(weights(model[0]), weights(other))
    assert equal(weights(model[1]), before)
    assert result.at.updates == 4


def test_the_skip_reads_one_value_an_update_and_shares_the_norm_with_a_clip() -> None:
    """Keeps P57: the one read that its docstring declares."""
    counts: list[int] = []
    for hooks in ([clip_grad_norm(0.5)], [skip_nonfinite_update(), clip_grad_norm(0.5)]):
        model = linear()
        with Reads() as reads:
            train(model, batches(8), squares, sgd(model), epochs=2, accumulate=2, hooks=hooks)
        counts.append(reads.count)
    assert counts[1] == counts[0] + 8


def test_over_ranks_its_skips_are_taken() -> None:
    assert skip_nonfinite_update().may_skip
    assert skip_nonfinite_update().writes == frozenset()


def noise_of(ctx: GradientsReady) -> list[Tensor]:
    """The standard normal noise that belongs to an update."""
    generator = ctx.generator(f"grad_noise/{ctx.optimizer_idx}")
    return [torch.randn(one.shape, generator=generator) for one in ctx.gradients]


@pytest.mark.parametrize("decay", [0.0, 0.55, 2.0])
def test_noise_is_that_of_a_loop_written_by_hand(decay: float) -> None:
    """Keeps P71. Update t, from 0, gets the standard deviation std / (1 + t) ** (decay / 2)."""
    noises: list[list[Tensor]] = []
    hear: HookDict = {"on_after_gradient_update": lambda ctx: noises.append(noise_of(ctx))}
    model = linear()
    train(model, batches(3), squares, sgd(model), epochs=2, seed=7, hooks=[hear, grad_noise(0.3, decay=decay)])
    by_hand = linear()
    optimizer = sgd(by_hand)
    for t, batch in enumerate(batches(3) + batches(3)):
        optimizer.zero_grad()
        squares(by_hand, batch).loss.backward()
        for gradient, noise in zip(gradients(by_hand.parameters()), noises[t], strict=True):
            gradient.add_(noise, alpha=0.3 / (1 + t) ** (decay / 2))
        optimizer.step()
    assert equal(weights(model), weights(by_hand))
    assert len({one[0].sum().item() for one in noises}) == 6


def received(seed: int | None, hook: HookSet) -> list[Tensor]:
    """The gradients after a hook in the first update of a model whose gradients are zeros, many of them."""
    model = nn.Linear(400, 500)
    kept: list[Tensor] = []

    def keep(ctx: OptimizerStepped) -> None:
        kept.extend(one.clone() for one in gradients(ctx.run.model.parameters()))

    def nothing(model: nn.Module, batch: Tensor) -> Tensor:
        return torch.stack([one.sum() * 0.0 for one in model.parameters()]).sum()

    hooks: list[HookSet | HookDict] = [hook, {"on_after_optimizer_step": keep}]
    train(model, [torch.zeros(1)], nothing, sgd(model), max_updates=1, seed=seed, hooks=hooks)
    return kept


def test_noise_is_gaussian_of_the_given_standard_deviation() -> None:
    large = received(0, grad_noise(0.25))[0]
    std, mean = torch.std_mean(large)
    assert large.shape == (500, 400)
    assert float(std) == pytest.approx(0.25, rel=0.005)
    assert float(mean) == pytest.approx(0.0, abs=0.002)
    assert float((large.abs() < 0.25).float().mean()) == pytest.approx(0.6827, abs=0.004)
    assert float((large.abs() < 0.75).float().mean()) == pytest.approx(0.9973, abs=0.001)


def test_noise_depends_on_the_seed_alone_and_leaves_the_global_streams_as_they_are() -> None:
    """Keeps P08, for the random streams."""
    one, same, other = (received(seed, grad_noise(0.25)) for seed in (1, 1, 2))
    assert equal(one, same)
    assert not torch.equal(one[0], other[0])
    model = linear()
    before = torch.get_rng_state()
    train(model, batches(3), squares, sgd(model), epochs=1, hooks=grad_noise(0.25))
    assert torch.equal(torch.get_rng_state(), before)


def test_optimizers_get_noise_of_their_own_and_ranks_get_the_same() -> None:
    contexts: list[GradientsReady] = []
    hear: HookDict = {"on_after_gradient_update": contexts.append}
    model = linear()
    train(model, batches(1), squares, sgd(model), epochs=1, hooks=hear)
    ready = contexts[0]
    ((_, (transform,)),) = grad_noise(1.0).slots

    def noise(ctx: GradientsReady) -> list[Tensor]:
        assert callable(transform)
        return list(transform(ctx, [torch.zeros_like(one) for one in ctx.gradients]))

    assert not torch.equal(noise(ready)[0], torch.zeros(2, 3))
    assert not torch.equal(noise(ready)[0], noise(evolve(ready, optimizer_idx=1))[0])
    for index in (1, 2):
        rank = Rank(index=index, world=3, local_index=index, local_world=3)
        assert equal(noise(ready), noise(evolve(ready, run=evolve(ready.run, rank=rank))))


def test_what_noise_changes_is_declared_and_read_nowhere() -> None:
    """Keeps P57."""
    assert grad_noise(0.1).writes == {"gradients"}
    counts: list[int] = []
    for hooks in ([], [grad_noise(0.1, decay=0.55)]):
        model = linear()
        with Reads() as reads:
            train(model, batches(8), squares, sgd(model), epochs=1, hooks=hooks)
        counts.append(reads.count)
    assert counts[1] == counts[0]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: grad_noise(0), r"grad_noise takes std as a number above 0, got 0\."),
        (lambda: grad_noise(math.inf), "grad_noise takes std as a finite number from 0 on, got inf"),
        (lambda: grad_noise(0.1, decay=-1), "grad_noise takes decay as a finite number from 0 on, got -1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        make()
