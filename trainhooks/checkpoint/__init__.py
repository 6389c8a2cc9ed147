"""Checkpoints: the state of a run as one value, written whole or invisible, kept by policies, and read back checked."""

from .attempts import Attempt, begin_attempt
from .config import config_of, differences, versions
from .manifest import Manifest
from .reading import manifests_of, newest_whole, read, verify
from .resume import Resume, Start, find_start, runs_of, write_facts
from .retention import best_of
from .retiring import sweep
from .saver import POSITION, CheckpointSaver
from .states import restored_state, saved_state
from .writer import Writer

__all__ = [
    "Attempt",
    "CheckpointSaver",
    "Manifest",
    "POSITION",
    "Resume",
    "Start",
    "Writer",
    "begin_attempt",
    "best_of",
    "config_of",
    "differences",
    "find_start",
    "manifests_of",
    "newest_whole",
    "read",
    "restored_state",
    "runs_of",
    "saved_state",
    "sweep",
    "verify",
    "versions",
    "write_facts",
]
