"""A hook that keeps what a run was made with: its script, its source, its hyperparameters and its environment."""

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import cast

import torch

from trainhooks.core import HookSet, TrainBegin, factory, says_itself
from trainhooks.errors import RunDefinitionError
from trainhooks.store import Experiment, Store, stored

from .arguments import check_count
from .artifacts import Paths, Piece, as_json, experiment_of, newest_index, paths_of, publish, run_folder, tidy_name

NAME = "source"
"""Of the artifact."""
_LEFT_OUT = ("__pycache__", "node_modules")
_GIT_SECONDS = 20.0


@factory
def save_source(folders: Paths = (), *, packages: bool = True, max_bytes: int = 50_000_000) -> HookSet:
    """Save what a run is made with, when it begins; when it goes on, only if something changed.

    It is in the run's folder under `artifacts/source/`, whole or not to be seen. The newest `<serial>.json` there has
    the experiment's hyperparameters, the versions of python, torch and all installed packages, and, if the script is
    in a git repository, its commit and whether a tracked file differs from it. It names the files: the script (that of
    `__main__`, as it is on the disk now; a notebook has none), and `source.zip` with the given folders. Left out are
    names that begin with a dot (`.git`, `.env`), caches, virtual environments, folders behind links, and the
    experiment's root. Only rank 0 writes.

    Args:
        folders: A folder of source or several, each under its own name in the zip.
        packages: Whether to list the installed packages.
        max_bytes: How much the folders may hold together, so that no data set is taken for source.

    Raises:
        HookDefinitionError: if an argument is none of these.
        RunDefinitionError: when the run starts, if a folder is not there, two have one name, or they hold too much.
        NoExperimentError: when the run starts, if it has no experiment.
        StorageError: when the run starts, if something cannot be written.

    Example:
        >>> save_source("my_package", packages=False)
        save_source(folders='my_package', packages=False)
    """
    given = paths_of("save_source", "folders", folders)
    check_count("save_source", "max_bytes", max_bytes, 1)

    def on_train_begin(ctx: TrainBegin) -> None:
        experiment = experiment_of(ctx.run, "save_source")
        pieces = [*_script(), *_zipped(given, max_bytes, experiment)]
        facts = {"hyperparams": stored(experiment.hyperparams), **_environment(packages)}
        digest = _digest(pieces, facts)
        folder = run_folder(ctx.run, "save_source")
        if _newest_digest(folder) != digest:
            publish(folder, NAME, pieces, {**facts, "digest": digest})

    saving: HookSet = HookSet(name="save_source", ranks=frozenset({0}), on_train_begin=on_train_begin)
    return says_itself(saving, "save_source(folders) saves once, when the run begins.")


def _digest(pieces: Iterable[Piece], facts: Mapping[str, object]) -> str:
    """What is equal if and only if nothing changed."""
    whole = hashlib.sha256(as_json(facts))
    for piece in pieces:
        assert not isinstance(piece.data, Path)
        whole.update(hashlib.sha256(piece.name.encode()).digest() + hashlib.sha256(piece.data).digest())
    return whole.hexdigest()


def _newest_digest(folder: Store) -> object:
    newest = newest_index(folder, NAME)
    if newest is None:
        return None
    index: object = json.loads(bytes(folder.get(newest.key)))
    return cast("Mapping[str, object]", index).get("digest") if isinstance(index, Mapping) else None


def _main_file() -> Path | None:
    given: object = getattr(sys.modules.get("__main__"), "__file__", None)
    path = Path(given) if isinstance(given, str) else None
    return path if path is not None and path.is_file() else None


def _script() -> list[Piece]:
    path = _main_file()
    return [] if path is None else [Piece(path.name, f"script/{tidy_name(path.name)}", path.read_bytes())]


def _environment(packages: bool) -> dict[str, object]:
    facts: dict[str, object] = {"python": platform.python_version(), "torch": torch.__version__, "git": _git()}
    if packages:
        found: dict[str, str] = {}
        for one in distributions():
            metadata = cast("Mapping[str, str] | None", one.metadata)
            if metadata is not None and (name := metadata.get("Name")):
                found.setdefault(name, one.version)  # the first on the path is what is imported
        facts["packages"] = {name: found[name] for name in sorted(found, key=str.lower)}
    return facts


def _git() -> dict[str, object] | None:
    """The commit of the script's repository, or of the working directory's; None if there is none, or no git."""
    script = _main_file()
    where = Path.cwd() if script is None else script.absolute().parent
    commit = _output_of_git(where, "rev-parse", "HEAD")
    if not commit:
        return None
    changes = _output_of_git(where, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _output_of_git(where: Path, *arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # it reads alone
    try:
        done = subprocess.run(
            ["git", "-C", str(where), *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            check=True, timeout=_GIT_SECONDS, text=True, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _zipped(folders: Sequence[str], max_bytes: int, experiment: Experiment) -> list[Piece]:
    """The folders as one zip, the same bytes for the same files."""
    if not folders:
        return []
    files = _files_of(folders, Path(experiment.root).expanduser().resolve())
    _check_size(files, max_bytes)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            opened.writestr(entry, path.read_bytes())
    return [Piece("source.zip", "source.zip", written.getvalue())]


def _files_of(folders: Sequence[str], results: Path) -> dict[str, Path]:
    files, roots = dict[str, Path](), dict[str, str]()
    for folder in folders:
        root = Path(folder).expanduser().resolve()
        if not root.is_dir():
            raise RunDefinitionError(f"save_source was to save the source folder {folder!r}, and it is not there.")
        if root.name in roots:
            raise RunDefinitionError(
                f"save_source was to save {roots[root.name]!r} and {folder!r}, and both would be {root.name!r} in "
                "source.zip; give a folder above both."
            )
        roots[root.name] = folder
        files |= {f"{root.name}/{path.relative_to(root).as_posix()}": path for path in _walked(root, results)}
    return files


def _walked(root: Path, results: Path) -> Iterator[Path]:
    """The files of source under a folder, in one order everywhere."""
    for place, inside, names in os.walk(root):
        folder = Path(place)
        inside[:] = sorted(one for one in inside if _is_source(folder / one) and folder / one != results)
        for name in sorted(names):
            if not name.startswith(".") and not name.endswith(".pyc") and (folder / name).is_file():
                yield folder / name


def _is_source(folder: Path) -> bool:
    return not (folder.name.startswith(".") or folder.name in _LEFT_OUT or (folder / "pyvenv.cfg").is_file())


def _check_size(files: Mapping[str, Path], max_bytes: int) -> None:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if (total := sum(sizes.values())) > max_bytes:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        raise RunDefinitionError(
            f"The source folders of save_source hold {total:,} bytes, and max_bytes is {max_bytes:,}. The largest "
            f"files: {', '.join(f'{name} ({sizes[name]:,})' for name in largest)}. Give folders of source alone, or a "
            "greater max_bytes."
        )
