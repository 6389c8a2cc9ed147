"""The package keeps the rules of the house, and every rule refuses what breaks it."""

from pathlib import Path

import pytest

from tests.architecture import (
    PACKAGE_RULES,
    RULES,
    STOREY_OF,
    PackageRule,
    Rule,
    annotations_are_evaluated,
    faces_are_plain,
    faces_hand_out_what_they_list,
    files_are_short,
    folders_are_left_by_a_face,
    foreign_libraries_are_imported_late,
    foreign_libraries_have_one_owner,
    functions_are_short,
    imports_point_down,
    names_say_something,
)
from tests.source import Module, modules_under

PACKAGE = modules_under(Path(__file__).resolve().parent.parent)


def broken(rule: Rule, path: str, text: str) -> list[str]:
    return list(rule(Module(path, text)))


def broken_between(rule: PackageRule, **texts: str) -> list[str]:
    """Files are named by keyword: `core__steps` is trainhooks/core/steps.py."""
    modules = [Module(f"trainhooks/{name.replace('__', '/', 1)}.py", text) for name, text in texts.items()]
    return list(rule(modules))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    assert [sentence for module in PACKAGE for sentence in rule(module)] == []


@pytest.mark.parametrize("rule", PACKAGE_RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: PackageRule) -> None:
    assert list(rule(PACKAGE)) == []


def test_the_rules_read_the_package_and_not_an_empty_folder() -> None:
    assert "trainhooks/__init__.py" in {module.path for module in PACKAGE}


@pytest.mark.parametrize(
    "statement",
    [
        "from trainhooks.loop import compose",
        "import trainhooks.loop",
        "def late():\n    from trainhooks.loop import compose",
        "if TYPE_CHECKING:\n    from trainhooks.loop import compose",
        "class Holder:\n    from trainhooks.loop import compose",
        "import_module('trainhooks.loop')",
    ],
)
def test_an_import_that_points_up_is_refused_wherever_it_stands(statement: str) -> None:
    (sentence,) = broken(imports_point_down, "trainhooks/core/steps.py", statement)
    assert sentence.endswith("'core' may not import 'loop'")


@pytest.mark.parametrize(("room", "other"), [("run", "hooks"), ("core", "store"), ("store", "data"), ("hooks", "loop")])
def test_neighbours_and_strangers_do_not_import_each_other(room: str, other: str) -> None:
    (sentence,) = broken(imports_point_down, f"trainhooks/{room}/steps.py", f"from trainhooks.{other} import x")
    assert sentence == f"trainhooks/{room}/steps.py:1: '{room}' may not import '{other}'"


@pytest.mark.parametrize("room", ["distributed", "store", "data"])
def test_three_neighbours_of_core_may_import_it(room: str) -> None:
    assert broken(imports_point_down, f"trainhooks/{room}/steps.py", "from trainhooks.core import Progress") == []


@pytest.mark.parametrize("room", [room for room in STOREY_OF if room != "errors"])
def test_every_folder_may_import_the_errors_and_errors_no_folder(room: str) -> None:
    assert broken(imports_point_down, f"trainhooks/{room}/steps.py", "from trainhooks.errors import X") == []
    assert broken(imports_point_down, "trainhooks/errors.py", f"from trainhooks.{room} import x") != []


def test_the_top_stands_above_all_storeys() -> None:
    text = "from trainhooks.core import Record\nfrom trainhooks.run import train"
    assert broken(imports_point_down, "trainhooks/__init__.py", text) == []
    assert broken(folders_are_left_by_a_face, "trainhooks/__init__.py", text) == []


def test_a_folder_without_a_storey_is_refused() -> None:
    (sentence,) = broken(imports_point_down, "trainhooks/attic/steps.py", "")
    assert sentence == "trainhooks/attic/steps.py: 'attic' has no storey"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("from trainhooks.core.steps import step", "'trainhooks.core.steps' is a room of 'core', not its face"),
        ("import trainhooks.core.steps", "'trainhooks.core.steps' is a room of 'core', not its face"),
        ("from ..core import BatchEnd", "leave 'loop' by 'from trainhooks.core import ...'"),
        ("from ..errors import CheckpointError", "leave 'loop' by 'from trainhooks.errors import ...'"),
        ("from trainhooks.loop.update import window", "stay inside 'loop' by a relative import"),
        ("from trainhooks import train", "nothing imports the top"),
    ],
)
def test_a_folder_is_left_by_a_face_and_walked_by_relative_imports(statement: str, expected: str) -> None:
    assert broken(folders_are_left_by_a_face, "trainhooks/loop/steps.py", statement) == [
        f"trainhooks/loop/steps.py:1: {expected}"
    ]


