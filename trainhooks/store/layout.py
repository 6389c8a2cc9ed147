"""Where the objects of a run are: pure functions between what they are and their keys.

A run's folder is `<root>/<project>/<experiment>/<run id>/`, in a bucket or on a disk. In it:

    run.json                                  create-only: what never changes of the run
    attempts/000001.json                      create-only: one for each start of a process
    manifests/0000001200-000001.json          create-only: one for each checkpoint, written last
    ckpt/0000001200-000001-<nonce>/...        the data of a checkpoint, under keys that are never used again
    artifacts/<name>...                       files, results and source that hooks keep
    records/000001.jsonl                      segments of what the run recorded
"""

import hashlib
import os
import re
from datetime import UTC, datetime

_OTHER = re.compile(r"[^A-Za-z0-9._=-]+")
_MANIFEST = re.compile(r"manifests/([0-9]{10,})-([0-9]{6,})(?:-([1-9][0-9]*))?\.json")
_STAGED = re.compile(r"#\d+\Z")
_LONGEST = 100


def new_run_id(now: datetime, entropy: bytes | None = None) -> str:
    """Make an id that no other run has. Ids sort as the runs began, to within 16 microseconds.

    Args:
        now: When the run begins.
        entropy: Two random bytes; drawn from the system if None. No seed has a say in them.

    Example:
        >>> new_run_id(datetime(2026, 11, 23, 3, 41, microsecond=500_000, tzinfo=UTC), bytes.fromhex("3c4d"))
        '20261123T034100Z-80003c4d'
    """
    now = now.astimezone(UTC)
    fraction = now.microsecond * 0x10000 // 1_000_000
    random = (os.urandom(2) if entropy is None else entropy).hex()
    return f"{now:%Y%m%dT%H%M%S}Z-{fraction:04x}{random}"


def slug(name: str) -> str:
    """A name as a part of keys: of `A-Z a-z 0-9 . _ = -` alone, and different for different names.

    Example:
        >>> slug("resnet-50"), slug("größer & besser")
        ('resnet-50', 'gr-er-besser-282bbaef')
    """
    kept = _OTHER.sub("-", name)[:_LONGEST]
    if kept == name and kept.strip("."):
        return name
    return f"{kept.strip('.-') or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def manifest_key(step: int, attempt: int, serial: int = 0) -> str:
    """Where the manifest of a checkpoint is. Keys sort by step, then by attempt.

    Args:
        step: The update count.
        attempt: Which start of a process made it, from 1.
        serial: From 1, if it repeats an earlier checkpoint of the same step and attempt.

    Example:
        >>> manifest_key(1200, 1), manifest_key(1200, 1, serial=2)
        ('manifests/0000001200-000001.json', 'manifests/0000001200-000001-2.json')
    """
    return f"manifests/{step:010d}-{attempt:06d}{f'-{serial}' if serial else ''}.json"


def parse_manifest_key(key: str) -> tuple[int, int, int] | None:
    """Step, attempt and serial of a manifest's key; None for any other key.

    Example:
        >>> parse_manifest_key("manifests/0000001200-000001-2.json")
        (1200, 1, 2)
    """
    match = _MANIFEST.fullmatch(key)
    if match is None:
        return None
    step, attempt, serial = (int(digits or 0) for digits in match.groups())
    return (step, attempt, serial) if manifest_key(step, attempt, serial) == key else None


def data_prefix(step: int, attempt: int, nonce: str) -> str:
    """The folder of a checkpoint's data, with a slash at its end.

    Example:
        >>> data_prefix(1200, 1, "a1b2c3d4")
        'ckpt/0000001200-000001-a1b2c3d4/'
    """
    return f"ckpt/{step:010d}-{attempt:06d}-{nonce}/"


def joined(*parts: str) -> str:
    """Join folders and a key; parts may be empty or have slashes at their ends.

    Example:
        >>> joined("models/", "", "digits", "run.json")
        'models/digits/run.json'
    """
    return "/".join(bare for part in parts if (bare := part.strip("/")))


def fault_of_key(key: str, *, new: bool = False) -> str | None:
    """Why an object cannot have this key, or a new object; None if it can."""
    parts = key.split("/")
    if "" in parts:
        return "a part of it is empty"
    if "." in parts or ".." in parts:
        return "'.' and '..' are no names"
    if new and _STAGED.search(key):
        return "names that end in '#' and digits are those of unfinished files"
    return None
