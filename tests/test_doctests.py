"""The examples in the package's docstrings run, and print what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from tests.source import modules_under

ROOT = Path(__file__).resolve().parent.parent
NAMES = [module.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for module in modules_under(ROOT)]


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_module_print_what_they_say(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples() -> None:
    assert sum(doctest.testmod(import_module(name)).attempted for name in NAMES) > 10
