"""What a run leaves behind."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from attrs import frozen

from trainhooks.core import Completed, HookTimes, Interrupted, Metrics, Progress, Stopped

if TYPE_CHECKING:
    from trainhooks.checkpoint import Manifest


@final
@frozen(kw_only=True, eq=False)
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
