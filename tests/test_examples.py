"""The examples do what they say, as a newcomer runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def said_by(example: str, folder: Path) -> str:
    """What an example prints when it is run in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_the_demo_learns_the_digits_and_leaves_its_metrics_and_a_picture(tmp_path: Path) -> None:
    said = said_by("digits.py", tmp_path)
    assert re.search(r"on_epoch_end +gap, smoothed_loss, early_stopping, progress\n", said)
    assert len(re.findall(r"^epoch \d+/20  train/loss .* val/acc ", said, re.MULTILINE)) > 5
    accuracy = re.search(r"Test accuracy: ([\d.]+)%", said)
    assert accuracy is not None
    assert float(accuracy[1]) >= 97
    assert "trainhooks/loop/reference.py" in said.splitlines()[-1]
    (folder,) = (tmp_path / "runs" / "digits").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["curves.png", "metrics.csv"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    columns = (folder / "metrics.csv").read_text().splitlines()[0]
    assert columns == "epoch,updates,batches,train/loss,val/loss,val/acc,gap,smooth"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_character_model_beats_a_table_of_pairs(tmp_path: Path) -> None:
    said = said_by("characters.py", tmp_path)
    table, network = (float(bits) for bits in re.findall(r"([\d.]+) bits per character", said))
    assert 3.0 < table < 4.5
    assert network < table - 0.4
