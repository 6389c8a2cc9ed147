"""A hook that copies files of the machine into the folder of the run."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import final

from attrs import evolve, field, frozen

from trainhooks.core import (
    BatchEnd,
    EpochEnd,
    HookSet,
    Run,
    TrainBegin,
    TrainEnd,
    Trigger,
    alternatives,
    every,
    factory,
    joined,
    stateful,
)
from trainhooks.core import (
    when as only_when,
)
from trainhooks.errors import HookDefinitionError, shown
from trainhooks.store import Experiment, PartialDestination, Store, open_store, probe, resolve_destination

from .artifacts import Passing, Paths, chunks_of, paths_of, tidy_name

LARGE = 16 << 20
"""Bytes from which on a file that only grows is not sent at every point."""
GROWTH = 1.125
"""By how much it has to have grown."""


_THE_EXPERIMENTS = PartialDestination()


@final
@frozen(kw_only=True)
class Sent:
    """A file as it was when it was sent."""

    size: int
    """In bytes."""
    modified: int
    """When it was changed before, in nanoseconds since 1970."""
    sha256: str
    """Of its content."""


@final
@frozen(kw_only=True)
class Uploads:
    """What `upload` has sent."""

    sent: Mapping[str, Sent] = field(factory=dict[str, Sent])
    """The files, by their keys in the run's folder."""
    missing: tuple[str, ...] = ()
    """The paths of which it was said that nothing is there."""
    begun: bool = False
    """Whether the place to send to was tried."""


@factory
def upload(
    paths: Paths, *, when: Trigger = every(1, "epochs"), destination: PartialDestination = _THE_EXPERIMENTS
) -> HookSet:
    """Copy files into the run's folder, under `artifacts/`, at some of its points and at its end, however it ends.

    A file is named as it is; one that a pattern found, by its path from the pattern's last fixed folder, so that
    `logs/**` gives `artifacts/a/b.log` for `logs/a/b.log`. It is replaced as a whole: what can be read is always one
    state of it. A file that did not change (size and time, else sha256) is not sent again. Objects cannot be appended
    to, so a file that grew is sent whole: n times for a log over n points. From 16 MiB on, a file that only grew is
    therefore sent again when it has grown by an eighth, and at the end, so that all of it is sent at most about ten
    times. For records as they come, write files that are finished once they are written. Only rank 0 sends.

    Args:
        paths: A path or several; `~`, and patterns with `*`, `?`, `[...]` and `**`, looked for anew at each point. What
            is not there yet is left out, with one warning.
        when: The points, in any unit.
        destination: Where to, as far as it differs from the experiment's: in another bucket or root, a folder of the
            same run.

    Raises:
        HookDefinitionError: if an argument is none of these; in the run, if a path is a folder, or if two files would
            have one name.
        NoExperimentError: when the run starts, if something of the destination is missing and it has no experiment.
        StorageError: when the run starts, if the destination cannot be written; in the run, if a file cannot be.
        OSError: in the run, if a file cannot be read.

    Example:
        >>> upload(["training.log", "plots/**/*.png"], when=every(500, "updates"))
        upload(paths=['training.log', 'plots/**/*.png'], when=every(500, 'updates'))
    """
    patterns = paths_of("upload", "paths", paths)
    if not patterns:
        raise HookDefinitionError("upload takes paths, one or several, got none.")
    if not isinstance(when, Trigger):
        raise HookDefinitionError(f"upload takes when as a trigger, such as every(1, 'epochs'), got {shown(when)}.")
    if not isinstance(destination, PartialDestination):
        raise HookDefinitionError(f"upload takes destination as a PartialDestination(...), got {shown(destination)}.")

    def begin(ctx: TrainBegin, state: Uploads) -> tuple[Uploads, None]:
        folder = _folder(ctx.run, destination)
        if destination != _THE_EXPERIMENTS:  # the experiment's own place was tried
            probe(folder)
        _found(patterns, folder)
        return evolve(state, begun=True, sent=_still_there(state.sent, folder) if ctx.resumed else state.sent), None

    def send(ctx: EpochEnd | BatchEnd, state: Uploads) -> tuple[Uploads, None]:
        return _send(_folder(ctx.run, destination), patterns, state, at_the_end=False), None

    def finish(ctx: TrainEnd, state: Uploads) -> tuple[Uploads, None]:
        return _send(_folder(ctx.run, destination), patterns, state, at_the_end=True) if state.begun else state, None

    rank_0 = frozenset({0})
    sets: list[HookSet] = [stateful("upload", Uploads, ranks=rank_0, on_train_begin=begin, on_train_end=finish)]
    for part in alternatives(when):
        if "epochs" in part.rule.points:
            sets += only_when(part, stateful("upload", Uploads, on_epoch_end=send))
        else:
            sets += only_when(part, stateful("upload", Uploads, on_batch_end=send))
    return joined(*sets)


