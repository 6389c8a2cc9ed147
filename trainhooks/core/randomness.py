"""Random numbers for hooks, from facts of the run: the global streams stay untouched."""

import hashlib
from typing import Protocol

import torch

from .progress import Progress, Rank


class _Run(Protocol):
    @property
    def seed(self) -> int | None: ...
    @property
    def rank(self) -> Rank: ...


class _Place(Protocol):
    @property
    def run(self) -> _Run: ...
    @property
    def at(self) -> Progress: ...


def generator_of(ctx: _Place, /, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on the run's seed, `name`, the rank and the progress, and on nothing else.

    Two calls with one name at one moment give generators with equal streams; use a name for each purpose. Without
    a `seed=` the run takes the seed of torch's global generator, which is read, not drawn from.
    """
    seed = torch.initial_seed() if ctx.run.seed is None else ctx.run.seed
    at = ctx.at
    facts = (seed, name, ctx.run.rank.index, at.updates, at.batches, at.epochs, at.epoch, at.batch)
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=8).digest()
    generator = torch.Generator(device)
    generator.manual_seed(int.from_bytes(digest, "big") >> 1)
    return generator
