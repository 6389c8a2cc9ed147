"""The rules of the house, as functions over a parsed module. Each yields a sentence for what breaks it.

`tests/test_architecture.py` shows that each rule refuses what it should, and holds the package to all of them.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

from tests.source import TOP, Import, Module, imports

STOREY_OF = {
    "__main__": 7,
    **dict.fromkeys(("cli", "testing"), 6),
    **dict.fromkeys(("run", "hooks"), 5),
    "checkpoint": 4,
    **dict.fromkeys(("loop", "sinks", "interop"), 3),
    **dict.fromkeys(("core", "store", "distributed", "data"), 2),
    "errors": 1,
}
NEIGHBOURS = {("distributed", "core"), ("store", "core"), ("data", "core")}
STRANGERS = {("hooks", "loop")}  # they meet in the types of core

EVERYWHERE = {"torch", "attrs", "cattrs", "typing_extensions"}
ROOM_OF_LIBRARY = {"obstore": "store", "hypothesis": "testing"}

FILE_LINES = 600
FUNCTION_LINES = 40
FUNCTION_LINES_IN = {"trainhooks/loop/reference.py": 120}
NAMES_THAT_SAY_NOTHING = {"utils", "common", "helpers", "base"}

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Rule: TypeAlias = Callable[[Module], Iterator[str]]
PackageRule: TypeAlias = Callable[[Sequence[Module]], Iterator[str]]


def imports_of_the_house(module: Module) -> Iterator[Import]:
    return (each for each in imports(module) if each.library == "trainhooks")


def imports_point_down(module: Module) -> Iterator[str]:
    if module.room == TOP:
        return
    own = STOREY_OF.get(module.room)
    if own is None:
        yield f"{module.path}: '{module.room}' has no storey"
        return
    for each in imports_of_the_house(module):
        if each.room in (TOP, module.room):
            continue
        other, pair = STOREY_OF.get(each.room, 99), (module.room, each.room)
        if pair in STRANGERS or other > own or (other == own and pair not in NEIGHBOURS):
            yield f"{module.path}:{each.line}: '{module.room}' may not import '{each.room}'"


def folders_are_left_by_a_face(module: Module) -> Iterator[str]:
    for each in imports_of_the_house(module):
        where = f"{module.path}:{each.line}"
        inside = each.room == module.room
        if inside and not each.relative:
            yield f"{where}: stay inside '{module.room}' by a relative import"
        elif not inside and each.relative:
            yield f"{where}: leave '{module.room}' by 'from trainhooks.{each.room} import ...'"
        elif not inside and each.room == TOP:
            yield f"{where}: nothing imports the top"
        elif not inside and each.target != f"trainhooks.{each.room}":
            yield f"{where}: '{each.target}' is a room of '{each.room}', not its face"


def faces_hand_out_what_they_list(package: Sequence[Module]) -> Iterator[str]:
    faces = {".".join(module.package): module for module in package if module.is_face}
    listed = {name: set(listed_names(face)) for name, face in faces.items()}
    for module in package:
        for each in imports_of_the_house(module):
            if each.room != module.room and each.target in listed:
                for name in sorted(set(each.names) - listed[each.target]):
                    yield f"{module.path}:{each.line}: '{name}' is not in the __all__ of {each.target}"


def listed_names(face: Module) -> list[str]:
    for statement in face.tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=names)):
                return [name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)]
            case _:
                pass
    return []


def faces_are_plain(module: Module) -> Iterator[str]:
    if not module.is_face:
        return
    for position, statement in enumerate(module.tree.body):
        match statement:
            case ast.Expr(value=ast.Constant(value=str())) if position == 0:
                pass
            case ast.Import() | ast.ImportFrom():
                pass
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List()):
                pass
            case _:
                yield f"{module.path}:{statement.lineno}: a face holds a docstring, imports and a list __all__ alone"
    names = listed_names(module)
    if names != sorted(set(names)):
        yield f"{module.path}: __all__ is not sorted"
    if not names and any(imports(module)):
        yield f"{module.path}: a face that imports says in __all__ what it hands out"


def files_are_short(module: Module) -> Iterator[str]:
    lines = len(module.text.splitlines())
    if lines >= FILE_LINES:
        yield f"{module.path}: {lines} lines, the limit is {FILE_LINES}"


def functions_are_short(module: Module) -> Iterator[str]:
    limit = FUNCTION_LINES_IN.get(module.path, FUNCTION_LINES)
    for node in ast.walk(module.tree):
        if isinstance(node, Function) and (lines := length(node)) >= limit:
            yield f"{module.path}:{node.lineno}: {node.name} has {lines} lines, the limit is {limit}"


def length(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    return span(function) - (span(function.body[0]) if ast.get_docstring(function) is not None else 0)


def span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def names_say_something(module: Module) -> Iterator[str]:
    for part in PurePosixPath(module.path).with_suffix("").parts:
        if part.strip("_") in NAMES_THAT_SAY_NOTHING:
            yield f"{module.path}: the name '{part}' does not say what lives there"


def annotations_are_evaluated(module: Module) -> Iterator[str]:
    for each in imports(module):
        if each.target == "__future__" and "annotations" in each.names:
            yield f"{module.path}:{each.line}: annotations are read at run time, so they stay evaluated"


def foreign_imports(module: Module) -> Iterator[Import]:
    known = {"trainhooks", *EVERYWHERE, *sys.stdlib_module_names}
    return (each for each in imports(module) if each.library not in known)


def foreign_libraries_are_imported_late(module: Module) -> Iterator[str]:
    for each in foreign_imports(module):
        room = ROOM_OF_LIBRARY.get(each.library)
        if room is None and each.at_import:
            yield f"{module.path}:{each.line}: import {each.library} in the function that uses it"
        elif room not in (None, module.room):
            yield f"{module.path}:{each.line}: {each.library} is for trainhooks/{room}/ alone"


def foreign_libraries_have_one_owner(package: Sequence[Module]) -> Iterator[str]:
    owners: dict[str, dict[str, None]] = {}
    for module in package:
        for each in foreign_imports(module):
            if each.library not in ROOM_OF_LIBRARY:
                owners.setdefault(each.library, {})[module.path] = None
    for library, paths in owners.items():
        if len(paths) > 1:
            yield f"{library} has more than one owner: {', '.join(paths)}"


RULES: list[Rule] = [
    imports_point_down,
    folders_are_left_by_a_face,
    faces_are_plain,
    files_are_short,
    functions_are_short,
    names_say_something,
    annotations_are_evaluated,
    foreign_libraries_are_imported_late,
]
PACKAGE_RULES: list[PackageRule] = [faces_hand_out_what_they_list, foreign_libraries_have_one_owner]
