"""A run under torchrun goes on after a process was killed, and with another number of processes."""

from pathlib import Path

import pytest
import torch

from tests.ranks import on_ranks, torchrun
from tests.run.elastic import Plan, left_in, ran
from tests.run.ranked import Engine


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_a_run_of_which_a_process_was_killed_ends_as_if_it_never_was(tmp_path: Path, engine: Engine) -> None:
    """Keeps P17 and P20, over processes."""
    folders = [tmp_path / "undisturbed", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    undisturbed = on_ranks(2, ran, folders[0], Plan(engine=engine), fresh=True)
    plan = Plan(deed="kill", update=8, engine=engine, background=False)
    ended = torchrun("tests.run.elastic", str(folders[1]), plan.text(), max_restarts=1)
    assert ended.returncode == 0, ended.stderr
    left = left_in(folders[1])
    assert [(one.end, one.begun, one.restarts) for one in left] == [("Completed()", 6, 1)] * 2
    assert [one.model for one in left] == [one.model for one in undisturbed]
    assert [one.average for one in left] == [one.average for one in undisturbed]


def test_two_processes_then_one_then_two_train_as_one_does(tmp_path: Path) -> None:
    folders = [tmp_path / "alone", tmp_path / "changing"]
    for folder in folders:
        folder.mkdir()
    (alone,) = on_ranks(1, ran, folders[0], Plan(plain=True, batch=4, updates=18), fresh=True)
    for world, updates in ((2, 6), (1, 12), (2, 18)):
        plan = Plan(plain=True, batch=4 // world, updates=updates)
        ended = torchrun("tests.run.elastic", str(folders[1]), plan.text(), processes=world)
        assert ended.returncode == 0, ended.stderr
        found = [(one.begun, one.updates) for one in left_in(folders[1], world)]
        assert found == [(updates - 6, updates)] * world
    first, second = left_in(folders[1])
    assert first.model == second.model
    for name, values in alone.model.items():
        assert torch.tensor(first.model[name]).sub(torch.tensor(values)).abs().max() < 1e-6, name
