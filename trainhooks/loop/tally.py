"""The means and metrics of one evaluation while its data goes by."""

import warnings
from typing import Any, final

from attrs import define, field

from trainhooks.core import StepOutput, name_of
from trainhooks.distributed import Ranks
from trainhooks.errors import HookDefinitionError, RunDefinitionError, shown

from .around import say_in
from .forwarding import check_value_name
from .means import Mean, means_of, terms_of
from .metrics import computed, keeps_count, numbers_in
from .requests import DueEvaluation


@final
@define(eq=False)
class Tally:
    """The means and metrics of one evaluation while its data goes by."""

    evaluation: DueEvaluation
    means: dict[str, Mean] = field(factory=lambda: {"loss": Mean()})
    """Of the loss, the step's values, and the metrics that are functions, by name."""
    sources: dict[str, str] = field(factory=dict[str, str])
    """What gives each name, in words."""
    batches: int = 0

    def __attrs_post_init__(self) -> None:
        for metric in self.evaluation.metrics.values():
            if keeps_count(metric):
                metric.reset()

    def add(self, output: StepOutput[Any]) -> None:
        """Take in what the step said of a batch."""
        self.batches += 1
        weight = output.weight
        self.means["loss"].add(output.loss.detach(), weight)
        for name, value in output.values.items():
            self._mean_of(name, "its step").take(value, weight)
        for name, metric in self.evaluation.metrics.items():
            if output.output is None:
                raise HookDefinitionError(
                    f"The evaluation {self.evaluation.name!r} has metrics, but its step "
                    f"{name_of(self.evaluation.step)!r} returned no output; return StepOutput(loss, output=..., "
                    "target=...)."
                )
            try:
                value = (metric.update if keeps_count(metric) else metric)(output.output, output.target)
            except Exception as error:
                say_in(error, f"the metric {name!r}")
                raise
            if not keeps_count(metric):
                for key, number in self._numbers(name, value).items():
                    self._mean_of(key, f"its metric {name!r}").add(number, weight)

    def _mean_of(self, name: str, source: str) -> Mean:
        if self.sources.get(name) != source:
            self._claim(name, source)
            self.means[name] = Mean()
        return self.means[name]

    def _claim(self, name: str, source: str) -> None:
        """Refuse a name that something else gives.

        Raises:
            HookDefinitionError: if it is that of the loss.
            RunDefinitionError: if it is that of a value or a metric.
        """
        evaluation = self.evaluation
        check_value_name(evaluation.step, name, evaluation.name)
        first = self.sources.setdefault(name, source)
        if first != source:
            raise RunDefinitionError(
                f"In the evaluation {evaluation.name!r} both {first} and {source} give a value named {name!r}; "
                f"{evaluation.name}/{name} has one source. Rename one."
            )

    def _numbers(self, name: str, value: object) -> dict[str, Any]:
        return numbers_in(name, value, self._leave_out)

    def _leave_out(self, name: str, value: object) -> None:
        evaluation = self.evaluation
        if name not in evaluation.left_out:
            evaluation.left_out.add(name)
            warnings.warn(
                f"The metric {name!r} of the evaluation {evaluation.name!r} gave more than a vector of numbers, "
                f"{shown(value)}; it is not recorded.",
                RuntimeWarning,
                stacklevel=2,
            )

    def read(self, ranks: Ranks | None) -> dict[str, float | None]:
        """The values under their full names, over all ranks, None over no items; every rank calls it. Reads the device.

        Raises:
            RunDefinitionError: if no rank had a batch, or two sources give one name.
        """
        own = (self.batches, terms_of(self.means))
        found = [own] if ranks is None else ranks.gather(own)
        batches = [count for count, _ in found]
        if not any(batches):
            raise RunDefinitionError(f"The data of the evaluation {self.evaluation.name!r} gave no batch.")
        values = means_of([terms for _, terms in found])
        for name, metric in self.evaluation.metrics.items():
            if keeps_count(metric):
                for key, number in self._numbers(name, computed(metric, ranks, batches)).items():
                    self._claim(key, f"its metric {name!r}")
                    values[key] = float(number)
        return {f"{self.evaluation.name}/{name}": value for name, value in values.items()}
