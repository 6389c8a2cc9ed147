"""Both loops: the one that is read, and the one that runs."""

import pytest


@pytest.fixture(params=[True, False], ids=["specialised", "reference"])
def specialised(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)
