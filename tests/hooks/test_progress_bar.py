"""A run shows itself: a bar that is rarely redrawn in a terminal, plain lines elsewhere."""

import io
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from rich.console import Console

from tests.loop.programs import Unsized, batches, equal, linear, sgd, squares, weights
from trainhooks import Evaluation, HookDict, HookSet, Stop, TrainResult, every, train
from trainhooks.errors import DuplicateHookNameError, HookDefinitionError
from trainhooks.hooks import progress


class Clock:
    """A clock that goes on by a fixed time whenever it is read."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 100.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def screen(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160, _environ={"TERM": "xterm"})


def text(console: Console) -> str:
    return cast("io.StringIO", console.file).getvalue()


def run(
    *hooks: HookSet | HookDict, data: Any = None, evaluations: Sequence[Evaluation] = (), **arguments: Any
) -> TrainResult:
    model = linear()
    return train(
        model, batches(3) if data is None else data, squares, sgd(model), hooks=list(hooks), evaluations=evaluations,
        **cast("Any", {"epochs": 2, **arguments}),
    )  # fmt: skip


def redraws(console: Console) -> int:
    return text(console).count("batches/s")


@pytest.mark.parametrize(("tick", "steps"), [(0.0001, 20_000), (0.002, 5_000), (0.03, 500)])
def test_the_bar_is_redrawn_at_most_so_often_however_quick_the_steps(tick: float, steps: int) -> None:
    """Keeps P59. At 10,000 steps a second, too; time is what the clock says."""
    console, clock = screen(terminal=True), Clock(tick)
    run(progress(console=console, clock=clock), data=batches(1) * steps, epochs=1)
    seconds = clock.now - 100.0
    assert 0 < redraws(console) <= 5 * seconds + 1
    assert redraws(console) <= 100 * seconds / 10


def test_with_a_real_clock_it_is_redrawn_as_rarely() -> None:
    """Keeps P59."""
    console = screen(terminal=True)
    began = time.monotonic()
    run(progress(console=console, redraws_per_second=10), data=batches(1) * 12_000, epochs=1)
    assert redraws(console) <= 10 * (time.monotonic() - began) + 1


def test_the_bar_says_how_far_the_epoch_is_and_the_newest_values() -> None:
    console = screen(terminal=True)
    run(progress(console=console, clock=Clock(1.0)), evaluations=[Evaluation("val", batches(1))])
    shown = text(console)
    for place in ("epoch 1/2", "1/3", "3/3", "epoch 2/2", "loss ", "val/loss ", "batches/s"):
        assert place in shown


def test_data_without_a_length_and_a_run_without_epochs_are_shown_too() -> None:
    console = screen(terminal=True)
    run(progress(console=console, clock=Clock(1.0)), data=Unsized(batches(5)), epochs=None, max_updates=7)
    assert "epoch 1 " in text(console)
    assert "5/?" in text(console)


def plain_lines(*hooks: HookDict, tick: float = 0.0, **arguments: Any) -> list[str]:
    console = screen(terminal=False)
    run(progress(console=console, clock=Clock(tick)), *hooks, **arguments)
    return text(console).splitlines()


def test_elsewhere_an_epoch_leaves_a_line_with_its_metrics_and_nothing_moves() -> None:
    result = run()
    first, second = plain_lines(evaluations=[Evaluation("val", batches(1))])
    assert first.startswith(f"epoch 1/2  train/loss {result.history[0]['train/loss']:.4g}  val/loss ")
    assert second.startswith(f"epoch 2/2  train/loss {result.history[1]['train/loss']:.4g}  val/loss ")
    assert first.endswith("  0.0 s")
    assert not any(mark in first + second for mark in "\r\x1b")


def test_elsewhere_a_long_epoch_leaves_a_line_every_thirty_seconds() -> None:
    lines = plain_lines(data=batches(1) * 100, epochs=1, tick=1.0)
    assert [line.split("  ")[1] for line in lines[:-1]] == ["batch 30/100", "batch 60/100", "batch 90/100"]
    assert lines[0].startswith("epoch 1/1  batch 30/100  ")
    assert "loss " in lines[0]


def test_an_evaluation_within_an_epoch_has_its_own_line() -> None:
    lines = plain_lines(evaluations=[Evaluation("val", batches(1), when=every(2, "updates"))], max_updates=5)
    assert [line.split("  ")[0] for line in lines] == ["update 2", "epoch 1/2", "update 4"]
    assert lines[0].split("  ")[1].startswith("val/loss ")


def test_an_early_end_is_said_and_the_terminal_is_left_in_order() -> None:
    console = screen(terminal=True)
    stops: HookDict = {"name": "stops", "on_batch_end": lambda ctx: Stop("enough") if ctx.at.updates == 2 else None}
    run(progress(console=console, clock=Clock(1.0)), stops)
    assert "stopped at update 2 by stops: enough" in text(console)
    assert text(console).count("\x1b[?25l") == text(console).count("\x1b[?25h")  # cursor hidden, cursor shown


def test_a_failure_leaves_the_terminal_in_order() -> None:
    console = screen(terminal=True)

    def fail(ctx: object) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run(progress(console=console, clock=Clock(1.0)), {"on_batch_end": fail})
    assert text(console).count("\x1b[?25l") == text(console).count("\x1b[?25h") == 1


def test_it_changes_nothing_about_the_training() -> None:
    """Keeps P08."""
    with_bar, without = linear(), linear()
    torch.manual_seed(0)
    bar = progress(console=screen(terminal=True))
    train(with_bar, batches(5), squares, sgd(with_bar), epochs=3, hooks=bar)
    train(without, batches(5), squares, sgd(without), epochs=3)
    assert equal(weights(with_bar), weights(without))


def test_one_set_serves_two_runs() -> None:
    """Keeps P12."""
    bar = progress(console=(console := screen(terminal=False)), clock=lambda: 0.0)
    run(bar)
    first = text(console)
    run(bar)
    assert text(console) == first * 2


def test_two_bars_are_refused() -> None:
    with pytest.raises(DuplicateHookNameError, match="two stateful hook sets named 'progress'"):
        run(progress(), progress())


def test_a_rate_of_redraws_that_is_none_is_refused() -> None:
    with pytest.raises(HookDefinitionError, match="redraws_per_second is a number above 0, got 0"):
        progress(redraws_per_second=0)


def test_without_rich_the_error_is_the_line_that_installs_it() -> None:
    program = "import sys; sys.modules['rich'] = None; from trainhooks.hooks import progress; progress()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1].endswith("pip install 'trainhooks[progress]'")


def test_by_default_it_writes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    run(progress())
    assert capsys.readouterr().out.startswith("epoch 1/2  train/loss ")
