"""Where the runs are in a store: below a root, a project or an experiment, or at the very place that was named."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import final

from attrs import frozen

from trainhooks.store import ObjectInfo, Store, open_store, parse_manifest_key

from .exits import UsageError

FACTS = "run.json"
ATTEMPTS = "attempts/"
MANIFESTS = "manifests/"
DATA = "ckpt/"
BESIDE = ("artifacts/", "records/")
"""Where hooks put what they leave beside checkpoints."""

_ATTEMPT = re.compile(r"attempts/[0-9]{6,}\.json")


@final
@frozen(kw_only=True, eq=False)
class Found:
    """A run's folder, as it was listed."""

    store: Store
    """The folder."""
    below: str
    """Where it is below the place that was named; empty if it is that place."""
    objects: Mapping[str, int]
    """The size in bytes of every object in it, by key."""

    @property
    def run_id(self) -> str:
        """The name of the folder."""
        return self.store.url.rpartition("/")[2]


def find_runs(url: str) -> list[Found]:
    """The runs at a place or below it, sorted by where they are.

    Raises:
        UsageError: if there is none.
        StorageError: if the place cannot be listed.
    """
    store = open_store(url)
    found = runs_in(store)
    if not found:
        raise UsageError(f"There is no run in {store.url}.")
    return found


def runs_in(store: Store) -> list[Found]:
    """The runs in a store, sorted by where they are."""
    objects = store.list()
    inside: defaultdict[str, dict[str, int]] = defaultdict(dict)
    folders = folders_of(one.key for one in objects)
    for one, folder in _owned(objects, folders):
        inside[folder][one.key.removeprefix(f"{folder}/")] = one.size
    return [Found(store=store.at(one), below=one, objects=inside[one]) for one in sorted(folders)]


def newest_run(url: str) -> Found:
    """The run at a place, or the newest of the experiment there.

    Raises:
        UsageError: if there is none, or the place has several experiments.
    """
    found = find_runs(url)
    experiments = sorted({one.below.rpartition("/")[0] for one in found})
    if len(experiments) > 1:
        raise UsageError(f"{url} has the runs of several experiments; name one of {', '.join(experiments)}.")
    return max(found, key=lambda one: one.run_id)


def the_run(url: str) -> Found:
    """The run at the very place that was named.

    Raises:
        UsageError: if there is none, or the runs are below the place.
    """
    found = find_runs(url)
    if found[0].below:
        raise UsageError(f"{url} is not a run's own folder. Name one: {', '.join(one.store.url for one in found)}.")
    return found[0]


def folders_of(keys: Iterable[str]) -> frozenset[str]:
    """The folders that are those of runs, by what is in them. No run is inside another.

    Example:
        >>> sorted(folders_of(["digits/cnn/1/run.json", "digits/cnn/2/attempts/000001.json", "digits/notes.txt"]))
        ['digits/cnn/1', 'digits/cnn/2']
    """
    folders = {folder for key in keys if (folder := _folder_by(key)) is not None}
    above = {parent for folder in folders for parent in _parents(folder)}
    return frozenset(folders - above)


def is_of_a_run(key: str) -> bool:
    """Whether an object in a run's folder is one of those that trainhooks writes there."""
    return key == FACTS or key.startswith((ATTEMPTS, MANIFESTS, DATA, *BESIDE))


def _folder_by(key: str) -> str | None:
    """The folder of the run of which an object tells."""
    above, _, name = key.rpartition("/")
    if name == FACTS:
        return above
    further, _, last = above.rpartition("/")
    tells = _ATTEMPT.fullmatch(f"{last}/{name}") is not None or parse_manifest_key(f"{last}/{name}") is not None
    return further if tells else None


def _parents(folder: str) -> Iterator[str]:
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def _owned(objects: Iterable[ObjectInfo], folders: frozenset[str]) -> Iterator[tuple[ObjectInfo, str]]:
    for one in objects:
        folder = next((above for above in _parents(one.key) if above in folders), None)
        if folder is not None:
            yield one, folder
