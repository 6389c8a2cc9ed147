"""The means and metrics of one evaluation while its data goes by."""

from typing import Any, final

from attrs import define, field

from trainhooks.core import StepOutput, name_of
from trainhooks.distributed import Ranks
from trainhooks.errors import HookDefinitionError, RunDefinitionError

from .means import Mean, means_of, terms_of
from .metrics import computed, keeps_count, scalar
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
                    f"{name_of(self.evaluation.step)!r} returned no output; return StepOutput(loss, output=..., "
                    "target=...)."
                )
            if keeps_count(metric):
                metric.update(output.output, output.target)
            else:
                value = scalar(name, metric(output.output, output.target))
                self.means.setdefault(name, Mean()).add(value, output.weight)

    def read(self, ranks: Ranks | None) -> dict[str, float]:
        """The values under their full names, over all ranks; every rank calls it. Reads the device.

        Raises:
            RunDefinitionError: if no rank had a batch.
        """
        name, metrics = self.evaluation.name, self.evaluation.metrics
        own = (self.batches, terms_of({"loss": self.loss, **{f"/{key}": mean for key, mean in self.means.items()}}))
        found = [own] if ranks is None else ranks.gather(own)
        batches = [count for count, _ in found]
        if not any(batches):
            raise RunDefinitionError(f"The data of the evaluation {name!r} gave no batch.")
        means = means_of([terms for _, terms in found])
        values = {f"{name}/loss": means["loss"]}
        for key, metric in metrics.items():
            counted = keeps_count(metric)
            value = scalar(key, computed(metric, ranks, batches)) if counted else means[f"/{key}"]
            values[f"{name}/{key}"] = float(value)
        return values
