"""The command line: `trainhooks explain` and `trainhooks runs`."""

from .entry import main

__all__ = ["main"]
