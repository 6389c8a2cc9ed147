"""Where results go: a project, an experiment, a folder, and perhaps a bucket in a cloud."""

import re
from os import PathLike
from typing import Literal, TypeAlias, final

from attrs import field, frozen

from trainhooks.errors import RunDefinitionError, StorageModeError

Mode: TypeAlias = Literal["s3", "gcs", "azure", "local"]
"""A kind of storage."""

Root: TypeAlias = str | PathLike[str]
"""The folder under which all projects are; `~` is one's home. A URL such as `s3://bucket/prefix` will do too."""

_MODES: dict[str, Mode] = {
    "s3": "s3",
    "aws_s3": "s3",
    "aws": "s3",
    "gcs": "gcs",
    "google_storage": "gcs",
    "google storage": "gcs",
    "azure": "azure",
    "local": "local",
}


def mode_of(given: object) -> Mode:
    """The kind of storage that a word stands for, in any case.

    Raises:
        StorageModeError: if it stands for none.

    Example:
        >>> mode_of("AWS_S3"), mode_of(None)
        ('s3', 'local')
    """
    if given is None:
        return "local"
    mode = _MODES.get(given.lower()) if isinstance(given, str) else None
    if mode is None:
        raise StorageModeError(
            f"There is no storage mode {given!r}. The modes are 's3', 'aws_s3' or 'aws'; 'gcs', 'google_storage' or "
            f"'google storage'; 'azure'; and 'local' or None."
        )
    return mode


def _as_mode(given: str | None) -> Mode:
    return mode_of(given)


@final
@frozen
class CloudDestination:
    """A bucket, and where in it. Who may write there is for the environment to say, as with other programs."""

    mode: Mode = field(converter=_as_mode)
    """`s3`, `aws_s3` or `aws`; `gcs`, `google_storage` or `google storage`; `azure`; or `local` or None: no cloud."""
    bucket: str | None = None
    """Its name; Azure calls it a container."""
    prefix: str = ""
    """The folder in the bucket under which all projects are."""

    def __attrs_post_init__(self) -> None:
        given: object = self.bucket
        if self.mode != "local" and not (isinstance(given, str) and re.fullmatch(r"[A-Za-z0-9._-]+", given)):
            raise RunDefinitionError(
                f"CloudDestination(mode={self.mode!r}) needs bucket='name', the bare name of a bucket, got {given!r}. "
                f"A folder in it is its prefix=."
            )


@final
@frozen
class PartialDestination:
    """A destination in part: None is taken from the run's experiment."""

    project: str | None = None
    name: str | None = None
    root: Root | None = None
    cloud: CloudDestination | None = None
    """None is taken from the experiment, if that is asked for; `CloudDestination(mode="local")` is no cloud."""


@final
@frozen
class Destination:
    """Where results go."""

    project: str
    name: str
    root: Root
    """Without a cloud, where the results are."""
    cloud: CloudDestination | None
    """Where they are, unless it is None or its mode is `local`."""
