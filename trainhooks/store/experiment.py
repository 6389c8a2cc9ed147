"""What a run belongs to, and the seed's rules of what is taken from it."""

from collections.abc import Mapping
from os import PathLike
from typing import final

from attrs import field, frozen

from trainhooks.errors import NoExperimentError, RunDefinitionError

from .destination import CloudDestination, Destination, PartialDestination, Root
from .hyperparams import hyperparams_of


@final
@frozen
class Experiment:
    """What a run belongs to; the runs of an experiment stand beside one another.

    Example:
        >>> Experiment(project="digits", name="cnn", cloud=CloudDestination(mode="s3", bucket="results")).cloud.mode
        's3'
    """

    project: str
    """What the experiment is part of."""
    name: str
    """Among the experiments of its project."""
    root: Root = "runs"
    """Without a cloud, the folder under which all projects are; `~` is one's home."""
    cloud: CloudDestination | None = None
    """The bucket in which its runs are; None, or the mode `local`, for `root`."""
    hyperparams: Mapping[str, object] = field(factory=dict[str, object], converter=hyperparams_of)
    """What a reader of the results wants to know of how they were made, by name.

    Given as a mapping, a dataclass, an attrs record, a pydantic model, a named tuple or a namespace, nested in any way;
    stored as JSON, NaN and infinities as words.
    """

    def __attrs_post_init__(self) -> None:
        given: dict[str, object] = {"project": self.project, "name": self.name}
        for word, value in given.items():
            if not isinstance(value, str) or not value.strip():
                raise RunDefinitionError(f"Experiment({word}=...) is a str that is not empty, got {value!r}.")
        _check_folder(self.root)
        _check_cloud(self.cloud)


def _check_folder(root: object) -> None:
    if not isinstance(root, (str, PathLike)) or root == "":
        raise RunDefinitionError(f"Experiment(root=...) is a folder, a str or a path, got {root!r}.")


def _check_cloud(cloud: object) -> None:
    if cloud is not None and not isinstance(cloud, CloudDestination):
        raise RunDefinitionError(
            f"Experiment(cloud=...) is a CloudDestination(mode=..., bucket=...) or None, got {cloud!r}."
        )


def resolve_destination(own: PartialDestination, experiment: Experiment | None, *, infer_cloud: bool) -> Destination:
    """Complete where a hook's results go from the experiment of its run.

    Project, name and root are each taken from the experiment if the hook has none. The details of the cloud are taken
    together: if `infer_cloud`, and only if the hook names no cloud at all.

    Args:
        own: What the hook was given.
        experiment: That of the run.
        infer_cloud: Whether results go to the experiment's cloud. If not, and the hook names none, they go to none.

    Raises:
        NoExperimentError: if something is to be taken, and there is no experiment.

    Example:
        >>> cnn = Experiment(project="digits", name="cnn")
        >>> resolve_destination(PartialDestination(name="plots"), cnn, infer_cloud=True)
        Destination(project='digits', name='plots', root='runs', cloud=None)
    """
    asked: dict[str, object] = {"project": own.project, "name": own.name, "root": own.root}
    if infer_cloud:
        asked["cloud"] = own.cloud
    lacking = [name for name, value in asked.items() if value is None]
    if experiment is None and lacking:
        raise NoExperimentError(
            f"The run has no experiment from which to take {', '.join(lacking)}. Give them to the hook, or write "
            f"train(..., experiment=Experiment(project=..., name=...))."
        )

    project, name, root, cloud = own.project, own.name, own.root, own.cloud
    if experiment is not None:
        project = experiment.project if project is None else project
        name = experiment.name if name is None else name
        root = experiment.root if root is None else root
        cloud = experiment.cloud if cloud is None and infer_cloud else cloud
    assert project is not None
    assert name is not None
    assert root is not None
    return Destination(project=project, name=name, root=root, cloud=cloud)
