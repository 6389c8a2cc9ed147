"""A process that measures one system in that system's environment, by hand beside it.

`python -m benchmarks.peers.worker NAME start` imports the system, trains once and says what that took.
`python -m benchmarks.peers.worker NAME serve` reads an order from each line of its input and answers with a line. Both
speak JSON, and what a system prints goes nowhere.
"""

import gc
import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, TextIO, cast

from .cases import Case
from .systems import PEERS, Peer

if TYPE_CHECKING:
    from .driver import System


def main() -> None:
    _, name, act = sys.argv
    out = answers_alone()
    warnings.simplefilter("ignore")
    peer = next(one for one in PEERS if one.name == name)
    if act == "start":
        say(out, started(peer))
        return
    gc.freeze()
    for line in sys.stdin:
        try:
            say(out, {"answer": answer(peer, **json.loads(line))})
        except Exception as error:  # a system may raise what it likes: it is an answer too
            say(out, {"error": f"{type(error).__name__}: {error}"})


def answers_alone() -> TextIO:
    """What standard output was; from here on it leads nowhere, and so do errors."""
    out = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return out


def say(out: TextIO, answer: object) -> None:
    print(json.dumps(answer), file=out, flush=True)


def system_of(peer: Peer) -> "System":
    return cast("System", importlib.import_module(f"{__package__}.by_{peer.name}"))


def started(peer: Peer) -> dict[str, Any]:
    """Import time beside torch's own, and the memory that a small training takes."""
    began = time.process_time()
    importlib.import_module("torch")
    there = time.process_time()
    for module in peer.imports:
        importlib.import_module(module)
    ended = time.process_time()

    from .measuring import seconds_a_step

    seconds_a_step(system_of(peer), Case("tiny"))
    return {
        "import": (ended - there) / (there - began),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": importlib.metadata.version(peer.package),
        "torch": importlib.metadata.version("torch"),
    }


def answer(peer: Peer, order: str, case: list[Any], by_hand_first: bool = True) -> object:
    """Do what is asked for with one case."""
    import torch

    from .checking import TOLERANCE, faults
    from .measuring import calls_a_step, ratio

    torch.set_num_threads(1)
    system, one = system_of(peer), Case(*case)
    match order:
        case "check":
            return faults(system, one, tolerance=0.0 if peer.is_exact else TOLERANCE)
        case "calls":
            return calls_a_step(system, one)
        case "ratio":
            return ratio(system, one, by_hand_first=by_hand_first)
        case _:
            raise ValueError(order)


if __name__ == "__main__":
    main()
