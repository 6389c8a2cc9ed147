"""The seed's rules of where results go, against a direct oracle, and what an experiment and a cloud may be."""

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainhooks.errors import NoExperimentError, RunDefinitionError, StorageModeError, TrainhooksError
from trainhooks.store import CloudDestination, Destination, Experiment, PartialDestination, resolve_destination

MODES: dict[str, list[str | None]] = {
    "s3": ["s3", "aws_s3", "aws", "S3", "AWS_S3", "Aws"],
    "gcs": ["gcs", "google_storage", "google storage", "GCS", "Google_Storage", "Google Storage"],
    "azure": ["azure", "Azure", "AZURE"],
    "local": ["local", "Local", None],
}

words = st.text("abc", min_size=1, max_size=2)
clouds = st.builds(CloudDestination, mode=st.sampled_from(["s3", "gcs", "azure", "local"]), bucket=words, prefix=words)
experiments = st.builds(Experiment, project=words, name=words, root=words, cloud=st.none() | clouds)
partial_destinations = st.builds(
    PartialDestination,
    project=st.none() | words,
    name=st.none() | words,
    root=st.none() | words,
    cloud=st.none() | clouds,
)


def the_seed(own: PartialDestination, experiment: Experiment | None, infer_cloud: bool) -> Destination | None:
    """The rules one by one, in the seed's order, on a plain dict; None for its AttributeError."""
    details: dict[str, object] = {"project": own.project, "name": own.name, "root": own.root, "cloud": own.cloud}
    for detail in ("project", "name", "root"):
        if details[detail] is None:
            if experiment is None:
                return None
            details[detail] = getattr(experiment, detail)
    if infer_cloud and details["cloud"] is None:
        if experiment is None:
            return None
        details["cloud"] = experiment.cloud
    return Destination(**details)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # from one dict


@given(partial_destinations, st.none() | experiments, st.booleans())
def test_a_destination_is_resolved_as_the_seed_did(
    own: PartialDestination, experiment: Experiment | None, infer_cloud: bool
) -> None:
    expected = the_seed(own, experiment, infer_cloud)
    if expected is None:
        with pytest.raises(NoExperimentError):
            resolve_destination(own, experiment, infer_cloud=infer_cloud)
    else:
        assert resolve_destination(own, experiment, infer_cloud=infer_cloud) == expected


RUN = Experiment(project="digits", name="cnn", root="results", cloud=CloudDestination("s3", "bucket", "models"))


def test_each_local_detail_is_taken_alone() -> None:
    assert resolve_destination(PartialDestination(name="plots"), RUN, infer_cloud=False) == Destination(
        project="digits", name="plots", root="results", cloud=None
    )


def test_the_details_of_a_cloud_are_taken_together() -> None:
    mine = CloudDestination(mode="gcs", bucket="mine")
    assert resolve_destination(PartialDestination(), RUN, infer_cloud=True).cloud == RUN.cloud
    assert resolve_destination(PartialDestination(cloud=mine), RUN, infer_cloud=True).cloud == mine
    assert resolve_destination(PartialDestination(cloud=mine), RUN, infer_cloud=False).cloud == mine
    assert resolve_destination(PartialDestination(), RUN, infer_cloud=False).cloud is None


def test_a_hook_may_keep_its_results_off_the_cloud_of_its_run() -> None:
    local = CloudDestination(mode="local")
    assert resolve_destination(PartialDestination(cloud=local), RUN, infer_cloud=True).cloud == local


def test_all_details_given_need_no_experiment() -> None:
    own = PartialDestination(project="p", name="n", root="r", cloud=CloudDestination(mode="local"))
    expected = Destination(project="p", name="n", root="r", cloud=CloudDestination(mode=None))
    assert resolve_destination(own, None, infer_cloud=True) == expected


def test_what_cannot_be_taken_is_named() -> None:
    with pytest.raises(NoExperimentError) as raised:
        resolve_destination(PartialDestination(name="plots"), None, infer_cloud=True)
    assert str(raised.value) == (
        "The run has no experiment from which to take project, root, cloud. Give them to the hook, or write "
        "train(..., experiment=Experiment(project=..., name=...))."
    )
    assert isinstance(raised.value, AttributeError)
    assert isinstance(raised.value, TrainhooksError)


@pytest.mark.parametrize(("mode", "word"), [(mode, word) for mode, alike in MODES.items() for word in alike])
def test_a_mode_has_several_names_in_any_case(mode: str, word: str | None) -> None:
    assert CloudDestination(mode=word, bucket="bucket").mode == mode


@pytest.mark.parametrize("word", ["s4", "google-storage", "", "aws s3", " s3", 3, True])
def test_a_mode_that_is_misspelt_is_refused_and_the_modes_are_named(word: object) -> None:
    """In the seed it kept the results off the cloud, and said nothing."""
    with pytest.raises(StorageModeError) as raised:
        CloudDestination(mode=cast("str", word), bucket="bucket")
    assert str(raised.value) == (
        f"There is no storage mode {word!r}. The modes are 's3', 'aws_s3' or 'aws'; 'gcs', 'google_storage' or "
        f"'google storage'; 'azure'; and 'local' or None."
    )
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, TrainhooksError)


@pytest.mark.parametrize("bucket", [None, "", "bucket/folder", "s3://bucket", 3])
def test_a_cloud_needs_the_bare_name_of_a_bucket(bucket: object) -> None:
    with pytest.raises(RunDefinitionError, match="needs bucket='name', the bare name of a bucket, got"):
        CloudDestination(mode="s3", bucket=cast("str", bucket))


def test_an_experiment_is_checked_when_it_is_built() -> None:
    with pytest.raises(RunDefinitionError, match=r"Experiment\(project=\.\.\.\) is a str that is not empty, got ' '"):
        Experiment(project=" ", name="cnn")
    with pytest.raises(RunDefinitionError, match=r"Experiment\(name=\.\.\.\) is a str that is not empty, got 3"):
        Experiment(project="digits", name=cast("str", 3))
    with pytest.raises(RunDefinitionError, match=r"Experiment\(root=\.\.\.\) is a folder, a str or a path, got ''"):
        Experiment(project="digits", name="cnn", root="")
    with pytest.raises(RunDefinitionError, match=r"Experiment\(cloud=\.\.\.\) is a CloudDestination.* got 's3'"):
        Experiment(project="digits", name="cnn", cloud=cast("CloudDestination", "s3"))
    with pytest.raises(
        RunDefinitionError, match=r"Experiment\(hyperparams=\.\.\.\) maps names to values, got \{1: 2\}"
    ):
        Experiment(project="digits", name="cnn", hyperparams=cast("dict[str, object]", {1: 2}))


def test_an_experiment_is_a_value() -> None:
    hyperparams: dict[str, object] = {"depth": 3}
    one = Experiment("digits", "cnn", Path("runs"), hyperparams=hyperparams)
    hyperparams["depth"] = 4
    assert one == Experiment(project="digits", name="cnn", root=Path("runs"), hyperparams={"depth": 3})
    assert Experiment(project="digits", name="cnn").root == "runs"
