"""Checkpoints: the state of a run as one value, written whole or invisible, kept by policies, and read back checked."""

from .attempts import Attempt, begin_attempt
from .config import config_of, differences, versions
from .manifest import Manifest
from .meeting import find_start_together
from .placing import Like, Path, placed
from .pooling import part_of
from .reading import NoEntryError, manifests_of, newest_whole, read, verify
from .resume import Resume, Start, find_start, mark_preempted, runs_of, unmark, write_facts
from .retention import best_of
from .retiring import sweep
from .saver import BATCH_SIZE, FED, JUDGED, POSITION, CheckpointSaver
from .shards import is_sharded
from .states import restored_state, saved_state
from .tree import AVERAGES, entry_of
from .writer import Writer

__all__ = [
    "AVERAGES",
    "Attempt",
    "BATCH_SIZE",
    "CheckpointSaver",
    "FED",
    "JUDGED",
    "Like",
    "Manifest",
    "NoEntryError",
    "POSITION",
    "Path",
    "Resume",
    "Start",
    "Writer",
    "begin_attempt",
    "best_of",
    "config_of",
    "differences",
    "entry_of",
    "find_start",
    "find_start_together",
    "is_sharded",
    "manifests_of",
    "mark_preempted",
    "newest_whole",
    "part_of",
    "placed",
    "read",
    "restored_state",
    "runs_of",
    "saved_state",
    "sweep",
    "unmark",
    "verify",
    "versions",
    "write_facts",
]
