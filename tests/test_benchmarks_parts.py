"""The benchmarks of parts run: every part is called once, and nothing is timed."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_part_runs() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "benchmarks/parts.py"]
    done = subprocess.run([*command, "--benchmark-disable"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"\d\d passed in .*", done.stdout.splitlines()[-1]), done.stdout
