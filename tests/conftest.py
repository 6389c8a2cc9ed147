"""What all tests share: hypothesis profiles, one thread, and which tests may be skipped."""

import os
import signal
from collections.abc import Generator

import pytest
import torch
from hypothesis import settings

settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("fast")  # --hypothesis-profile comes later and wins

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process that a script starts with & would ignore Ctrl-C


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.get_closest_marker("server") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} needs a server and was skipped; CI must not pass without it"
    return report
