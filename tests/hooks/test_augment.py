"""Batches are mixed by the formulas of the papers, from streams of their own, into new tensors."""

import random
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from tests.loop.programs import equal, sgd, weights
from trainhooks import BatchBegin, HookDict, HookSet, named, supervised, train
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks.augment import cutmix, mixup

Pair: TypeAlias = tuple[Tensor, Tensor]

CLASSES = 5
SEED = 11


def images(count: int, size: int = 6) -> list[Pair]:
    generator = torch.Generator().manual_seed(2)
    return [
        (torch.rand((size, 2, 8, 4), generator=generator), torch.randint(CLASSES, (size,), generator=generator))
        for _ in range(count)
    ]


def flat() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))


def mixed(hook: HookSet[Pair], data: list[Any], seed: int = SEED) -> list[Any]:
    """The batches as the step gets them, with the first generator's seed of each."""
    seen: list[Any] = []

    def note(ctx: BatchBegin, batch: Any) -> Any:
        seen.append((*batch, ctx.generator(hook.name).initial_seed()))
        return batch

    def step(model: nn.Module, batch: Pair) -> Tensor:
        return cast("Tensor", model(batch[0])).sum()

    model = flat()
    train(model, data, step, sgd(model), epochs=1, seed=seed, hooks=[hook, {"transform_batch": note}])
    return seen


def drawn(seed: int, size: int, alpha: float) -> tuple[random.Random, int, float]:
    """The stream of a batch, by how many places it is rolled, and the share that is kept."""
    stream = random.Random(seed)
    stream.random()
    return stream, stream.randrange(1, size), stream.betavariate(alpha, alpha)


def test_mixup_is_the_formula_of_the_paper() -> None:
    data = images(4)
    for (x, y), (mixed_x, mixed_y, seed) in zip(data, mixed(mixup(0.4, num_classes=CLASSES), data), strict=True):
        _, places, share = drawn(seed, 6, 0.4)
        hot = one_hot(y, CLASSES).float()
        others = [(index - places) % 6 for index in range(6)]
        assert torch.equal(mixed_x, share * x + (1 - share) * x[others])
        assert torch.equal(mixed_y, share * hot + (1 - share) * hot[others])
        assert all(other != index for index, other in enumerate(others))


def test_cutmix_pastes_one_box_and_mixes_targets_by_its_area() -> None:
    data = images(40)
    areas: set[float] = set()
    for (x, y), (mixed_x, mixed_y, seed) in zip(data, mixed(cutmix(num_classes=CLASSES), data), strict=True):
        stream, places, share = drawn(seed, 6, 1.0)
        side = (1 - share) ** 0.5
        rows, columns = int(8 * side) // 2, int(4 * side) // 2
        row, column = stream.randrange(8), stream.randrange(4)
        pasted = torch.zeros(8, 4, dtype=torch.bool)
        pasted[max(row - rows, 0) : row + rows, max(column - columns, 0) : column + columns] = True
        assert torch.equal(mixed_x, torch.where(pasted, x.roll(places, 0), x))
        area = float(pasted.float().mean())
        hot = one_hot(y, CLASSES).float()
        assert torch.equal(mixed_y, (1 - area) * hot + area * hot.roll(places, 0))
        areas.add(area)
    assert min(areas) == 0.0
    assert max(areas) > 0.3
    assert len(areas) > 5


HOOKS: list[Callable[..., HookSet[Pair]]] = [mixup, cutmix]


@pytest.mark.parametrize("factory", HOOKS)
def test_targets_are_probabilities_and_the_batch_that_was_given_is_left_alone(factory: Any) -> None:
    data = images(5)
    copies = [(x.clone(), y.clone()) for x, y in data]
    for x, y, _ in mixed(factory(1.0, num_classes=CLASSES), data):
        assert y.shape == (6, CLASSES)
        assert y.dtype is x.dtype is torch.float32
        assert torch.allclose(y.sum(1), torch.ones(6))
    assert all(equal(one, other) for one, other in zip(data, copies, strict=True))
    assert factory(1.0, num_classes=CLASSES).writes == frozenset()


@pytest.mark.parametrize("factory", HOOKS)
def test_a_run_mixes_as_its_seed_says_and_draws_from_no_global_stream(factory: Any) -> None:
    """Keeps P12 and P68."""
    data = images(3)
    hook = factory(1.0, num_classes=CLASSES)
    first, second, other = mixed(hook, data), mixed(hook, data), mixed(hook, data, seed=12)
    assert all(torch.equal(one[0], two[0]) for one, two in zip(first, second, strict=True))
    assert not all(torch.equal(one[0], two[0]) for one, two in zip(first, other, strict=True))
    assert len({seed for _, _, seed in first}) == 3

    states: list[Any] = []

    def note(ctx: Any) -> None:
        states.append((random.getstate(), torch.get_rng_state().tolist(), str(numpy.random.get_state())))

    model = flat()
    listening: HookDict = {"on_batch_begin": note, "on_after_backward": note}
    train(model, data, supervised(cross_entropy), sgd(model), epochs=1, hooks=[listening, hook])
    assert all(one == states[0] for one in states)
    assert len(states) == 6


