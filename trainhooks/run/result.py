"""What a run leaves behind."""

from collections.abc import Callable, Generator, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, final

from attrs import frozen
from typing_extensions import TypeVar

from trainhooks.core import (
    BatchPrediction,
    Completed,
    HookTimes,
    Interrupted,
    Metrics,
    Progress,
    Stopped,
    value_of,
)
from trainhooks.errors import shown

if TYPE_CHECKING:
    from trainhooks.checkpoint import Manifest

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)


@final
@frozen(kw_only=True, eq=False, repr=False)
class TrainResult:
    """What a run leaves behind, besides the trained model."""

    end: Completed | Stopped | Interrupted
    """How it ended; a failure is raised instead."""
    at: Progress
    """How far it came."""
    metrics: Metrics
    """The newest value of every name."""
    history: list[dict[str, float]]
    """A row for each complete epoch: `epoch` (from 0), `updates`, and the newest values recorded in it."""
    hook_states: Mapping[str, object]
    """The last state of each stateful hook set, by its name."""
    hook_times: HookTimes
    """How long the sets under `timed` took, by their names; `print(result.hook_times)` shows a table."""
    checkpoints: "tuple[Manifest, ...]" = ()
    """The manifests of the checkpoints that are there at the end, oldest first."""

    def __repr__(self) -> str:
        return (
            f"TrainResult({shown(self.end)}, {self.at.updates} updates in {self.at.epochs} epochs, "
            f"metrics={shown(dict(self.metrics))})"
        )


@final
@frozen(eq=False, repr=False)
class EvaluationResult(Mapping[str, float]):
    """What `evaluate` found: a mapping from names to values.

    Example:
        >>> EvaluationResult({"val/loss": 0.5})["val/loss"]
        0.5
    """

    _metrics: Metrics
    hook_states: Mapping[str, object] = MappingProxyType({})
    """The last state of each stateful hook set, by its name."""

    def __getitem__(self, name: str) -> float:
        return value_of(self._metrics, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)

    def __repr__(self) -> str:
        return repr(dict(self._metrics))


@final
class Predictions(Iterator[BatchPrediction[B, O]]):
    """What `predict` gives: predictions, batch by batch, as it is advanced."""

    def __init__(
        self, predictions: Generator[BatchPrediction[B, O]], hook_states: Callable[[], Mapping[str, object]]
    ) -> None:
        self._predictions, self._hook_states = predictions, hook_states

    def __next__(self) -> BatchPrediction[B, O]:
        return next(self._predictions)

    def close(self) -> None:
        """Predict no further batch."""
        self._predictions.close()

    @property
    def hook_states(self) -> Mapping[str, object]:
        """The state of each stateful hook set as it is now, by its name."""
        return self._hook_states()
