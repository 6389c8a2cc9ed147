"""What README.md and docs/ show is true: their programs run as written, and their lists are those of the code."""

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import final

import pytest
from attrs import frozen

from tests.source import modules_under
from trainhooks import EVENTS, Steer

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END_OF_BLOCK = "\x1e"
ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)
LISTED = re.compile(r"^- `(\w+)`: (.+(?:\n  .+)*)$", re.MULTILINE)


@final
@frozen
class Block:
    """Python code on a page, and what the page says that it prints."""

    line: int
    code: str
    prints: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    for fence in FENCE.finditer(text):
        language, body = fence.groups()
        if language == "python":
            blocks.append(Block(text[: fence.start()].count("\n") + 1, body, ""))
        elif language == "text":
            block = blocks.pop()
            assert not block.prints, f"two outputs for the block at {page.name}:{block.line}"
            blocks.append(Block(block.line, block.code, body))
    return blocks


PROGRAMS = [page for page in PAGES if page.name != "typing.md" and blocks_of(page)]
"""Pages whose Python blocks, one after the other, are one program; `typing.md` shows lines that checkers reject."""


def program_of(blocks: list[Block]) -> str:
    """The blocks as one program, each at the line where it stands on its page."""
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - len(lines)) + block.code.splitlines() + [f"print({END_OF_BLOCK!r}, end='')"]
    return "\n".join(lines)


def output_of(program: str, folder: Path) -> str:
    """What a program prints, run as a user would, with warnings as errors."""
    file = folder / "program.py"
    file.write_text(program, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", file], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_program_of_the_readme_prints_what_the_readme_shows(tmp_path: Path) -> None:
    first = blocks_of(ROOT / "README.md")[0]
    assert first.prints
    assert output_of(first.code, tmp_path) == first.prints


@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order_and_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    outputs = output_of(program_of(blocks), tmp_path).split(END_OF_BLOCK)
    assert dict(zip([block.line for block in blocks], outputs, strict=False)) == {b.line: b.prints for b in blocks}
    assert outputs[len(blocks) :] == [""]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks_of(page):
        compile(block.code, f"{page.name}:{block.line}", "exec")


def answers_of(event: str) -> str:
    names = [one.__name__ for one in EVENTS[event].answers]
    steer = [one.__name__ for one in Steer.__args__]
    if names[: len(steer)] == steer:
        return ", ".join(["Steer", *(f"`{name}`" for name in names[len(steer) :])])
    return ", ".join(f"`{name}`" for name in names)


def test_the_readme_lists_every_event_with_its_context_and_its_answers() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## The events")[2].partition("\n## ")[0]
    rows: dict[str, tuple[str, str]] = {}
    for event, rest in ROW.findall(section):
        context, _, answers = [cell.strip() for cell in rest.split("|")]
        rows[event] = (context, answers)
    assert rows == {event: (f"`{spec.context.__name__}`", answers_of(event)) for event, spec in EVENTS.items()}


def first_line(module: ModuleType, name: str) -> str | None:
    """The first line of what documents a public name: its own docstring, or the string below an alias."""
    thing: object = getattr(module, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return inspect.cleandoc(thing.__doc__ or "").partition("\n")[0] or None
    return next((inspect.cleandoc(text).partition("\n")[0] for text in strings_below(name)), None)


def strings_below(name: str) -> Iterator[str]:
    for module in modules_under(ROOT):
        for assigned, below in zip(module.tree.body, module.tree.body[1:], strict=False):
            targets = assigned.targets if isinstance(assigned, ast.Assign) else [getattr(assigned, "target", None)]
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))) if any(
                    isinstance(target, ast.Name) and target.id == name for target in targets
                ):
                    yield text
                case _:
                    pass


@pytest.mark.parametrize("name", ["trainhooks", "trainhooks.data", "trainhooks.hooks"])
def test_the_reference_lists_every_public_name_with_the_first_line_of_its_docstring(name: str) -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
    listed = {public: line.replace("\n  ", " ") for public, line in LISTED.findall(section)}
    module = import_module(name)
    assert sorted(listed) == sorted(module.__all__)
    documented = {public: line for public in module.__all__ if (line := first_line(module, public)) is not None}
    assert {public: listed[public] for public in documented} == documented


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_programs_pass_mypy_strict(tmp_path: Path) -> None:
    files = [tmp_path / f"page_{page.stem.replace('-', '_')}.py" for page in PROGRAMS]
    for page, file in zip(PROGRAMS, files, strict=True):
        file.write_text(program_of(blocks_of(page)) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
