"""A training program for tests that kill it: `python -m tests.run.victim FOLDER [POLICY]`.

It goes on from its newest checkpoint, prints each update as it finishes it, and the final weights in the end.
"""

import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch

from tests.run.resuming import Program, ran
from trainhooks import BatchEnd, Interrupted, every

UPDATES = 24


def told(ctx: BatchEnd) -> None:
    print(ctx.at.updates, flush=True)
    time.sleep(0.02)  # so that a signal can come between two updates


def earlier(number: int, frame: FrameType | None) -> None:
    print("the earlier handler was called", flush=True)


def main(folder: Path, policy: str) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, earlier)
    result = ran(
        Program(folder=folder, accumulate=1), max_updates=UPDATES, save=every(1, "updates"), resume="auto",
        more=[{"name": "told", "on_batch_end": told}], on_interrupt=cast("Any", policy), patience=99,
    )  # fmt: skip
    assert signal.getsignal(signal.SIGTERM) is earlier
    end = result.result.end
    print(json.dumps({
        "end": f"signal {end.signal}" if isinstance(end, Interrupted) else type(end).__name__,
        "weights": [value.tolist() for value in result.model.state_dict().values()],
    }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "raise")
