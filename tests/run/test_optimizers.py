"""Each optimizer steps parameters of its own, and of the model."""

import pytest
import torch
from torch import nn

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
