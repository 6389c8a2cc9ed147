"""What some runs left: of `digits/cnn` one that went on from step 4 and one of an epoch, of `text/lm` one.

| run | attempts | checkpoints that count | superseded |
|---|---|---|---|
| `older` | 2, the second from step 4 | 1, 2, 4 | 6 |
| `newer` | 1 | 1, 2, 4, 6 | |
| `other` | 1 | 1, 3 | |
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from attrs import frozen

from tests.loop.programs import linear, sgd, squares
from tests.run.saved import loader, scripted
from trainhooks import Experiment, every, every_seconds, train
from trainhooks.hooks import checkpoint

NEVER = every_seconds(1e9)


@final
@frozen
class Left:
    """A root under which runs are."""

    root: Path

    @property
    def cnn(self) -> Path:
        return self.root / "digits/cnn"

    @property
    def older(self) -> Path:
        return sorted(self.cnn.iterdir())[0]

    @property
    def newer(self) -> Path:
        return sorted(self.cnn.iterdir())[1]

    @property
    def other(self) -> Path:
        (run,) = (self.root / "text/lm").iterdir()
        return run

    def data(self, run: Path, step: int, name: str = "model.safetensors") -> Path:
        """A file of a checkpoint."""
        (found,) = run.glob(f"ckpt/{step:010d}-*/{name}")
        return found


def leave_runs(root: Path) -> None:
    """Train them."""
    cnn = ("digits", "cnn")
    _train(root, cnn, [0.1, 0.5, 0.3, 0.2, 0.4, 0.6], hyperparams={"lr": 0.1})
    _train(root, cnn, [0.4], updates=5, save=NEVER, resume=4, hyperparams={"lr": 0.2})
    _train(root, cnn, [0.5, 0.25, 0.5, float("nan"), 0.5, 0.75], mode="min")
    _train(root, ("text", "lm"), [0.0] * 3, updates=3, every_updates=3, tag="end")


def _train(
    root: Path, names: tuple[str, str], scores: Sequence[float], *, updates: int | None = None, every_updates: int = 2,
    save: Any = None, mode: Any = "max", resume: Any = "never", hyperparams: dict[str, object] | None = None,
    tag: str = "",
) -> None:  # fmt: skip
    """An epoch of 6 updates with a score after each; a checkpoint after every second, and after every better score."""
    model = linear()
    policy = checkpoint(
        when=every(every_updates, "updates") if save is None else save, keep_last=None, tag=tag,
        keep_best=None if save is not None else ("val/score", mode),
    )  # fmt: skip
    train(
        model, loader(), squares, sgd(model), epochs=1, max_updates=updates, hooks=policy,
        evaluations=[scripted(scores)], resume=resume,
        experiment=Experiment(*names, root=root, hyperparams=hyperparams or {}),
    )  # fmt: skip


def files(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def document(printed: str) -> Any:
    """The JSON document that was printed, and nothing else."""
    return json.loads(printed)
