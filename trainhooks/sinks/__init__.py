"""Where results are shown: tables and bars in a terminal."""

from .terminal import Bar, Console, Terminal, printable, show_table, terminals

__all__ = ["Bar", "Console", "Terminal", "printable", "show_table", "terminals"]
