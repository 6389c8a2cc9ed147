"""Whole runs whose experiments are in buckets, as users name them; the servers are stand-ins on this machine."""

from typing import Any, Literal

import pytest

from tests.loop.programs import linear, sgd, squares
from tests.run.saved import loader, state_of, steps
from trainhooks import (
    CloudDestination,
    Experiment,
    Registration,
    StorageError,
    StorageModeError,
    TrainResult,
    every,
    load_weights,
    train,
)
from trainhooks.hooks import checkpoint
from trainhooks.store import open_store

pytestmark = pytest.mark.server
HOOKS = checkpoint(when=every(2, "updates"), keep_last=2)


def run(experiment: Experiment, updates: int, resume: Any = "never", more: Any = ()) -> tuple[TrainResult, Any]:
    model = linear()
    result = train(
        model, loader(), squares, sgd(model), max_updates=updates, hooks=[HOOKS, more], experiment=experiment,
        resume=resume, seed=1,
    )  # fmt: skip
    return result, state_of(model)


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
@pytest.mark.parametrize("spelling", ["first", "second"])
def test_a_run_in_a_bucket_is_saved_loaded_and_gone_on_with(
    kind: Literal["s3", "gcs", "azure"], spelling: str, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    mode = {"s3": "AWS", "gcs": "google storage", "azure": "Azure"}[kind] if spelling == "second" else kind
    bucket: str = request.getfixturevalue(kind)
    cloud = CloudDestination(mode=mode, bucket=bucket, prefix="some/prefix")
    experiment = Experiment(project="tests", name="cloud", root=tmp_path / "unused", cloud=cloud)
    _, expected = run(Experiment(project="tests", name="local", root=tmp_path / "local"), 9)
    first, _ = run(experiment, 4)
    assert steps(first) == [2, 4]
    resumed, weights = run(experiment, 9, "must")
    assert weights == expected
    assert steps(resumed) == [6, 8]
    model = linear(seed=5)
    assert load_weights(model, experiment).step == 8
    assert not (tmp_path / "unused").exists()
    scheme = {"s3": "s3", "gcs": "gs", "azure": "az"}[kind]
    keys = [one.key for one in open_store(f"{scheme}://{bucket}/some/prefix").list()]
    assert all(key.startswith("tests/cloud/") for key in keys)
    assert sum("/manifests/" in key for key in keys) == 2


def refused(cloud: CloudDestination, match: str, kind: str) -> None:
    begun = list[object]()

    def note(ctx: Registration) -> None:
        begun.append(ctx)

    with pytest.raises(StorageError, match=match) as caught:
        run(Experiment(project="tests", name="cloud", cloud=cloud), 4, more={"on_train_loop_registration": note})
    assert caught.value.kind == kind
    assert begun == []


def test_a_bucket_that_is_not_there_is_refused_before_anything_moves(s3: str) -> None:
    """Keeps P69."""
    refused(CloudDestination(mode="s3", bucket="no-such-bucket"), "no-such-bucket", "bucket")


def test_a_mode_that_there_is_not_is_refused_when_it_is_written() -> None:
    with pytest.raises(StorageModeError, match=r"'s3'.*'gcs'.*'azure'.*'local'"):
        CloudDestination(mode="s4", bucket="results")
