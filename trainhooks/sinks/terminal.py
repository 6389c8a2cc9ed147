"""What is shown in a terminal: bars, lines and tables, drawn by rich."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO, TypeAlias, final

from attrs import frozen

if TYPE_CHECKING:
    from rich import console as rich_console
    from rich import progress as rich_progress

_NARROWEST = 32
"""Characters of a column of lists, which are broken if the terminal is too narrow. Nothing else is."""

Console: TypeAlias = "rich_console.Console"
"""Rich's `Console`: where to show something, and what that place can show."""


@final
@frozen(eq=False)
class Bar:
    """A bar that is redrawn when it is told to, and taken away when it is closed."""

    drawn: "rich_progress.Progress"

    def begin(self, what: str, total: int | None) -> None:
        """Begin a new bar in the place of the one before.

        Args:
            what: What is counted.
            total: How many there will be; None if that is not known.
        """
        for task in self.drawn.task_ids:
            self.drawn.remove_task(task)
        self.drawn.add_task(what, total=total, facts="")
        self.drawn.start()

    def draw(self, completed: int, facts: str) -> None:
        """Draw how far it is, with facts beside it."""
        self.drawn.update(self.drawn.task_ids[0], completed=completed, facts=facts)
        self.drawn.refresh()

    def close(self) -> None:
        """Take it away."""
        self.drawn.stop()


@final
@frozen(eq=False)
class Terminal:
    """Where lines are shown, and a bar if it can show one."""

    console: "Console"
    bar: Bar | None
    """None where only lines can be shown, such as in a file."""

    def line(self, text: str) -> None:
        """Show a line as it is."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def terminals(console: "Console | None", clock: Callable[[], float], user: str) -> Callable[[], Terminal]:
    """What makes a terminal to show something in.

    Args:
        console: Where; None for standard output.
        clock: Seconds since some fixed moment.
        user: What needs it, as the error calls it.

    Raises:
        ImportError: if rich is not installed, with the line that installs it.
    """
    try:
        from rich import console as consoles
        from rich import progress as bars
        from rich.table import Column
    except ImportError as error:
        raise ImportError(f"{user} draws with rich; to have it: pip install 'trainhooks[progress]'") from error

    def terminal() -> Terminal:
        shown_on = console or consoles.Console()
        if not (shown_on.is_interactive or shown_on.is_jupyter):
            return Terminal(shown_on, None)
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(24),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(compact=True),
            bars.TextColumn("{task.fields[facts]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
        )
        bar = bars.Progress(*columns, console=shown_on, auto_refresh=False, expand=True, transient=True, get_time=clock)
        return Terminal(shown_on, Bar(bar))

    return terminal


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO | None = None) -> None:
    """Show a table: by rich in a terminal; elsewhere, or without rich, as text with a line for each row.

    Characters that would move the cursor are shown as their escapes.

    Args:
        head: A word for each column.
        rows: A cell for each column.
        file: Where; None for standard output.
    """
    shown_in = file or sys.stdout
    shown = [[printable(cell) for cell in row] for row in rows]
    if not (shown_in.isatty() and _drawn_by_rich(head, shown, shown_in)):
        shown_in.writelines(f"{line}\n" for line in _aligned(head, shown))


def printable(text: str) -> str:
    r"""A text without what a terminal would take for a command, or for a new line.

    Example:
        >>> printable("a\x1b[2Jb\n")
        'a\\x1b[2Jb\\n'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def _least_width(column: Sequence[str]) -> int:
    longest = max(map(len, column))
    return min(longest, _NARROWEST) if any(", " in one for one in column) else longest


def _drawn_by_rich(head: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO) -> bool:
    try:
        from rich.console import Console as RichConsole
        from rich.table import Table
    except ImportError:
        return False
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    widths = [_least_width(column) for column in zip(head, *rows, strict=True)]
    for word, width in zip(head, widths, strict=True):
        table.add_column(word, min_width=width)
    for row in rows:
        table.add_row(*row)
    console = RichConsole(file=file, markup=False, emoji=False, highlight=False)
    # The terminal breaks lines that are too long; rich would cut them.
    console.width = max(console.width, sum(widths) + 2 * len(widths) - 2)
    console.print(table)
    return True
