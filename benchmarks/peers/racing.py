"""One process for each system, each warm, which take turns in an order that is new in every round."""

import json
import os
import random
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any, Final, Self, final

from attrs import define, field

from .cases import CASES, Case
from .systems import ROOT, Peer

SETTINGS: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "KERAS_BACKEND": "torch"}
"""The environment variables of every worker."""


class WorkerError(RuntimeError):
    """A worker could not do what it was asked for."""


@final
class Worker:
    """A process that measures one system."""

    def __init__(self, peer: Peer) -> None:
        self._process = subprocess.Popen(
            command(peer, "serve"), cwd=ROOT, env=os.environ | SETTINGS, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, order: str, case: Case, **keywords: object) -> Any:
        """What the worker answers.

        Raises:
            WorkerError: if it could not do it.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"order": order, "case": case, **keywords}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["answer"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()


@final
@define(kw_only=True)
class Found:
    """What is found out about one system."""

    peer: Peer
    faults: list[str] = field(factory=list[str])
    """What is wrong with what it trains; nothing if its weights are equal and its hooks were called as they should."""
    checked: set[Case] = field(factory=set[Case])
    """The cases without a fault: the others are not timed."""
    ratios: dict[Case, list[float]] = field(factory=dict[Case, list[float]])
    """To the hand-written loop, of each round."""
    calls: dict[Case, float] = field(factory=dict[Case, float])
    """Python calls of a step."""
    starts: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    """What each of several fresh processes said of its start."""

    def start(self, what: str) -> float:
        """The median of the starts."""
        return float(median(one[what] for one in self.starts))


def command(peer: Peer, act: str) -> list[str]:
    return [str(peer.python), "-m", f"{__package__}.worker", peer.name, act]


def start(found: Found) -> None:
    """Start a system in a process of its own, which ends."""
    environment = os.environ | SETTINGS
    done = subprocess.run(
        command(found.peer, "start"), check=False, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE
    )
    if done.returncode:
        found.faults.append("does not start")
    else:
        found.starts.append(json.loads(done.stdout))


def measure(peers: Iterable[Peer], *, rounds: int, starts: int, cases: Sequence[Case] = CASES) -> list[Found]:
    """Check every system in every case; then let them take turns with those that are right."""
    everything = [Found(peer=peer) for peer in peers]
    for _ in range(starts):
        for found in everything:
            start(found)
    with ExitStack() as stack:
        started = [found for found in everything if found.starts]
        workers = {found.peer: stack.enter_context(Worker(found.peer)) for found in started}
        for found in started:
            for case in cases:
                check(found, workers[found.peer], case)
            print(f"{found.peer.title}: {'; '.join(found.faults) or 'trains the same'}", flush=True)
        turns = random.Random(0)
        for count in range(rounds):
            turns.shuffle(started)
            for case in cases:
                take_turns(started, workers, case, by_hand_first=turns.random() < 0.5)
            print(f"Round {count + 1} of {rounds}.", flush=True)
    return everything


def check(found: Found, worker: Worker, case: Case) -> None:
    """Whether a case may be timed; if so, its calls are counted."""
    try:
        faults: list[str] = worker.ask("check", case)
        if not faults:
            found.calls[case] = worker.ask("calls", case)
            found.checked.add(case)
    except WorkerError as error:
        faults = [str(error)]
    found.faults += [f"{case.name}: {fault}" for fault in faults]


def take_turns(started: Sequence[Found], workers: Mapping[Peer, Worker], case: Case, *, by_hand_first: bool) -> None:
    """Time a case once with every system; the checks have warmed it up."""
    for found in started:
        if case in found.checked:
            ratio = workers[found.peer].ask("ratio", case, by_hand_first=by_hand_first)
            found.ratios.setdefault(case, []).append(ratio)
