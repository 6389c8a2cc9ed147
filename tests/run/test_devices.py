"""Without `device=` a model stays where it is, also if its parts are on several devices, and batches to its first."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import linear, sgd
from trainhooks import BatchEnd, Evaluation, HookDict, TrainBegin, evaluate, lr_finder, predict, train
from trainhooks.loop import Streams, devices_of

META = torch.device("meta")
CPU = torch.device("cpu")


class Split(nn.Module):
    """Its first part computes; its second is on another device."""

    def __init__(self, second: torch.device | str = META) -> None:
        super().__init__()
        self.first = nn.Linear(3, 1)
        self.second = nn.Linear(1, 1, device=second)
        self.register_buffer("far", torch.zeros(1, device=second))

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.first(x))


def step(model: nn.Module, batch: Tensor) -> Tensor:
    return cast("Tensor", model(batch)).square().mean()


def places(model: nn.Module) -> list[str]:
    return [one.device.type for one in (*model.parameters(), *model.buffers())]


DATA = [torch.ones(2, 3)] * 2
BEFORE = ["cpu", "cpu", "meta", "meta", "meta"]


def test_training_moves_no_part_of_a_split_model_and_the_optimizer_is_made_of_it_so() -> None:
    model, seen = Split(), list[list[str]]()

    def made(model: nn.Module) -> torch.optim.Optimizer:
        seen.append(places(model))
        return sgd(cast("Split", model).first)

    def look(ctx: TrainBegin) -> None:
        seen.append(places(ctx.run.model))
        assert ctx.run.device == CPU

    hooks: list[HookDict] = [{"on_train_begin": look}, {"on_batch_end": is_on(CPU)}]
    train(model, DATA, step, made, epochs=1, hooks=hooks, evaluations=[Evaluation("val", DATA)])
    assert seen == [BEFORE] * 2
    assert places(model) == BEFORE


def is_on(device: torch.device) -> Callable[[BatchEnd[Tensor, Any]], None]:
    def hook(ctx: BatchEnd[Tensor, Any]) -> None:
        assert ctx.batch.device == device

    return hook


def test_looking_at_a_split_model_moves_no_part_of_it() -> None:
    model = Split()
    evaluate(model, DATA, step)
    assert len(list(predict(model, DATA, lambda model, batch: (model(batch), None, None)))) == 2
    assert places(model) == BEFORE


def test_searching_a_rate_moves_no_part_of_a_split_model() -> None:
    model = Split()
    lr_finder(model, DATA, step, torch.optim.SGD(model.first.parameters(), 0.1), updates=2)
    assert places(model) == BEFORE


def test_batches_go_to_the_first_parameter() -> None:
    seen = list[torch.device]()

    def look(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, None, None]:
        seen.append(batch["x"].device)
        return batch["x"], None, None

    far = nn.ModuleList([nn.Linear(1, 1, device=META), nn.Linear(1, 1)])
    assert len(list(predict(far, [{"x": torch.ones(1)}], look))) == 1
    assert seen == [META]
    assert places(far) == ["meta"] * 2 + ["cpu"] * 2


class Constant(nn.Module):
    """It has a buffer, and no parameter."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("value", torch.ones(1, device=device))


@pytest.mark.parametrize(("model", "place"), [(Constant(META), META), (Constant(CPU), CPU), (nn.Identity(), CPU)])
def test_without_a_parameter_batches_go_to_the_first_buffer_or_the_cpu(model: nn.Module, place: torch.device) -> None:
    (one,) = predict(model, DATA[:1], lambda model, batch: (batch, None, None))
    assert one.run.device == place
    assert one.batch.device == place


def test_a_device_that_is_given_takes_the_whole_model() -> None:
    model = nn.ModuleList([linear(), nn.Linear(1, 1)])
    for one in predict(model, DATA, lambda model, batch: (batch, None, None), device="meta"):
        assert one.batch.device == META
    assert places(model) == ["meta"] * 4


def test_the_devices_of_a_run_are_those_of_its_batches_and_its_model() -> None:
    assert devices_of(Split(), CPU) == (CPU, META)
    assert devices_of(nn.Identity(), META) == (META,)
    assert Streams.now(devices_of(Split(), CPU)).torch_devices == []  # neither has a stream beside the CPU's


@pytest.mark.gpu
def test_the_random_stream_of_each_device_is_put_back() -> None:
    """A model that is split between the CPU and a GPU draws from both streams in an evaluation."""
    model = Split("cuda")

    def draw(model: nn.Module, batch: Tensor) -> Tensor:
        torch.rand(1)
        torch.rand(1, device="cuda")
        return step(model, batch)

    before = torch.get_rng_state(), torch.cuda.get_rng_state()
    evaluate(model, DATA, draw)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(torch.cuda.get_rng_state(), before[1])
    assert places(model) == ["cpu"] * 2 + ["cuda"] * 3
    saved = Streams.now(devices_of(model, CPU))
    torch.rand(1, device="cuda")
    Streams.of(saved.state(), devices_of(model, CPU)).restore()
    assert torch.equal(torch.cuda.get_rng_state(), before[1])
