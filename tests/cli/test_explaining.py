"""`trainhooks explain`: hooks are found in a module, made if need be, and explained; what cannot be found is named."""

import sys
from pathlib import Path

import pytest

from trainhooks import compose, explain
from trainhooks.cli import main
from trainhooks.hooks import clip_grad_norm, history

MODULE = """
from functools import partial

from trainhooks import HookSet, compose
from trainhooks.hooks import clip_grad_norm, history

one = history()
several = [clip_grad_norm(1.0), [history()]]
table = compose(*several)
written = {"name": "written", "on_batch_end": print}


def made():
    return several


def with_a_default(limit=1.0):
    return clip_grad_norm(limit)


filled = partial(clip_grad_norm, 1.0)


def of_two(first, second):
    return [first, second]


class Listening:
    def on_epoch_end(self, ctx):
        raise AssertionError("explain calls no hook")

    def __call__(self):
        raise AssertionError("it is a hook itself")

    @staticmethod
    def several():
        return several


listening = Listening()
nothing = 3
clashing = [HookSet(name="a", order=1, before={"b"}, on_epoch_end=print), HookSet(name="b", on_epoch_end=print)]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the module, which lies in the current folder."""
    name = f"hooks_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    return name


SEVERAL = explain(clip_grad_norm(1.0), history())


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("one", explain(history())),
        ("several", SEVERAL),
        ("table", explain(compose(clip_grad_norm(1.0), history()))),
        ("written", explain({"name": "written", "on_batch_end": print})),
        ("made", SEVERAL),
        ("with_a_default", explain(clip_grad_norm(1.0))),
        ("filled", explain(clip_grad_norm(1.0))),
        ("Listening.several", SEVERAL),
        ("listening", None),
        ("Listening", None),
    ],
)
def test_hooks_are_explained_whatever_they_are_or_make_them(
    module: str, attribute: str, expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", f"{module}:{attribute}"]) == 0
    printed = capsys.readouterr().out
    if expected is not None:
        assert printed == f"{expected}\n"
    else:
        assert printed.startswith("on_epoch_end\n  1. Listening  as given\n")


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("{}", "names no hooks. Write module:attribute, such as train_digits:hooks."),
        (":hooks", "names no hooks. Write module:attribute, such as train_digits:hooks."),
        ("{}:", "names no hooks. Write module:attribute, such as train_digits:hooks."),
        ("{}:gone", "There is no 'gone' in {}."),
        ("{}:Listening.gone", "There is no 'Listening.gone' in {}."),
        ("gone_away:hooks", "There is no module 'gone_away' in "),
        ("gone_away.inner:hooks", "There is no module 'gone_away' in "),
        ("trainhooks.gone_away:hooks", "There is no module 'trainhooks.gone_away' in "),
        (".relative:hooks", "'.relative' is no name of a module: "),
        ("{}:of_two", "called with nothing for its hooks, and cannot be: missing a required argument: 'first'"),
    ],
)
def test_what_cannot_be_found_is_named(
    module: str, where: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", where.format(module)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence.format(module) in printed.err
    assert printed.err.startswith("trainhooks: ")
    assert printed.err.count("\n") == 1


def test_hooks_that_contradict_one_another_are_bad(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", f"{module}:clashing"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("trainhooks: ")
    assert "'a'" in printed.err


def test_what_is_no_hook_is_bad(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", f"{module}:nothing"]) == 1
    assert capsys.readouterr().err.startswith("trainhooks: ")


def test_a_module_that_lacks_another_says_which_by_its_own_traceback(module: str) -> None:
    Path("lacking.py").write_text("import gone_away", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="No module named 'gone_away'"):
        main(["explain", "lacking:hooks"])
