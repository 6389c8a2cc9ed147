"""From a destination, a path or a URL to a store. Nothing is read or written by that."""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast, final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from attrs import frozen

from trainhooks.errors import StorageModeError

from .destination import Destination, Mode, Root
from .experiment import Experiment
from .layout import joined, slug
from .objects import Store

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore, GCSConfig, GCSStore, MemoryStore, RetryConfig, S3Config, S3Store

    from .failures import Kind
    from .stores import Backend

_KINDS: "dict[str, Kind]" = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "azure": "azure",
    "file": "local",
    "memory": "memory",
}
_IN_MEMORY: "dict[str, MemoryStore]" = {}
"""The stores in memory that have a name; they live as long as the process."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)")


@final
@frozen(kw_only=True)
class Client:
    """How patient a store in a cloud is, where the environment does not say it (`AWS_TIMEOUT=30s`)."""

    timeout: float = 120.0
    """Seconds for one request: a part of 16 MiB, with four at once, so at least 4.5 Mbit/s."""
    connect_timeout: float = 5.0
    """Seconds."""
    retries: int = 5
    """After the first try of a request."""
    retry_timeout: float = 60.0
    """Seconds after which a request that failed is not tried again."""
    first_wait: float = 0.2
    """Seconds before the second try; about twice as long before each further one, at most 5."""


def open_store(destination: "Destination | Experiment | Root", *, client: Client | None = None) -> Store:
    """Open a store; its folder need not be there yet.

    The credentials and the endpoint of a cloud come from the environment: `AWS_*`, `GOOGLE_*`, `AZURE_*`.

    Args:
        destination: An experiment, for the folder `<project>/<name>` in which its runs are; or a path or a URL:
            `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///folder`, or `memory://`, which
            is empty each time, or `memory://name`, which is the same throughout a process.
        client: How patient it is.

    Raises:
        StorageModeError: if there is no such kind of store.
        StorageError: if the settings in the environment are none.

    Example:
        >>> store = open_store("memory://")
        >>> store.put("manifests/1.json", b"{}")
        >>> [found.key for found in store.list()]
        ['manifests/1.json']
    """
    client = client or Client()
    if not isinstance(destination, (Destination, Experiment)):
        return _of_url(os.fspath(destination), client)
    folder = joined(slug(destination.project), slug(destination.name))
    cloud = destination.cloud
    if cloud is None or cloud.mode == "local":
        return _of_url(os.fspath(destination.root), client).at(folder)
    return _in_cloud(cloud.mode, cloud.bucket or "", client).at(joined(cloud.prefix, folder))


def _of_url(url: str, client: Client) -> Store:
    scheme = _SCHEME.match(url)
    if scheme is None:
        return _in_folder(Path(url).expanduser())
    parts, kind = urlsplit(url), _KINDS.get(scheme[0].lower())
    if kind is None or "@" in parts.netloc or parts.query or (kind not in ("local", "memory") and not parts.netloc):
        shown = url.partition("?")[0].rpartition("@")[2]
        raise StorageModeError(
            f"{shown!r} is no place for results. Write a path, 's3://bucket/prefix', "
            f"'gs://bucket/prefix', 'az://container/prefix', 'file:///folder' or 'memory://'; credentials belong into "
            f"the environment."
        )
    if kind == "local":
        return _in_folder(Path(url2pathname(parts.path)))
    if kind == "memory":
        return _in_memory(parts.netloc).at(parts.path)
    return _in_cloud(kind, parts.netloc, client).at(parts.path)


def _in_folder(folder: Path) -> Store:
    from .disk import Disk  # who opens no store does not load what is one
    from .failures import Where
    from .stores import ObjectStorage

    base = folder.absolute()
    return ObjectStorage(Where("local", str(base)), _local(base), Disk(base))


def _local(base: Path) -> "Callable[[], Backend]":
    @cache
    def made() -> "Backend":
        from obstore.store import LocalStore

        return LocalStore(prefix=base)

    def backend() -> "Backend":
        if not base.is_dir():
            raise FileNotFoundError(f"There is no folder {base}")
        return made()

    return backend


def _in_memory(name: str) -> Store:
    from obstore.store import MemoryStore

    from .failures import Where
    from .stores import ObjectStorage

    fresh = MemoryStore()
    memory = _IN_MEMORY.setdefault(name, fresh) if name else fresh  # in one operation: threads may open it at once
    return ObjectStorage(Where("memory", name), lambda: memory)


def _in_cloud(mode: Mode, bucket: str, client: Client) -> Store:
    from obstore.exceptions import BaseError

    from .failures import Where
    from .stores import ObjectStorage

    where = Where(mode, bucket)
    try:
        store = _cloud_backend(mode, bucket, client)
    except (BaseError, OSError, ValueError) as error:
        raise where.failure(error, "opened in", "A store", where.url) from None
    return ObjectStorage(where, lambda: store)


def _cloud_backend(mode: Mode, bucket: str, client: Client) -> "S3Store | GCSStore | AzureStore":
    from obstore.store import AzureStore, GCSStore, S3Store

    retries = _retries(client)
    match mode:
        case "s3":
            config = _settings("AWS", client, "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3")
            return S3Store(bucket, config=cast("S3Config", config), retry_config=retries)
        case "gcs":
            config = _settings("GOOGLE", client)
            return GCSStore(bucket, config=cast("GCSConfig", config), retry_config=retries)
        case "azure":
            config = _settings("AZURE", client, "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
            return AzureStore(bucket, config=cast("AzureConfig", config), retry_config=retries)
        case "local":
            raise AssertionError("a local folder is opened elsewhere")


def _settings(family: str, client: Client, *endpoints: str) -> dict[str, str]:
    """What obstore is told beside the environment, over which it would win."""
    mine = {"timeout": f"{client.timeout} seconds", "connect_timeout": f"{client.connect_timeout} seconds"}
    if any(os.environ.get(name, "").startswith("http://") for name in endpoints):
        mine["allow_http"] = "true"  # who names such an endpoint means it
    return {name: value for name, value in mine.items() if f"{family}_{name.upper()}" not in os.environ}


def _retries(client: Client) -> "RetryConfig":
    return {
        "max_retries": client.retries,
        "retry_timeout": timedelta(seconds=client.retry_timeout),
        "backoff": {
            "init_backoff": timedelta(seconds=client.first_wait),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }
