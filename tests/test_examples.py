"""The examples do what they say, as a newcomer runs them."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def said_by(example: str, folder: Path, *arguments: str, torchrun: int | None = None) -> str:
    """What an example prints when it is run in a folder, by python or in so many processes of torchrun."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"] if torchrun else []
    ended = subprocess.run(
        [sys.executable, *many, str(ROOT / "examples" / example), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo, run from begin to end: its folder and what it prints."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, said_by("digits.py", folder)


@pytest.mark.slow
def test_the_demo_learns_the_digits_and_leaves_its_metrics_and_a_picture(demo: tuple[Path, str]) -> None:
    place, said = demo
    assert re.search(r"on_epoch_end +gap, smoothed_loss, early_stopping, checkpoint, progress\n", said)
    assert len(re.findall(r"^epoch \d+/20  train/loss .* val/acc ", said, re.MULTILINE)) > 5
    accuracy = re.search(r"Test accuracy: ([\d.]+)%", said)
    assert accuracy is not None
    assert float(accuracy[1]) >= 97
    assert "trainhooks/loop/reference.py" in said.splitlines()[-1]
    folder = place / "runs" / "digits" / "cnn"
    (run,) = folder.glob("*/run.json")
    assert {file.name for file in folder.iterdir()} == {"curves.png", "metrics.csv", run.parent.name}
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    columns = (folder / "metrics.csv").read_text().splitlines()[0]
    assert columns == "epoch,updates,batches,train/loss,val/loss,val/acc,gap,smooth"


@pytest.mark.slow
def test_the_demo_goes_on_where_it_was_interrupted_and_ends_as_if_it_had_not_been(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    whole, expected = demo
    with subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "examples" / "digits.py")], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 3/20"):
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
    said = said_by("digits.py", tmp_path)
    assert re.search(r"^Going on from the last checkpoint: update \d+, batch \d+ of epoch [23]\.$", said, re.MULTILINE)
    assert said.splitlines()[-3:] == expected.splitlines()[-3:]
    files = [folder / "runs" / "digits" / "cnn" / "metrics.csv" for folder in (whole, tmp_path)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert "Going on" not in said_by("digits.py", tmp_path)


@pytest.mark.slow
def test_the_character_model_beats_a_table_of_pairs(tmp_path: Path) -> None:
    said = said_by("characters.py", tmp_path, "--updates=75")
    table, network = bits_in(said)
    assert 3.0 < table < 4.5
    assert network < table - 0.4
    assert said.endswith("\n75 updates, 1 process\n")


def bits_in(said: str) -> list[float]:
    return [float(bits) for bits in re.findall(r"^[\w ]+: ([\d.]+) bits per character$", said, re.MULTILINE)]


SHORT = ("--updates=6",)


@pytest.fixture(scope="module")
def bits_of_one_process(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """A table of pairs, and the character model after a few updates in one process."""
    said = said_by("characters.py", tmp_path_factory.mktemp("alone"), *SHORT)
    assert said.endswith("\n6 updates, 1 process\n")
    return bits_in(said)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("start", ["launch", "torchrun"])
def test_two_processes_train_the_character_model_as_one_does(
    start: str, parallel: str, bits_of_one_process: list[float], tmp_path: Path
) -> None:
    by_launch = [] if start == "torchrun" else ["--launch=2"]
    said = said_by(
        "characters.py", tmp_path, *SHORT, f"--parallel={parallel}", *by_launch,
        torchrun=2 if start == "torchrun" else None,
    )  # fmt: skip
    assert said.endswith("\n6 updates, 2 processes\n")
    assert len(bits_of_one_process) == 2
    assert bits_in(said) == pytest.approx(bits_of_one_process, rel=0, abs=1e-4)
