"""Fixtures that start stand-ins for clouds on 127.0.0.1, once a session, and give each test a bucket of its own.

Import what a folder's tests need into its conftest.py. Credentials and endpoints go into the environment, where users
have them too, so a test opens its store as a user would: `open_store(f"s3://{s3}/prefix")`.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

ROOT = Path(__file__).parent.parent
AZURITE = ROOT / ".venv/servers/node_modules/azurite/dist/src/blob/main.js"
ACCOUNT = "devstoreaccount1"
# Azurite's one account; its key is printed in its manual.
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def process_that_says(pattern: str, command: Sequence[str | Path]) -> Generator[str]:
    """Run a server until the block is left; gives what it printed for the pattern's group."""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            lines = (re.search(pattern, line) for line in server.stdout)
            yield next(match[1] for match in lines if match is not None)
        finally:
            server.kill()


@pytest.fixture(scope="session")
def stand_ins() -> Iterator[Mapping[str, int]]:
    """The ports of `tests.serving`."""
    with process_that_says(r"(\{.*\})", [sys.executable, "-m", "tests.serving"]) as ports:
        yield json.loads(ports)


@pytest.fixture(scope="session")
def azurite() -> Iterator[int]:
    """The port of an Azurite."""
    node = shutil.which("node")
    if node is None or not AZURITE.exists():
        pytest.skip("azurite is not installed; 'make setup' installs it where there is npm")
    options = "--blobHost 127.0.0.1 --blobPort 0 --inMemoryPersistence --skipApiVersionCheck --disableTelemetry"
    with process_that_says(r"listens on http://127\.0\.0\.1:(\d+)", [node, AZURITE, *options.split()]) as port:
        yield int(port)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of a cloud but those of the test."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "AZURITE_")):
            monkeypatch.delenv(name)


@pytest.fixture
def s3(stand_ins: Mapping[str, int], clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket of S3."""
    return s3_bucket(stand_ins["s3"], monkeypatch)


@pytest.fixture
def careless(stand_ins: Mapping[str, int], clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket of an S3 that ignores the conditions of writes."""
    return s3_bucket(stand_ins["careless"], monkeypatch)


@pytest.fixture
def gcs(stand_ins: Mapping[str, int], clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket of Google's storage."""
    account = {"gcs_base_url": f"http://127.0.0.1:{stand_ins['gcs']}", "disable_oauth": True}
    unused = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account | unused))
    monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
    return new_bucket(f"http://127.0.0.1:{stand_ins['gcs']}")


@pytest.fixture
def azure(azurite: int, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new container of Azure."""
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", f"http://127.0.0.1:{azurite}")
    container = f"container-{uuid4().hex}"
    date, version = formatdate(usegmt=True), "2021-12-02"
    signed = (
        f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n"
        f"/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
    )
    signature = hmac.new(base64.b64decode(ACCOUNT_KEY), signed.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}",
    }
    url = f"http://127.0.0.1:{azurite}/{ACCOUNT}/{container}?restype=container"
    with urlopen(Request(url, method="PUT", headers=headers)):
        return container


def s3_bucket(port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket at a port, with the environment that leads there."""
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return new_bucket(endpoint)


def new_bucket(endpoint: str) -> str:
    bucket = f"bucket-{uuid4().hex}"
    with urlopen(Request(f"{endpoint}/{bucket}", method="PUT")):
        return bucket
