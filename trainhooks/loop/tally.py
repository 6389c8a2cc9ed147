"""The means and metrics of one evaluation while its data goes by."""

from typing import Any, final

from attrs import define, field
from torch import Tensor

from trainhooks.core import StepOutput, name_of
from trainhooks.errors import HookDefinitionError, RunDefinitionError

from .means import Mean
from .requests import DueEvaluation


@final
@define(eq=False)
class Tally:
    """The means and metrics of one evaluation while its data goes by."""

    evaluation: DueEvaluation
    loss: Mean = field(factory=Mean)
    means: dict[str, Mean] = field(factory=dict[str, Mean])
    batches: int = 0

    def __attrs_post_init__(self) -> None:
        for metric in self.evaluation.metrics.values():
            if keeps_count(metric):
                metric.reset()

    def add(self, output: StepOutput[Any]) -> None:
        """Take in what the step said of a batch."""
        self.batches += 1
        self.loss.add(output.loss.detach(), output.weight)
        for name, metric in self.evaluation.metrics.items():
            if output.output is None:
                raise HookDefinitionError(
                    f"The evaluation {self.evaluation.name!r} has metrics, but its step "
                    f"{name_of(self.evaluation.step)!r} returned no output; return StepOutput(loss, weight, output, "
                    "target)."
                )
            if keeps_count(metric):
                metric.update(output.output, output.target)
            else:
                value = scalar(name, metric(output.output, output.target))
                self.means.setdefault(name, Mean()).add(value, output.weight)

    def read(self) -> dict[str, float]:
        """The values under their full names; reads the device."""
        name = self.evaluation.name
        if not self.batches:
            raise RunDefinitionError(f"The data of the evaluation {name!r} gave no batch.")
        found = {f"{name}/loss": self.loss.read()}
        for key, metric in self.evaluation.metrics.items():
            value = scalar(key, metric.compute()) if keeps_count(metric) else self.means[key].read()
            found[f"{name}/{key}"] = float(value)
        return found


def keeps_count(metric: object) -> bool:
    """Whether a metric is an object with torchmetrics' shape rather than a function."""
    return all(callable(getattr(metric, method, None)) for method in ("update", "compute", "reset"))


def scalar(name: str, value: object) -> float | Tensor:
    """A metric's value, if it is one number."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.detach().reshape(())
    if isinstance(value, int | float):
        return value
    raise HookDefinitionError(f"The metric {name!r} gave {value!r}; a metric gives a number or a 0-d tensor.")
