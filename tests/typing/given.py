"""What the programs of this folder train: a model, batches, a step and an optimizer."""

from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from trainhooks import StepOutput

Batch: TypeAlias = tuple[Tensor, Tensor]
Other: TypeAlias = dict[str, Tensor]

model = nn.Linear(3, 2)
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
data: list[Batch] = [(torch.zeros(4, 3), torch.zeros(4, 2))]


def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    x, y = batch
    output = cast("Tensor", model(x))
    return StepOutput(nn.functional.mse_loss(output, y), weight=float(len(y)), output=output, target=y)
