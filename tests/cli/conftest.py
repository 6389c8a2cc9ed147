"""Runs that were really trained, for each test in a folder of its own, and the kinds of store to copy them to."""

import shutil
from pathlib import Path
from uuid import uuid4

import pytest

from tests.servers import azure, azurite, clean_environment, gcs, s3, stand_ins
from tests.store.conftest import ON_SERVERS, SCHEMES

from .left import Left, leave_runs

__all__ = ["azure", "azurite", "clean_environment", "gcs", "s3", "stand_ins"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root under which runs were trained."""
    root = tmp_path_factory.mktemp("trained")
    leave_runs(root)
    return root


@pytest.fixture
def left(trained: Path, tmp_path: Path) -> Left:
    """The same root, to do with as one likes."""
    return Left(Path(shutil.copytree(trained, tmp_path / "runs")))


@pytest.fixture(params=["memory", "local", *ON_SERVERS])
def elsewhere(request: pytest.FixtureRequest) -> str:
    """Where nothing is yet, in a store of each kind."""
    kind: str = request.param
    match kind:
        case "memory":
            return f"memory://{uuid4().hex}"
        case "local":
            return str(request.getfixturevalue("tmp_path") / "not/yet/there")
        case _:
            return f"{SCHEMES[kind]}://{request.getfixturevalue(kind)}/some/prefix"
