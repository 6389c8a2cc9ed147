"""Both type checkers accept the user code in `tests/typing/` that is right, and reject every line of it that is wrong.

A statement that must be rejected ends with `# E: <mypy's codes> | <pyright's rules>`.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias, final

import pytest
from attrs import frozen

from trainhooks import EVENTS

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "typing"
FILES = sorted(FOLDER.glob("*.py"))
REJECTED = [file for file in FILES if file.name.startswith("rejected")]
IN_PART = FOLDER / "rejected_in_part.py"
MARK = re.compile(r"# E: ([\w\-, ]+) \| ([\w, ]+)$")

Place: TypeAlias = tuple[str, int]
"""A file's name, and the first line of a statement in it."""
Findings: TypeAlias = Mapping[Place, set[str]]
"""What a checker finds, or must find, by place."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a first run reads all of torch


@final
@frozen
class Found:
    mypy: Findings
    pyright: Findings


@pytest.fixture(scope="module")
def found() -> Found:
    return Found(by_statement(run_mypy()), by_statement(run_pyright()))


def run_mypy() -> Iterator[tuple[Path, int, str]]:
    """Yields file, line and code; files that are named are checked although mypy.ini excludes them from discovery."""
    said = run("mypy", "--output=json", *(str(file.relative_to(ROOT)) for file in FILES))
    for one in map(json.loads, said.splitlines()):
        if one["severity"] == "error":
            yield ROOT / one["file"], int(one["line"]), str(one["code"])


def run_pyright() -> Iterator[tuple[Path, int, str]]:
    """Yields file, line and rule; the folder's own settings are the project's, without what they exclude."""
    said = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(FOLDER)))
    assert said["summary"]["filesAnalyzed"] == len(FILES)
    for one in said["generalDiagnostics"]:
        if one["severity"] in ("error", "warning"):
            yield Path(one["file"]), int(one["range"]["start"]["line"]) + 1, str(one.get("rule"))


def run(checker: str, *arguments: str) -> str:
    """What a checker says; it exits with 1 where it finds something, with more where it could not work."""
    settings = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # or it asks the web for its newest version
    done = subprocess.run(
        [sys.executable, "-m", checker, *arguments],
        cwd=ROOT,
        env=os.environ | settings,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def by_statement(findings: Iterator[tuple[Path, int, str]]) -> dict[Place, set[str]]:
    found: dict[Place, set[str]] = {}
    for file, line, code in findings:
        found.setdefault((file.name, statement_at(file, line)), set()).add(code)
    return found


def statement_at(file: Path, line: int) -> int:
    """The first line of the innermost statement that this line belongs to."""
    statements = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.stmt)]
    around = [node.lineno for node in statements if node.lineno <= line <= (node.end_lineno or node.lineno)]
    return max(around, default=line)


def marked(file: Path, checker: int) -> dict[Place, set[str]]:
    """What the marks of a file say that a checker must find: 1 for mypy, 2 for pyright."""
    marks: dict[Place, set[str]] = {}
    for line, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if mark := MARK.search(text):
            marks[file.name, statement_at(file, line)] = set(mark[checker].split(", ")) - {"nothing"}
        else:
            assert "# E:" not in text, f"{file.name}:{line} has a mark that cannot be read"
    return marks


def in_file(file: Path, findings: Findings) -> dict[Place, set[str]]:
    return {place: codes for place, codes in findings.items() if place[0] == file.name}


@pytest.mark.parametrize("file", [file for file in FILES if file not in REJECTED], ids=lambda file: file.name)
def test_user_code_that_is_right_is_accepted_by_both_checkers(file: Path, found: Found) -> None:
    """Keeps P06, P07."""
    assert in_file(file, found.mypy) == {}
    assert in_file(file, found.pyright) == {}


@pytest.mark.parametrize("file", REJECTED, ids=lambda file: file.name)
def test_what_is_marked_is_rejected_as_the_mark_says_and_nothing_else_is(file: Path, found: Found) -> None:
    """Keeps P06, P07."""
    marks: list[dict[Place, set[str]]] = [marked(file, checker) for checker in (1, 2)]
    assert in_file(file, found.mypy) == {place: codes for place, codes in marks[0].items() if codes}
    assert in_file(file, found.pyright) == {place: codes for place, codes in marks[1].items() if codes}


@pytest.mark.parametrize("file", REJECTED, ids=lambda file: file.name)
def test_a_mark_names_what_both_checkers_find_except_in_the_file_of_what_they_miss(file: Path) -> None:
    """Keeps P06, P07."""
    marks = [marked(file, checker) for checker in (1, 2)]
    assert len(marks[0]) > 0
    missed = [place for place in marks[0] if not marks[0][place] or not marks[1][place]]
    assert missed == (list(marks[0]) if file == IN_PART else [])


def test_every_event_is_among_those_that_refuse_another_context() -> None:
    """Keeps P06."""
    text = (FOLDER / "rejected_everywhere.py").read_text(encoding="utf-8")
    assert re.findall(r"^HookSet\((\w+)=.*# E:", text, re.MULTILINE) == list(EVENTS)
    assert re.findall(r'^stateful\("a", int, (\w+)=.*# E:', text, re.MULTILINE) == list(EVENTS)


def test_a_line_belongs_to_the_innermost_statement_around_it(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("def f():\n    g(\n        1,\n    )\n\n# a comment\n", encoding="utf-8")
    assert [statement_at(file, line) for line in range(1, 7)] == [1, 2, 2, 2, 5, 6]
