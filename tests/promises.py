"""Which promises a test keeps: `python -m tests.promises`.

`docs/promises.md` makes the promises, a line each. A test keeps one by naming it in its docstring, or in its module's:
`Keeps P17.` or `Keeps P17, P18.`
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

from attrs import frozen

PROMISE = re.compile(r"^- \*\*(P\d+)\*\* (.+)$", re.MULTILINE)
KEEPS = re.compile(r"\bKeeps\s+(P\d+(?:(?:,|\s+and)\s+P\d+)*)")
NUMBER = re.compile(r"P\d+")


@final
@frozen(kw_only=True)
class Survey:
    made: Mapping[str, str]
    """Number and text of every promise, in the order of the page."""
    kept: Mapping[str, list[str]]
    """Number and the tests that name it, as `file::test`, or `file` for a module."""

    @property
    def open(self) -> list[str]:
        return [number for number in self.made if number not in self.kept]

    @property
    def unknown(self) -> list[str]:
        return [number for number in self.kept if number not in self.made]


def promises(page: str) -> dict[str, str]:
    return dict(PROMISE.findall(page))


def named(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields (number, test) for each promise a docstring names; the module's own tests are called ""."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module):
            test = ""
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            test = node.name
        else:
            continue
        for mention in KEEPS.finditer(ast.get_docstring(node) or ""):
            for number in NUMBER.findall(mention[1]):
                yield number, test


def survey(root: Path) -> Survey:
    kept: dict[str, list[str]] = {}
    for file in sorted((root / "tests").rglob("test_*.py")):
        for number, test in named(ast.parse(file.read_text(encoding="utf-8"))):
            place = file.relative_to(root).as_posix()
            kept.setdefault(number, []).append(f"{place}::{test}" if test else place)
    return Survey(made=promises((root / "docs" / "promises.md").read_text(encoding="utf-8")), kept=kept)


def main(root: Path) -> int:
    """Prints the survey, promise by promise; the exit code is 1 if a test names a promise that nobody made."""
    found = survey(root)
    for number, text in found.made.items():
        tests = found.kept.get(number)
        print(f"{number} kept by {', '.join(tests)}" if tests else f"{number} named by no test: {text}")
    for number in found.unknown:
        print(f"unknown promise {number}, named by {', '.join(found.kept[number])}", file=sys.stderr)
    print(f"{len(found.made) - len(found.open)} of {len(found.made)} promises are kept by a test that names them")
    return 1 if found.unknown else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
