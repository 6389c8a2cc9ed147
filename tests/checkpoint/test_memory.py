"""Saves that come faster than the store takes them cost two copies of the state, and reading it costs one."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux")
def test_memory_stays_within_the_buffers(tmp_path: Path) -> None:
    """Keeps P31."""
    command = [sys.executable, "-m", "tests.checkpoint.memory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    state, saving, reading = map(float, done.stdout.split())
    assert state <= saving <= 2 * state + 64
    assert state <= reading <= state + 64
