"""Measure every system that is there, print it, and write it to RESULTS.md and peers.svg."""

import argparse
import time

from ..report import RESULTS, write_peers
from . import systems
from .environments import failure
from .racing import measure
from .report import drawn, section


def main() -> None:
    names = [peer.name for peer in systems.PEERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each system runs each case")
    parser.add_argument("--only", nargs="+", default=names, choices=names, help="systems; nothing is written then")
    chosen = parser.parse_args()
    began = time.perf_counter()
    peers: list[systems.Peer] = []
    absent = dict(systems.ABSENT)
    for peer in systems.PEERS:
        if peer.environment is not None and (why := failure(peer.environment)):
            absent[peer.title] = why
        elif peer.name in chosen.only:
            peers.append(peer)
    everything = measure(peers, rounds=chosen.rounds, starts=min(chosen.rounds, 5))
    text = section(everything, absent)
    print(text)
    if chosen.only == names:
        write_peers(text)
        RESULTS.with_name("peers.svg").write_text(drawn(everything))
    print(f"\nMeasured in {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
