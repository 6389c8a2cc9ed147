"""Each optimizer steps parameters of its own, and of the model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from tests.loop.programs import batches, equal, linear, mean_loss, squares, weights
from trainhooks import Objective, RunDefinitionError, train


def test_a_parameter_of_two_optimizers_is_refused_by_its_name_before_the_first_batch() -> None:
    model = linear()
    objectives = [
        Objective("all", mean_loss, torch.optim.SGD(model.parameters(), 0.1)),
        Objective("bias", mean_loss, torch.optim.SGD([model.bias], 0.1)),
    ]
    sentence = "The optimizers of 'all' and 'bias' both have the parameter 'bias'; give each its own. Several losses"
    with pytest.raises(RunDefinitionError, match=sentence):
        train(model, batches(1), None, objectives, epochs=1)
    assert equal(weights(model), weights(linear()))


def test_parameters_that_are_not_the_models_are_warned_of_and_trained() -> None:
    model, extra = linear(), nn.Parameter(torch.ones(2))

    def step(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return squares(model, batch).loss + extra.square().sum()

    optimizer = torch.optim.SGD([*model.parameters(), extra], 0.1)
    with pytest.warns(
        RuntimeWarning, match=r"The SGD of 'loss' has parameters that are not the model's, of shapes \(2,\)"
    ):
        train(model, batches(1), step, optimizer, epochs=1)
    assert extra.tolist() == pytest.approx([0.8, 0.8])


def test_an_optimizer_may_hold_a_parameter_in_two_of_its_models_names() -> None:
    """Tied weights are one parameter."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    model[1].weight = model[0].weight
    result = train(model, batches(2), mean_loss, torch.optim.SGD(model.parameters(), 0.1), epochs=1)
    assert result.at.updates == 2


class Asserts(SGD):
    """As the best known implementation of SAM has it, and most that were made after it."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        assert closure is not None, "Sharpness Aware Minimization requires closure, but it was not provided"
        closure = torch.enable_grad()(closure)


class Truth(SGD):
    def step(self, closure: Any = None) -> Any:
        if not closure:
            raise RuntimeError("a closure, please")


class Raises(SGD):
    def step(self, closure: Any = None) -> Any:
        """As in pytorch_optimizer."""
        if closure is None:
            raise ValueError(f"{type(self).__name__} needs a closure")


class Required(SGD):
    def step(self, closure: Any) -> Any:  # type: ignore[override]
        closure()


class MayHave(SGD):
    def step(self, closure: Any = None) -> Any:
        if closure is None:
            assert self.param_groups
        super().step()


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, Asserts, Truth, Raises, Required])
@pytest.mark.parametrize("made_late", [False, True])
def test_an_optimizer_that_insists_on_a_closure_is_refused_before_the_first_batch(
    kind: Callable[..., Optimizer], made_late: bool
) -> None:
    model = linear()

    def make(model: nn.Module) -> Optimizer:
        return kind(model.parameters(), 0.1)

    optimizer = make if made_late else make(model)
    with pytest.raises(RunDefinitionError, match=r"by a closure, .* use an optimizer whose step\(\) needs no closure"):
        train(model, batches(1), mean_loss, optimizer, epochs=1)
    assert equal(weights(model), weights(linear()))


def test_an_optimizer_that_takes_a_closure_and_does_without_trains() -> None:
    ours, theirs = linear(), linear()
    train(ours, batches(2), mean_loss, MayHave(ours.parameters(), 0.1), epochs=1)
    train(theirs, batches(2), mean_loss, SGD(theirs.parameters(), 0.1), epochs=1)
    assert equal(weights(ours), weights(theirs))
