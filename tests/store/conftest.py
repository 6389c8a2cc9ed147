"""The kinds of store that the tests of this folder run against."""

import pytest

from tests.servers import azure, azurite, careless, clean_environment, gcs, s3, stand_ins
from trainhooks.store import Store, open_store

__all__ = ["azure", "azurite", "careless", "clean_environment", "gcs", "s3", "stand_ins", "store"]

SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}
ON_SERVERS = [pytest.param(kind, marks=pytest.mark.server) for kind in SCHEMES]


@pytest.fixture(params=["memory", "local", *ON_SERVERS])
def url(request: pytest.FixtureRequest) -> str:
    """Where an empty store of each kind is."""
    kind: str = request.param
    match kind:
        case "memory":
            return "memory://"
        case "local":
            return str(request.getfixturevalue("tmp_path") / "not/yet/there")
        case _:
            return f"{SCHEMES[kind]}://{request.getfixturevalue(kind)}/some/prefix"


@pytest.fixture
def store(url: str) -> Store:
    """An empty store of each kind."""
    return open_store(url)
