"""The survey of promises reads pages and tests as it says."""

from pathlib import Path

import pytest

from tests.promises import main, survey

ROOT = Path(__file__).resolve().parent.parent
PAGE = "# Promises\n- **P01** Order is kept.\n- **P02** Nothing else fires.\n- **P17** A resumed run is the same run.\n"


def tree(root: Path, **tests: str) -> Path:
    """A made-up project with a page of three promises and these tests."""
    (root / "docs").mkdir()
    (root / "docs" / "promises.md").write_text(PAGE, encoding="utf-8")
    (root / "tests" / "deep").mkdir(parents=True)
    for name, text in tests.items():
        (root / "tests" / "deep" / f"{name}.py").write_text(text, encoding="utf-8")
    return root


def test_a_test_or_its_module_keeps_the_promises_that_its_docstring_names(tmp_path: Path) -> None:
    test = 'class TestOrder:\n    def test_order(self):\n        """Keeps P01,\n        P02."""\n'
    found = survey(tree(tmp_path, test_runs='"""Runs.\n\nKeeps P17."""\n' + test))
    file = "tests/deep/test_runs.py"
    assert found.kept == {"P17": [file], "P01": [f"{file}::test_order"], "P02": [f"{file}::test_order"]}
    assert found.open == []


def test_only_docstrings_of_tests_keep_promises(tmp_path: Path) -> None:
    function = 'def order():\n    """Keeps P01."""\n'
    test = 'def test_order():\n    """P02 is near."""\n    "Keeps P02."  # Keeps P02.\n'
    found = survey(tree(tmp_path, test_runs=function + test, runs='"""Keeps P17."""'))
    assert found.kept == {}
    assert found.open == ["P01", "P02", "P17"]


def test_the_survey_lists_the_kept_and_the_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tree(tmp_path, test_runs='def test_order():\n    """Keeps P01 and P02."""')) == 0
    assert capsys.readouterr().out.splitlines() == [
        "P01 kept by tests/deep/test_runs.py::test_order",
        "P02 kept by tests/deep/test_runs.py::test_order",
        "P17 named by no test: A resumed run is the same run.",
        "2 of 3 promises are kept by a test that names them",
    ]


def test_an_unknown_promise_fails_the_survey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tree(tmp_path, test_runs='def test_order():\n    """Keeps P99."""')) == 1
    assert capsys.readouterr().err == "unknown promise P99, named by tests/deep/test_runs.py::test_order\n"


def test_no_test_of_ours_names_an_unknown_promise() -> None:
    found = survey(ROOT)
    assert found.unknown == []
    assert list(found.made) != []