@pytest.mark.parametrize(
    "statement", ["from trainhooks.core import BatchEnd", "from .update import window", "from . import update"]
)
def test_faces_and_relative_imports_are_the_ways_through_the_house(statement: str) -> None:
    assert broken(folders_are_left_by_a_face, "trainhooks/loop/steps.py", statement) == []


def test_a_face_hands_out_only_what_it_lists() -> None:
    face = "from .contexts import BatchEnd\n__all__ = ['BatchEnd']"
    user = "from trainhooks.core import BatchEnd, contexts"
    (sentence,) = broken_between(faces_hand_out_what_they_list, core____init__=face, loop__steps=user)
    assert sentence == "trainhooks/loop/steps.py:1: 'contexts' is not in the __all__ of trainhooks.core"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from .a import f\n__all__ = ['f']\nf()", "__init__.py:3: a face holds"),
        ("VERSION = '1'", "__init__.py:1: a face holds"),
        ("if True:\n    from .a import f\n__all__ = ['f']", "__init__.py:1: a face holds"),
        ("from .a import f, g\n__all__ = ['g', 'f']", "__all__ is not sorted"),
        ("from .a import f\n__all__ = ['f', 'f']", "__all__ is not sorted"),
        ("from .a import f", "says in __all__ what it hands out"),
    ],
)
def test_a_face_that_does_more_is_refused(text: str, expected: str) -> None:
    (sentence,) = broken(faces_are_plain, "trainhooks/core/__init__.py", text)
    assert expected in sentence


def test_a_plain_face_and_any_other_module_may_stand() -> None:
    face = '"""Words."""\nfrom .a import f\n__all__ = ["f"]'
    assert broken(faces_are_plain, "trainhooks/core/__init__.py", face) == []
    assert broken(faces_are_plain, "trainhooks/core/a.py", "VERSION = '1'") == []


def test_a_file_of_600_lines_is_too_long() -> None:
    assert broken(files_are_short, "trainhooks/core/a.py", "x = 1\n" * 599) == []
    assert broken(files_are_short, "trainhooks/core/a.py", "x = 1\n" * 600) != []


def function(lines: int) -> str:
    """A function of so many lines, and a docstring of two more."""
    return 'def f():\n    """Does\n    nothing."""\n' + "    x = 1\n" * (lines - 1)


@pytest.mark.parametrize(("path", "limit"), [("trainhooks/loop/update.py", 40), ("trainhooks/loop/reference.py", 120)])
def test_a_function_is_measured_without_its_docstring(path: str, limit: int) -> None:
    assert broken(functions_are_short, path, function(limit - 1)) == []
    (sentence,) = broken(functions_are_short, path, function(limit))
    assert sentence == f"{path}:1: f has {limit} lines, the limit is {limit}"


@pytest.mark.parametrize("path", ["core/utils.py", "core/_helpers.py", "common/a.py", "base.py"])
def test_a_name_that_says_nothing_is_refused(path: str) -> None:
    assert len(broken(names_say_something, f"trainhooks/{path}", "")) == 1


def test_postponed_annotations_are_refused() -> None:
    assert len(broken(annotations_are_evaluated, "trainhooks/core/a.py", "from __future__ import annotations")) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("hooks/progress", "import rich"),
        ("hooks/progress", "try:\n    from rich.live import Live\nexcept ImportError: ..."),
        ("hooks/progress", "if not TYPE_CHECKING:\n    import rich"),
        ("hooks/progress", "if TYPE_CHECKING:\n    pass\nelse:\n    import rich"),
        ("core/a", "def late():\n    import obstore"),
        ("hooks/a", "def late():\n    import hypothesis"),
    ],
)
def test_a_foreign_library_out_of_place_is_refused(path: str, text: str) -> None:
    assert len(broken(foreign_libraries_are_imported_late, f"trainhooks/{path}.py", text)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("hooks/progress", "def progress():\n    import rich"),
        ("hooks/progress", "if TYPE_CHECKING:\n    import rich"),
        ("run/seeding", "import sys\nnumpy = sys.modules.get('numpy')"),
        ("store/objects", "import obstore"),
        ("testing/strategies", "from hypothesis import strategies"),
        ("core/a", "import torch, attrs, cattrs, typing_extensions, pathlib"),
    ],
)
def test_a_foreign_library_in_its_place_may_stand(path: str, text: str) -> None:
    assert broken(foreign_libraries_are_imported_late, f"trainhooks/{path}.py", text) == []


def test_a_foreign_library_has_one_owner() -> None:
    late = "def late():\n    import rich.live"
    files = {"hooks__a": late, "run__b": late, "store__c": "import obstore", "store__d": "import obstore"}
    (sentence,) = broken_between(foreign_libraries_have_one_owner, **files)
    assert sentence == "rich has more than one owner: trainhooks/hooks/a.py, trainhooks/run/b.py"
    assert broken_between(foreign_libraries_have_one_owner, hooks__a=late + "\n" + late) == []