def test_training_is_bit_equal_to_a_loop_written_by_hand() -> None:
    """Keeps P71."""
    data = images(4)
    hooked, by_hand = flat(), flat()
    hook = mixup(0.4, num_classes=CLASSES)
    train(hooked, data, supervised(cross_entropy), sgd(hooked), epochs=1, seed=SEED, hooks=hook)
    optimizer = sgd(by_hand)
    for (x, y), (_, _, seed) in zip(data, mixed(mixup(0.4, num_classes=CLASSES), data), strict=True):
        _, places, share = drawn(seed, 6, 0.4)
        hot = one_hot(y, CLASSES).float()
        optimizer.zero_grad()
        output = by_hand(share * x + (1 - share) * x.roll(places, 0))
        cross_entropy(output, share * hot + (1 - share) * hot.roll(places, 0)).backward()
        optimizer.step()
    assert equal(weights(hooked), weights(by_hand))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_has_the_mean_and_the_variance_of_beta(alpha: float) -> None:
    zeros, ones = torch.zeros(2, 1), torch.tensor([0, 1])
    batch = (zeros, ones)

    def step(model: nn.Module, pair: Pair) -> Tensor:
        shares.append(pair[1][0, 0])
        return cast("Tensor", model(pair[0])).sum()

    shares: list[Tensor] = []
    model = nn.Linear(1, 1)
    train(model, [batch] * 4000, step, sgd(model), epochs=1, seed=0, hooks=mixup(alpha, num_classes=2))
    found = torch.stack(shares)
    variance = 1 / (4 * (2 * alpha + 1))
    assert float(found.mean()) == pytest.approx(0.5, abs=4 * (variance / 4000) ** 0.5)
    assert float(found.var()) == pytest.approx(variance, rel=0.1)


def test_a_share_of_the_batches_is_mixed_and_all_have_soft_targets() -> None:
    data = images(1) * 400
    batches = mixed(mixup(1.0, num_classes=CLASSES, probability=0.25), data)
    untouched = [torch.equal(x, data[0][0]) for x, _, _ in batches]
    assert 0.68 < sum(untouched) / 400 < 0.82
    hot = one_hot(data[0][1], CLASSES).float()
    assert {y.dtype for _, y, _ in batches} == {torch.float32}
    assert all(torch.equal(y, hot) == same for (_, y, _), same in zip(batches, untouched, strict=True))
    assert all(
        torch.equal(x, data[0][0]) for x, _, _ in mixed(mixup(1.0, num_classes=CLASSES, probability=0.0), data[:9])
    )  # fmt: skip


def test_soft_targets_are_mixed_again_and_a_list_stays_a_list() -> None:
    data: list[Any] = [[x, y] for x, y in images(2)]
    hooks = [mixup(1.0, num_classes=CLASSES), named("then", cutmix(1.0, num_classes=CLASSES))]
    seen: list[Any] = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        seen.append(batch)
        return cross_entropy(model(batch[0]), batch[1])

    model = flat()
    train(model, data, step, sgd(model), epochs=1, hooks=hooks)
    assert all(type(batch) is list for batch in seen)
    assert all(torch.allclose(y.sum(1), torch.ones(6)) for _, y in seen)


def test_an_item_that_is_alone_is_mixed_with_itself() -> None:
    data = images(1, size=1)
    ((x, y, _),) = mixed(cutmix(1.0, num_classes=CLASSES), data)
    assert torch.equal(x, data[0][0])
    assert torch.equal(y, one_hot(data[0][1], CLASSES).float())


def test_it_works_on_a_device_whose_values_cannot_be_read() -> None:
    """Keeps P57, for these hooks: on the meta device any read of a value raises."""
    seen: list[Any] = []

    def note(ctx: BatchBegin, batch: Any) -> Any:
        seen.append(batch)
        return batch

    def step(model: nn.Module, batch: Pair) -> Tensor:
        return cast("Tensor", model(batch[0].cpu() if batch[0].is_cpu else torch.zeros(6, 2, 8, 4))).sum()

    model = flat()
    data = [(x.to("meta"), y.to("meta")) for x, y in images(2)]
    hooks: list[Any] = [mixup(num_classes=CLASSES), cutmix(num_classes=CLASSES), {"transform_batch": note}]
    train(model, data, step, sgd(model), epochs=1, transfer=lambda batch, device: batch, hooks=hooks)
    assert [(x.is_meta, y.is_meta, tuple(y.shape)) for x, y in seen] == [(True, True, (6, CLASSES))] * 2


X, Y = torch.zeros(3, 2, 4, 4), torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        (X, r"cutmix takes batches of pairs of tensors \(x, y\)"),
        ((X, Y, Y), r"cutmix takes batches of pairs of tensors \(x, y\)"),
        ((X.long(), Y), r"mixes inputs of a floating type, got x of torch\.int64"),
        ((X, Y.float()), r"class indices of shape \(n,\) or .* got y of torch\.float32"),
        ((X, Y[:2]), "with as many items as x; got y of"),
        ((X, torch.zeros(3, 4)), r"probabilities of shape \(n, 5\).* shape \(3, 4\)"),
        ((X.flatten(1), Y), r"cutmix takes images of shape .* got x of shape \(3, 32\)"),
    ],
)
def test_batches_that_cannot_be_mixed_are_refused(batch: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        mixed(cutmix(num_classes=CLASSES), [batch])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"alpha": 0.0}, r"mixup takes alpha as a finite number above 0, got 0\.0"),
        ({"alpha": float("nan")}, "got nan"),
        ({"num_classes": 0}, "mixup takes num_classes, how many there are, as a whole number, got 0"),
        ({"probability": 1.5}, r"mixup takes probability as a number from 0 to 1, got 1\.5"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        cast("Any", mixup)(**{"alpha": 1.0, "num_classes": 2, **arguments})