def _folder(run: Run, destination: PartialDestination) -> Store:
    experiment = run.experiment if isinstance(run.experiment, Experiment) else None
    return open_store(resolve_destination(destination, experiment, infer_cloud=True)).at(run.run_id)


def _still_there(sent: Mapping[str, Sent], folder: Store) -> dict[str, Sent]:
    """What a run that goes on can leave as it is: the process before it may have sent more, or elsewhere."""
    sizes = {one.key: one.size for one in folder.list("artifacts")}
    return {key: one for key, one in sent.items() if sizes.get(key) == one.size}


def _send(folder: Store, patterns: Sequence[str], state: Uploads, *, at_the_end: bool) -> Uploads:
    sent = dict(state.sent)
    files, absent = _found(patterns, folder)
    for key, path in files.items():
        try:
            sent[key] = _sent(folder, key, path, sent.get(key), at_the_end=at_the_end)
        except FileNotFoundError:
            absent.append(str(path))
    missing = [path for path in absent if path not in state.missing]
    if missing:
        warnings.warn(f"upload found nothing at {', '.join(missing)}; it is left out.", RuntimeWarning, stacklevel=2)
    return evolve(state, sent=sent, missing=(*state.missing, *missing))


def _sent(folder: Store, key: str, path: Path, before: Sent | None, *, at_the_end: bool) -> Sent:
    """Send a file if need be; what it is now, as far as it is sent."""
    status = path.stat()
    size, modified = status.st_size, status.st_mtime_ns
    if before is not None and not at_the_end:
        same = (size, modified) == (before.size, before.modified)
        if same or (size > LARGE and before.size < size < GROWTH * before.size):
            return before
    if before is not None and size == before.size and _digest(path, size) == before.sha256:
        return evolve(before, modified=modified)
    passing = Passing(chunks_of(path, size))
    folder.put(key, passing)
    return Sent(size=passing.size, modified=modified, sha256=passing.sha256)


def _digest(path: Path, size: int) -> str:
    passing = Passing(chunks_of(path, size))
    for _ in passing:
        pass
    return passing.sha256


def _found(patterns: Sequence[str], folder: Store) -> tuple[dict[str, Path], list[str]]:
    """The files by their keys, whether they are there or not, and the patterns that found none."""
    files, nothing = dict[str, Path](), list[str]()
    for pattern in patterns:
        path = Path(pattern).expanduser()
        fixed = _is_fixed(path)
        matches = [(path, path.parent)] if fixed else list(_matches(path, folder))
        for match, base in matches:
            if fixed and match.is_dir():
                raise HookDefinitionError(f"upload takes files, and {pattern!r} is a folder; write '{pattern}/**'.")
            key = "/".join(["artifacts", *(tidy_name(part) for part in match.relative_to(base).parts)])
            other = files.setdefault(key, match)
            if other.absolute() != match.absolute():
                raise HookDefinitionError(
                    f"upload would give {str(other)!r} and {str(match)!r} one name, {key!r}; find them by one pattern "
                    "that begins above both."
                )
        if not matches:
            nothing.append(pattern)
    return files, nothing


def _is_fixed(path: Path) -> bool:
    return path.exists() or not any(_is_pattern(part) for part in path.parts)


def _is_pattern(part: str) -> bool:
    return any(sign in part for sign in "*?[")


def _matches(path: Path, folder: Store) -> Iterator[tuple[Path, Path]]:
    """The files that a pattern finds, each with the folder from which it is named; none of the run's own folder."""
    first = next(place for place, part in enumerate(path.parts) if _is_pattern(part))
    base, own = Path(*path.parts[:first]), Path(folder.url)
    for match in sorted(Path(one) for one in glob(str(path), recursive=True)):
        if match.is_file() and not match.resolve().is_relative_to(own):
            yield match, base
