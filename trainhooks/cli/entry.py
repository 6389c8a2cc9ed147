"""The program: reads its arguments, carries out one command, and says by its exit code how that went.

Exit codes: 0 good, 1 something bad was found, 2 it could not be done.
"""

import io
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from trainhooks.errors import TrainhooksError

from .copying import copy_runs
from .details import show_run
from .exits import code_of
from .explaining import explain_hooks
from .overview import list_runs
from .removing import remove_run
from .verifying import verify_runs

INTERRUPTED = 130
NOT_READ_ON = 141

_PLACE = "a path or a URL such as s3://bucket/prefix: of a root of projects, a project, an experiment, or one run"
_CODES = "Exit codes: 0 good, 1 something bad was found, 2 it could not be done."


class _Verbs(Protocol):
    """What holds the verbs of a command."""

    def add_parser(self, name: str, /, *, help: str, description: str, epilog: str) -> ArgumentParser: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command.

    Args:
        argv: Its words; None for those of the process.

    Returns:
        The exit code. Wrong arguments end the process with 2, as argparse does.
    """
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of runs may be in any alphabet
    try:
        code: int = arguments.carry_out(arguments)
        sys.stdout.flush()
    except TrainhooksError as error:
        print(f"trainhooks: {error}", file=sys.stderr)
        return code_of(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads, such as head, has enough; what is left is not written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_READ_ON
    return code


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="trainhooks", description="What hooks do in a run, and what runs left.", epilog=_CODES)
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(required=True, metavar="command")
    explaining = _verb(
        commands, "explain", lambda given: explain_hooks(given.where),
        "Print which hooks are called on each event, in which order and why, and the loop that runs.",
    )  # fmt: skip
    explaining.add_argument(
        "where",
        metavar="module:hooks",
        help="hooks in a module: one, a list, a table, or a function that is called with nothing and returns them; "
        "modules are looked for in the current folder, too",
    )
    runs = commands.add_parser(
        "runs", help="Look at runs in a store, verify, remove or copy them.", epilog=_CODES,
        description="Runs in a store. Credentials and endpoints come from the environment, as in training.",
    )  # fmt: skip
    _add_verbs(runs.add_subparsers(required=True, metavar="verb"))
    return parser


def _version() -> str:
    """The version that is installed."""
    try:
        return version("trainhooks")
    except PackageNotFoundError:
        return "(not installed, so its version is not known)"


def _add_verbs(verbs: _Verbs) -> None:
    listing = _verb(verbs, "ls", lambda given: list_runs(given.url, given.json), "List runs, a row for each.")
    showing = _verb(
        verbs, "show", lambda given: show_run(given.url, given.json),
        "Show one run, or the newest of an experiment: its facts, attempts, checkpoints, and values over the steps.",
    )  # fmt: skip
    verifying = _verb(
        verbs, "verify", lambda given: verify_runs(given.url, given.json),
        "Read every object of every checkpoint and compare it with its digest; exit code 1 if one is damaged.",
    )  # fmt: skip
    removing = _verb(
        verbs, "rm", lambda given: remove_run(given.url, given.json, given.yes),
        "Remove a run: manifests first, then data. What trainhooks did not write stays.",
    )  # fmt: skip
    syncing = _verb(
        verbs, "sync", lambda given: copy_runs(given.source, given.target, given.json),
        "Copy runs to another store, under the same keys. Nothing is overwritten; if interrupted, start it again.",
    )  # fmt: skip
    for verb in (listing, showing, verifying):
        verb.add_argument("url", help=_PLACE)
    removing.add_argument("url", help="the run's own folder: a path or a URL")
    removing.add_argument("--yes", action="store_true", help="do not ask")
    syncing.add_argument("source", help=_PLACE)
    syncing.add_argument("target", help="where what is below the source goes")
    for verb in (listing, showing, verifying, removing, syncing):
        verb.add_argument("--json", action="store_true", help="print one JSON document, and nothing else")


def _verb(verbs: _Verbs, name: str, carry_out: Callable[[Namespace], int], what: str) -> ArgumentParser:
    parser = verbs.add_parser(name, help=what, description=what, epilog=_CODES)
    parser.set_defaults(carry_out=carry_out)
    return parser
