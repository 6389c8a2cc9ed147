"""Makes the environments of the systems: `make bench-setup`, or `python -m benchmarks.peers.environments`.

Torch is installed once. Every other environment begins as a copy of that one, whose files are hard links, so that the
very same build is measured everywhere and takes its place once. An environment is made anew when what it asks for
changes, or when that failed.
"""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .systems import CONSTRAINTS, ENVIRONMENTS, FOLDER, ROOT

BASE: Final = "torch"
FAILED: Final = "failed"
"""A file with this name in an environment says why it could not be made."""


def main() -> None:
    """Make what is missing. What cannot be made is said, and the others are made all the same."""
    if why := make(BASE, ("torch",)):
        sys.exit(f"torch could not be installed: {why}")
    for name, requirements in ENVIRONMENTS.items():
        if why := make(name, requirements):
            print(f"{name} could not be installed: {why}")


def make(name: str, requirements: Sequence[str]) -> str:
    """Make one environment if it is not as asked for, and say why that failed; nothing if it is there."""
    folder = FOLDER / name
    asked = "\n".join([*requirements, torch_version(), CONSTRAINTS.read_text()])
    stamp = folder / "asked"
    if not stamp.exists() or stamp.read_text() != asked:
        print(f"Making .venv-bench/{name}.", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        if name == BASE:
            venv.create(folder, with_pip=True)
        else:
            shutil.copytree(FOLDER / BASE, folder, symlinks=True, copy_function=os.link)
            stamp.unlink()  # the base's
        why = install(folder, requirements)
        (folder / FAILED).write_text(why)
        if not why:
            stamp.write_text(asked)
    return failure(name)


def install(folder: Path, requirements: Sequence[str]) -> str:
    """Install into an environment; gives back what pip complained of last, or nothing."""
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    what = ["--constraint", str(CONSTRAINTS), *requirements, torch_version()]
    done = subprocess.run([*pip, *what], check=False, stderr=subprocess.PIPE, text=True)
    errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    return (errors or ["pip failed"])[-1] if done.returncode else ""


def torch_version() -> str:
    """The line of the repository's own constraints: every environment has the torch that trainhooks is tested with."""
    return next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))


def failure(name: str) -> str:
    """Why an environment cannot be used; nothing if it can."""
    file = FOLDER / name / FAILED
    return file.read_text() if file.exists() else "its environment is missing: make bench-setup"


if __name__ == "__main__":
    main()
