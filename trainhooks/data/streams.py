"""The global random streams of python, numpy and torch's CPU, while samples are read.

What a dataset draws there depends on the seed, the epoch and the sample alone, and leaves nothing behind.
"""

import hashlib
import random
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

_64_BITS = 0xFFFF_FFFF_FFFF_FFFF


def word_of(*facts: int | str) -> int:
    """64 bits that depend on the facts and on nothing else, in any process and on any machine."""
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=8).digest(), "big")


def nth_word(base: int, index: int) -> int:
    """64 bits, other ones for every index: the splitmix64 generator, at a place; cheaper than `word_of`."""
    word = (base + index * 0x9E37_79B9_7F4A_7C15) & _64_BITS
    word = ((word ^ (word >> 30)) * 0xBF58_476D_1CE4_E5B9) & _64_BITS
    word = ((word ^ (word >> 27)) * 0x94D0_49BB_1331_11EB) & _64_BITS
    return word ^ (word >> 31)


def seed_streams(word: int) -> None:
    """Begin the streams anew.

    Numpy gets the upper half, and torch uses only the lower one: both run the Mersenne Twister, and with one seed
    they would give one sequence.
    """
    random.seed(word)
    torch.default_generator.manual_seed(word)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(word >> 32)


@contextmanager
def streams_put_back() -> Generator[None]:
    """On leaving, the streams are what they were, also on exceptions."""
    numpy: Any = sys.modules.get("numpy")
    of_python, of_torch = random.getstate(), torch.get_rng_state()
    of_numpy = None if numpy is None else numpy.random.get_state()
    try:
        yield
    finally:
        random.setstate(of_python)
        torch.set_rng_state(of_torch)
        if numpy is not None:
            numpy.random.set_state(of_numpy)
