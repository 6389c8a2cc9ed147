"""Tables: by rich in a terminal, as plain lines elsewhere or without rich; nothing in them moves the cursor."""

import io
import re
import sys

import pytest

from trainhooks.sinks import show_table

HEAD = ("run", "best", "notes")
ROWS = [
    ("20261125T014541Z-af01f839", "val/loss 1.25 at 12, val/score 0.5 at 9, val/accuracy 0.75 at 6", "[bold]:smile:"),
    ("2", "-", ""),
]
PLAIN = """\
run                        best                                                             notes
20261125T014541Z-af01f839  val/loss 1.25 at 12, val/score 0.5 at 9, val/accuracy 0.75 at 6  [bold]:smile:
2                          -
"""


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_table_that_is_read_by_a_program_is_text_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(HEAD, ROWS)
    assert capsys.readouterr().out == PLAIN


def test_without_rich_a_terminal_shows_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    screen = Screen()
    show_table(HEAD, ROWS, screen)
    assert screen.getvalue() == PLAIN


def test_in_a_narrow_terminal_lists_are_broken_and_names_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    show_table(HEAD, ROWS, screen)
    lines = [re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in screen.getvalue().splitlines()]
    assert lines == [
        "run                        best                              notes",
        "20261125T014541Z-af01f839  val/loss 1.25 at 12, val/score    [bold]:smile:",
        "                           0.5 at 9, val/accuracy 0.75 at 6",
        "2                          -",
    ]
    assert "\x1b[1m" in screen.getvalue()  # the head is bold


def test_commands_for_a_terminal_are_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("a",), [("\x1b[2J\r\n",)])
    assert capsys.readouterr().out == "a\n\\x1b[2J\\r\\n\n"
