"""`trainhooks runs rm`: the end of a run's folder."""

import sys
from collections.abc import Sequence

from attrs import evolve

from trainhooks.sinks import printable
from trainhooks.store import open_store

from .exits import BAD, GOOD, UsageError
from .finding import ATTEMPTS, BESIDE, DATA, FACTS, MANIFESTS, Found, is_of_a_run, the_run
from .numbers import print_json, several, size

ORDER = (MANIFESTS, DATA, *BESIDE, ATTEMPTS, FACTS)
"""What goes first: without manifests nobody reads the data, and with `run.json` it can be found and removed again."""


def remove_run(url: str, as_json: bool, sure: bool) -> int:
    """Remove the run in a folder, if the user is sure.

    Raises:
        UsageError: if there is no such run, or nobody can be asked.
    """
    found = _seen_from_above(the_run(url))
    if not (sure or _asked(found)):
        print("Nothing was removed.", file=sys.stderr)
        return BAD
    removed = remove(found)
    left = [one.key for one in found.store.list()]
    if as_json:
        print_json({"url": found.store.url, "removed": removed, "left": left})
    else:
        print(f"Removed {several(len(removed), 'object')} of {printable(found.store.url)}.")
        for key in left:
            print(f"left there: {printable(key)}")
    return BAD if any(is_of_a_run(key) for key in left) else GOOD


def remove(found: Found) -> Sequence[str]:
    """Remove what trainhooks wrote into a run's folder, as it was listed; what else is there stays.

    Returns:
        The keys, in the order in which they were removed.
    """
    gone: list[str] = []
    for kind in ORDER:
        keys = sorted(key for key in found.objects if key.startswith(kind) and is_of_a_run(key))
        found.store.delete(keys)
        gone += keys
    return gone


def _seen_from_above(found: Found) -> Found:
    """The same folder as a part of the one above it, if it is local: so it goes with the last object in it."""
    above, _, name = found.store.url.rpartition("/")
    return found if "://" in above else evolve(found, store=open_store(above or "/").at(name))


def _asked(found: Found) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"{found.store.url} is removed only if you say so: in a terminal, or by --yes.")
    count = sum(key.startswith(MANIFESTS) for key in found.objects)
    amount = size(sum(found.objects.values()))
    question = f"Remove {printable(found.store.url)}, {several(count, 'checkpoint')}, {amount}? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
