"""Python files as the rules of the architecture read them."""

import ast
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import final

from attrs import frozen

TOP = ""  # the room of trainhooks/__init__.py, above all storeys
ONLY_FOR_CHECKERS = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


@final
@frozen
class Module:
    path: str
    """Relative to the repository: `trainhooks/core/wrappers.py`."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """The folder below trainhooks, or the file that stands there: `core`, `errors`."""
        below = PurePosixPath(self.path).with_suffix("").parts[1]
        return TOP if below == "__init__" else below

    @property
    def is_face(self) -> bool:
        return PurePosixPath(self.path).name == "__init__.py"

    @property
    def package(self) -> list[str]:
        return list(PurePosixPath(self.path).parent.parts)


@final
@frozen(kw_only=True)
class Import:
    line: int
    target: str
    """The module's absolute name; `trainhooks.core` for `from . import x` in core."""
    names: tuple[str, ...] = ()
    relative: bool = False
    at_import: bool
    """It runs when the module is imported: neither in a function nor under TYPE_CHECKING."""

    @property
    def library(self) -> str:
        return self.target.partition(".")[0]

    @property
    def room(self) -> str:
        return f"{self.target}.".split(".")[1]


def modules_under(root: Path) -> list[Module]:
    files = sorted((root / "trainhooks").rglob("*.py"))
    return [Module(file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")) for file in files]


def imports(module: Module) -> Iterator[Import]:
    """Yields every import, wherever it stands, `import_module("name")` included."""
    return imports_below(module.tree, module.package, at_import=True)


def imports_below(node: ast.AST, package: list[str], *, at_import: bool) -> Iterator[Import]:
    match node:
        case ast.Import(lineno=line, names=aliases):
            for alias in aliases:
                yield Import(line=line, target=alias.name, at_import=at_import)
        case ast.ImportFrom(lineno=line, module=name, names=aliases, level=level):
            above = package[: len(package) - level + 1] if level else []
            target = ".".join([*above, *([name] if name else [])])
            names = tuple(alias.name for alias in aliases)
            yield Import(line=line, target=target, names=names, relative=level > 0, at_import=at_import)
        case ast.Call(lineno=line, func=function, args=[ast.Constant(value=str(target)), *_]) if (
            ast.unparse(function).endswith("import_module")
        ):
            yield Import(line=line, target=target, at_import=at_import)
        case _:
            pass
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        at_import = False
    never = node.body if isinstance(node, ast.If) and ast.unparse(node.test) in ONLY_FOR_CHECKERS else []
    for child in ast.iter_child_nodes(node):
        yield from imports_below(child, package, at_import=at_import and child not in never)
