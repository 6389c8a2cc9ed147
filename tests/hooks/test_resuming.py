"""Every hook that ships goes on after a resume as if nothing had happened."""

import warnings
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.hooks.cases import CASES, Batch, Case, network, plain
from tests.loop.programs import equal, weights
from trainhooks import Evaluation, Experiment, Hooks, TrainResult, at_points, named, supervised, train
from trainhooks.data import SeededLoader, seeded_loader
from trainhooks.hooks import checkpoint

STOP = 7
UPDATES = 12


def pictures(seed: int) -> SeededLoader[Batch]:
    generator = torch.Generator().manual_seed(1)
    samples = [(torch.randn(1, 4, 4, generator=generator), torch.tensor(one % 3)) for one in range(30)]
    return seeded_loader(samples, batch_size=6, seed=seed)


def run(hooks: Hooks[Any, Any], model: nn.Module, updates: int, folder: Path, resume: Any = "never") -> TrainResult:
    """So many updates, five an epoch, with a checkpoint after the second of the second epoch."""
    saver = named("saver", checkpoint(when=at_points([STOP], "updates")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return train(
            model, pictures(3), supervised(F.cross_entropy), torch.optim.SGD(model.parameters(), 0.1, momentum=0.5),
            max_updates=updates, hooks=[hooks, saver], seed=7, evaluations=[Evaluation("val", pictures(4))],
            experiment=Experiment(project="laws", name="resume", root=folder / "runs"), resume=resume,
        )  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_interrupted_run_of_it_is_the_uninterrupted_one(case: Case, tmp_path: Path) -> None:
    """Keeps P17."""
    one, other, unused = network(), network(), network()
    whole = run(case.make(tmp_path / "one" / "files"), one, UPDATES, tmp_path / "one")
    run(case.make(tmp_path / "other" / "files"), unused, STOP, tmp_path / "other")
    torch.manual_seed(99)
    resumed = run(case.make(tmp_path / "other" / "files"), other, UPDATES, tmp_path / "other", "must")
    assert equal(weights(one), weights(other))
    if case.repeats:
        states = [cast("Any", plain(result.hook_states)) for result in (whole, resumed)]
        assert states[0] == states[1]
        assert plain([whole.metrics, whole.history]) == plain([resumed.metrics, resumed.history])
        assert files(tmp_path / "one" / "files") == files(tmp_path / "other" / "files")


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.suffix == ".csv"}
