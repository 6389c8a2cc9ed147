"""Models with parameters and buffers, and what a run has averaged."""

from torch import Tensor, nn

from tests.loop.programs import linear
from trainhooks import TrainResult
from trainhooks.hooks.weights import Average


def with_buffers() -> nn.Module:
    return nn.Sequential(linear(), nn.BatchNorm1d(2))


def everything(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [one.detach().clone() for one in (*model.parameters(), *model.buffers())]


def average_of(result: TrainResult, name: str) -> Average:
    average = result.hook_states[name]
    assert isinstance(average, Average)
    return average
