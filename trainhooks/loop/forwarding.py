"""Calling a step, in the precision of the run."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from trainhooks.core import Step, StepOutput, name_of
from trainhooks.errors import HookDefinitionError

Forward: TypeAlias = Callable[[Step[Any, Any], nn.Module, Any], StepOutput[Any]]
"""`forward(step, model, batch)`: what a step says of a batch."""

AUTOCAST: Final[Mapping[str, torch.dtype]] = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}
"""What autocast computes in where it can, for each precision but "float32"."""


def forward(step: Step[Any, Any], model: nn.Module, batch: Any) -> StepOutput[Any]:
    """What a step says of a batch.

    Raises:
        HookDefinitionError: if the step returns neither a tensor nor a `StepOutput`.
    """
    output = step(model, batch)
    if type(output) is StepOutput:
        return output
    if isinstance(output, Tensor):
        return StepOutput(output)
    raise HookDefinitionError(
        f"A step returns a scalar tensor (the loss) or a StepOutput, but {name_of(step)!r} returned {output!r}."
    )


def forward_in(precision: str, device: torch.device) -> Forward:
    """How steps are called in a precision, in training and in evaluations alike."""
    dtype = AUTOCAST.get(precision)
    if dtype is None:
        return forward

    def forward_under_autocast(step: Step[Any, Any], model: nn.Module, batch: Any) -> StepOutput[Any]:
        with torch.autocast(device.type, dtype):
            return forward(step, model, batch)

    return forward_under_autocast
