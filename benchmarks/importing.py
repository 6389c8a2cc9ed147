"""What `import trainhooks` costs on top of `import torch`: whole processes, and where the difference goes."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from .timing import Times

TORCH: Final = "import torch"
TRAINHOOKS: Final = "import trainhooks"
UNCOLLECTED: Final = "import gc; gc.disable(); "
"""Importing much makes Python look through all that torch has made, at a moment that each further import moves."""


def import_times(rounds: int) -> Times:
    """Processor seconds of whole processes, in turn; a first round warms the file cache and is not counted."""
    statements = [before + after for before in ("", UNCOLLECTED) for after in (TORCH, TRAINHOOKS)]
    times: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(1 + rounds):
        for statement, taken in times.items():
            before = _of_children()
            subprocess.run([sys.executable, "-c", statement], check=True, env=_with_byte_code())
            taken.append(_of_children() - before)
    return {statement: taken[1:] for statement, taken in times.items()}


def _with_byte_code() -> dict[str, str]:
    """This environment, in which Python keeps what it compiled: installed packages come compiled, a clone does not."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def shares_of_import() -> Mapping[str, float]:
    """What imports on top of torch cost, by package, as shares of torch's own import; dearest first."""
    statement = [sys.executable, "-X", "importtime", "-c", f"{UNCOLLECTED}{TORCH}; {TRAINHOOKS}"]
    log = subprocess.run(statement, check=True, capture_output=True, text=True, env=_with_byte_code()).stderr
    return shares_in(log)


def shares_in(log: str) -> Mapping[str, float]:
    """The same from the log of `-X importtime`, which names a module once what it imports is done."""
    spent: Counter[str] = Counter()
    torch = 0
    for alone, cumulative, name in _modules(log):
        if torch:
            spent[_package(name)] += alone
        elif name == "torch":
            torch = cumulative
    return {name: micros / torch for name, micros in spent.most_common()}


def _modules(log: str) -> Iterator[tuple[int, int, str]]:
    """Microseconds in a module alone, microseconds with what it imports, its name."""
    for line in log.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            yield int(parts[0]), int(parts[1]), parts[2].strip()


def _package(module: str) -> str:
    """`trainhooks.loop.live` stands under `trainhooks.loop`, anything else under its top."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "trainhooks" else parts[0]
