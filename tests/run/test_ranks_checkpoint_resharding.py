"""A run goes on with another number of processes, and with a model that lies in other parts than before."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest
import torch
from attrs import frozen
from torch import Tensor, nn

from tests.loop.programs import batches, squares
from tests.ranks import on_ranks
from tests.run.ranked import ENGINES, SAMPLES, Engine, Told, adamw, state_of, told, whole
from tests.run.saved import experiment
from trainhooks import TrainBegin, at_points, every, load_weights, train
from trainhooks.errors import ResumeError
from trainhooks.hooks import checkpoint, ema

Tensors: TypeAlias = dict[str, list[Any]]


@frozen
class Ends:
    """The tensors of a run when it began, and when it ended."""

    began: Tensors
    ended: Tensors


def model_and_average(model: nn.Module, optimizer: torch.optim.Optimizer, average: Any) -> Tensors:
    found = {f"model.{name}": one for name, one in cast("dict[str, Tensor]", model.state_dict()).items()}
    for place, parameter in enumerate(model.parameters()):
        state = cast("dict[str, Tensor]", optimizer.state[parameter])
        found |= {f"optimizer.{place}.{name}": one for name, one in state.items()}
    weights = cast("dict[str, Tensor]", {} if average is None else average.weights)
    found |= {f"average.{name}": one for name, one in weights.items()}
    return {name: whole(one).tolist() for name, one in found.items()}


def with_equal_batches(folder: Path, engine: Engine, max_updates: int, resume: Any) -> Ends:
    """Two updates an epoch; each rank has the same batch, so their mean is exactly that of one, for powers of two."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(2, 1))
    began: list[Tensors] = []

    def begins(ctx: TrainBegin) -> None:
        began.append(model_and_average(model, ctx.run.optimizers[0], None) if ctx.resumed else {})

    result = train(
        model,
        [(x, y[:, :1]) for x, y in batches(2)],
        squares,
        lambda model: holding(adamw(model)),
        epochs=9,
        max_updates=max_updates,
        parallel=ENGINES[engine](),
        hooks=[ema(0.5), checkpoint(when=every(1, "epochs")), {"on_train_begin": begins}],
        experiment=experiment(folder),
        resume=resume,
    )
    return Ends(began[0], model_and_average(model, OPTIMIZERS[-1], result.hook_states["ema"]))


OPTIMIZERS: list[torch.optim.Optimizer] = []


def holding(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    OPTIMIZERS.append(optimizer)
    return optimizer


def without_average(tensors: Tensors) -> Tensors:
    return {name: one for name, one in tensors.items() if not name.startswith("average.")}


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """The run of one process that did not stop."""
    [ends] = on_ranks(1, with_equal_batches, tmp_path_factory.mktemp("once"), "alone", 4, "never", fresh=True)
    return ends


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("fsdp", 2), ("fsdp", 1)),
        (("fsdp", 1), ("fsdp", 2)),
        (("fsdp", 2), ("fsdp", 2)),
        (("fsdp", 2), ("fsdp", 4)),
        (("fsdp", 4), ("fsdp", 2)),
        (("ddp", 2), ("fsdp", 2)),
        (("fsdp", 2), ("ddp", 2)),
    ],
)
def test_a_run_goes_on_bit_for_bit_with_other_parts_of_the_model(
    tmp_path: Path, at_once: Ends, before: tuple[Engine, int], after: tuple[Engine, int]
) -> None:
    stopped = on_ranks(before[1], with_equal_batches, tmp_path / "parts", before[0], 2, "never", fresh=True)
    gone_on = on_ranks(after[1], with_equal_batches, tmp_path / "parts", after[0], 4, "must", fresh=True)
    assert len(at_once.ended) == 6 + 18 + 6
    for one in gone_on:
        assert one.began == without_average(stopped[0].ended)
        assert one.ended == at_once.ended


def test_the_parts_of_three_ranks_are_whole_weights_for_a_model_elsewhere(tmp_path: Path) -> None:
    stopped = on_ranks(3, with_equal_batches, tmp_path, "fsdp", 2, "never", fresh=True)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(2, 1))
    load_weights(model, experiment(tmp_path))
    saved = {name: one for name, one in stopped[0].ended.items() if name.startswith("model.")}
    assert {f"model.{name}": one for name, one in state_of(model).items()} == saved


def logged(folder: Path, engine: Engine, max_updates: int, resume: Any) -> tuple[Told, list[str]]:
    """A run that goes on, and what it said of it."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("trainhooks")
    logger.addHandler(Lines())
    logger.setLevel(logging.INFO)
    return told(folder, engine, max_updates, resume, save=at_points([3, 7], "updates")), lines


def test_one_process_reads_the_rest_of_an_epoch_that_two_began(tmp_path: Path) -> None:
    """Keeps P18."""
    stopped = on_ranks(2, logged, tmp_path, "ddp", 3, "never", fresh=True)
    [(gone_on, lines)] = on_ranks(1, logged, tmp_path, "ddp", 10, "must", fresh=True)
    read = Counter([sample for one, _ in stopped for sample in one.read] + gone_on.read)
    assert read == Counter(range(SAMPLES))  # 3 batches of 2 on each of two, and 7 on one
    assert any("world_size: 2 -> 1" in one and "not bit for bit what it would have been" in one for one in lines)


def drawing(folder: Path, resume: Any, max_updates: int) -> tuple[str, int]:
    one = told(folder, "ddp", max_updates, resume, save=every(1, "epochs"))
    return one.states, one.updates


def test_a_rank_that_is_new_draws_numbers_of_its_own_the_same_each_time(tmp_path: Path) -> None:
    on_ranks(1, drawing, tmp_path / "once", "never", 13, fresh=True)
    on_ranks(1, drawing, tmp_path / "twice", "never", 13, fresh=True)
    once = on_ranks(2, drawing, tmp_path / "once", "must", 15, fresh=True)
    twice = on_ranks(2, drawing, tmp_path / "twice", "must", 15, fresh=True)
    assert once == twice
    assert once[0] != once[1]


def at_a_place_for_one(folder: Path, resume: Any) -> str:
    with pytest.raises(ResumeError) as caught:
        told(folder, "ddp", 14, resume)
    return str(caught.value)


def test_processes_that_cannot_begin_where_one_stopped_say_so(tmp_path: Path) -> None:
    on_ranks(1, told, tmp_path, "alone", 3, fresh=True)
    first, second = on_ranks(2, at_a_place_for_one, tmp_path, "must", fresh=True)
    assert first == second
    assert first == (
        "The checkpoint of update 3 was made within an epoch by 1 process with batches of 2, at a place where 2 "
        "processes with batches of 2 cannot go on."
    )
