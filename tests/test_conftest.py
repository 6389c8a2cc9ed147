"""What tests/conftest.py skips, and what it does not let CI skip."""

from pathlib import Path

import pytest
import torch

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
MARKERS = "[pytest]\nmarkers =\n    gpu: needs a GPU\n    server: needs a server\n"


def outcomes(pytester: pytest.Pytester, test: str) -> dict[str, int]:
    pytester.makeconftest(CONFTEST)
    pytester.makeini(MARKERS)
    pytester.makepyfile(f"import pytest\n\n{test}")
    return pytester.runpytest_inprocess("-p", "no:cacheprovider").parseoutcomes()


SERVER = "@pytest.mark.server\ndef test_server():\n    pytest.skip('no server here')"


def test_a_server_test_may_be_skipped_at_home(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert outcomes(pytester, SERVER) == {"skipped": 1}


def test_a_skipped_server_test_fails_in_ci(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert outcomes(pytester, SERVER) == {"failed": 1}


def test_any_other_test_may_be_skipped_in_ci(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert outcomes(pytester, "def test_other():\n    pytest.skip('not today')") == {"skipped": 1}


@pytest.mark.parametrize(("available", "expected"), [(False, "skipped"), (True, "passed")])
def test_a_gpu_test_runs_only_with_cuda(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, available: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert outcomes(pytester, "@pytest.mark.gpu\ndef test_gpu(): ...") == {expected: 1}
