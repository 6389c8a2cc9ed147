"""Frozen parameters stay as they are until the count is reached, and are trainable again when the run is over."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from tests.hooks.windows import skips_update
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import BatchEnd, HookDict, HookSet, LossReady, TrainBegin, named, train
from trainhooks.errors import HookDefinitionError, RunDefinitionError
from trainhooks.hooks.freezing import Frozen, freeze


def seeded() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(linear(), nn.Linear(2, 2), nn.BatchNorm1d(2))


def decaying(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), 0.01, weight_decay=0.1)


def trainable(model: nn.Module) -> set[str]:
    return {name for name, one in model.named_parameters() if one.requires_grad}


ALL = {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize("make_optimizer", [sgd, decaying])
@pytest.mark.parametrize(
    ("hook", "prefixes", "until"),
    [
        (freeze("0.*", until=3), ("0.",), 3),
        (freeze("0.*", "1.bias", until=1), ("0.", "1.bias"), 1),
        (freeze("*.bias"), ("0.bias", "1.bias", "2.bias"), 99),
        (freeze("[12].*", until=6), ("1.", "2."), 6),
    ],
)
def test_freezing_is_bit_equal_to_a_loop_written_by_hand(
    hook: HookSet, prefixes: tuple[str, ...], until: int, make_optimizer: Callable[[nn.Module], Optimizer]
) -> None:
    """Keeps P71."""
    by_hand = seeded()
    optimizer = make_optimizer(by_hand)
    kept = [one for name, one in by_hand.named_parameters() if name.startswith(prefixes)]
    for one in kept:
        one.requires_grad_(False)
    before = [one.clone() for one in kept]
    for update, batch in enumerate(batches(6)):
        if update == until:
            assert equal(kept, before)
            for one in kept:
                one.requires_grad_(True)
        optimizer.zero_grad()
        squares(by_hand, batch).loss.backward()
        optimizer.step()
    model = seeded()
    train(model, batches(6), squares, make_optimizer(model), epochs=1, hooks=hook)
    assert equal(weights(model), weights(by_hand))
    assert trainable(model) == ALL


def trainable_at_each_batch(*hooks: HookSet | HookDict, accumulate: int = 1, batch_count: int = 5) -> list[set[str]]:
    """What can be trained at each batch's loss."""
    seen: list[set[str]] = []
    model = seeded()

    def note(ctx: LossReady, loss: Tensor) -> Tensor:
        seen.append(trainable(model))
        return loss

    hooks = (*hooks, {"transform_loss": note})
    train(model, batches(batch_count), squares, sgd(model), epochs=1, accumulate=accumulate, hooks=hooks)
    assert trainable(model) == ALL
    return seen


def test_the_update_after_so_many_is_the_first_that_changes_them() -> None:
    held = ALL - {"0.weight", "0.bias"}
    assert trainable_at_each_batch(freeze("0.*", until=2)) == [held, held, ALL, ALL, ALL]
    assert trainable_at_each_batch(freeze("0.*", until=1), accumulate=2) == [held, held, ALL, ALL, ALL]
    assert trainable_at_each_batch(freeze("0.*", until=9)) == [held] * 5
    assert trainable_at_each_batch(freeze("0.*")) == [held] * 5


def test_an_update_that_was_skipped_does_not_count() -> None:
    held = ALL - {"0.weight", "0.bias"}
    seen = trainable_at_each_batch(freeze("0.*", until=2), skips_update(1))
    assert seen == [held, held, held, ALL, ALL]


def test_of_two_sets_that_match_one_parameter_the_first_to_let_go_decides() -> None:
    seen = trainable_at_each_batch(freeze("0.*", until=3), named("other", freeze("0.bias", "1.bias", until=1)))
    start = ALL - {"0.weight", "0.bias", "1.bias"}
    assert seen == [start, ALL - {"0.weight"}, ALL - {"0.weight"}, ALL, ALL]


def test_they_are_frozen_before_others_hear_that_training_begins() -> None:
    seen: list[set[str]] = []
    model = seeded()

    def note(ctx: TrainBegin) -> None:
        seen.append(trainable(ctx.run.model))

    hooks: list[HookSet | HookDict] = [{"on_train_begin": note}, freeze("[01].*")]
    train(model, batches(1), squares, sgd(model), epochs=1, hooks=hooks)
    assert seen == [{"2.weight", "2.bias"}]


def test_what_was_frozen_before_the_run_stays_frozen() -> None:
    model = seeded()
    model[0].requires_grad_(False)
    before = weights(model[0])
    result = train(model, batches(4), squares, sgd(model), epochs=1, hooks=freeze("0.*", "1.*", until=2))
    assert trainable(model) == ALL - {"0.weight", "0.bias"}
    assert equal(weights(model[0]), before)
    assert result.hook_states["freeze"] == Frozen()


def test_after_a_run_that_failed_the_parameters_are_trainable_again() -> None:
    def fail(ctx: BatchEnd) -> None:
        assert trainable(ctx.run.model) == ALL - {"0.weight", "0.bias"}
        raise ValueError("broken")

    model = seeded()
    with pytest.raises(ValueError, match="broken"):
        train(model, batches(4), squares, sgd(model), epochs=1, hooks=[freeze("0.*"), {"on_batch_end": fail}])
    assert trainable(model) == ALL


def test_a_set_of_hooks_is_as_new_in_a_second_run() -> None:
    """Keeps P12."""
    hook = freeze("0.*", until=2)
    ends: list[list[Tensor]] = []
    for _ in range(2):
        model = seeded()
        train(model, batches(4), squares, sgd(model), epochs=1, hooks=hook)
        ends.append(weights(model))
    assert equal(*ends)


def test_the_state_says_what_is_frozen() -> None:
    model = seeded()
    result = train(model, batches(1), squares, sgd(model), epochs=1, hooks=freeze("1.*", until=2))
    assert result.hook_states["freeze"] == Frozen(names=("1.weight", "1.bias"))
    assert freeze("1.*").writes == {"requires_grad"}


@pytest.mark.parametrize("pattern", ["encoder.*", "0.WEIGHT", "0"])
def test_a_pattern_that_matches_nothing_is_refused_with_the_names_that_exist(pattern: str) -> None:
    model = seeded()
    sentence = r"matches no parameter of the model; its names: 0\.weight, 0\.bias, 1\.weight, 1\.bias, 2\.weight, 2\.b"
    with pytest.raises(RunDefinitionError, match=sentence):
        train(model, batches(1), squares, sgd(model), epochs=1, hooks=freeze("1.*", pattern))
    assert trainable(model) == ALL
    assert equal(weights(model), weights(seeded()))


def test_of_many_names_the_first_ten_are_shown() -> None:
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(6)), nn.Linear(3, 2))
    with pytest.raises(RunDefinitionError, match=r"its names: 0\.weight, .*, 4\.weight, 4\.bias and 4 more\."):
        train(model, batches(1), squares, sgd(model), epochs=1, hooks=freeze("head.*"))


@pytest.mark.parametrize(
    ("patterns", "until", "sentence"),
    [
        ((), None, r"freeze takes patterns of parameter names as strings, one or more, got \(\)\."),
        ((["0.*"],), None, r"freeze takes patterns of parameter names as strings, one or more, got \(\['0\.\*'\],\)\."),
        (("",), None, r"freeze takes patterns of parameter names as strings, one or more, got \('',\)\."),
        (("0.*",), 0, r"freeze takes until as a whole number from 1 on, got 0\."),
    ],
)
def test_arguments_that_make_no_sense_are_refused(patterns: Any, until: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        freeze(*patterns, until=until)
