"""What a batch left behind is let go before the next forward, unless somebody keeps it."""

import gc
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias, cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, linear, listener, sgd
from trainhooks import Evaluation, HookSet, Objective, StepOutput, evaluate, predict, train
from trainhooks.hooks import clip_grad_norm, ema, grad_stats, progress

Program: TypeAlias = Callable[["Watch"], None]


class Watch:
    """Steps that see, at each forward, what earlier forwards made and is still there."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[Tensor]] = []
        self.alive: list[int] = []

    def step(self, model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        self.alive.append(sum(one() is not None for one in self.made))
        output = cast("Tensor", model(batch[0]))
        kept = cast("Callable[[Tensor], Tensor]", Kept.apply)(output)
        loss = nn.functional.mse_loss(kept, batch[1])
        self.made += [weakref.ref(output), weakref.ref(kept), weakref.ref(loss)]
        return StepOutput(loss, output=kept, target=batch[1], values={"mean": output.mean().detach()})

    def three(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, None]:
        output = self.step(model, batch)
        return cast("Tensor", output.output), batch[1], None


class Kept(torch.autograd.Function):
    """Keeps a tensor with its node, which backward does not free."""

    @staticmethod
    def forward(ctx: "Kept", x: Tensor) -> Tensor:
        made = x * 1.0
        ctx.x = x  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        return made

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


def hooked(*hooks: HookSet) -> Program:
    def program(watch: Watch) -> None:
        model = linear()
        train(model, batches(4), watch.step, sgd(model), epochs=2, hooks=hooks)

    return program


def with_objectives(watch: Watch) -> None:
    model = nn.ModuleList([linear(0), linear(1)])

    def of(index: int) -> Objective:
        def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
            output = watch.step(model.get_submodule(str(index)), batch)
            return StepOutput(output.loss, output=output.output)

        return Objective(f"part{index}", step, sgd(model[index]))

    train(model, batches(4), None, [of(0), of(1)], epochs=2, hooks=listener("all", []))


def with_an_evaluation(watch: Watch) -> None:
    model = linear()
    train(
        model, batches(3), watch.step, sgd(model), epochs=2, accumulate=2, hooks=listener("all", []),
        evaluations=[Evaluation("val", batches(3), metrics={"own": lambda output, target: output.mean()})],
    )  # fmt: skip


def evaluated(watch: Watch) -> None:
    evaluate(linear(), batches(4), watch.step, hooks=listener("hear", [], "on_after_batch_prediction"))


def predicted(watch: Watch) -> None:
    found = predict(linear(), batches(4), watch.three)
    assert [next(found).index for _ in range(4)] == [0, 1, 2, 3]


PROGRAMS: Final[Mapping[str, Program]] = {
    "no hook": hooked(),
    "every event": hooked(listener("all", [])),
    "hooks that ship": hooked(clip_grad_norm(1.0), grad_stats(), ema(0.9), progress()),
    "objectives": with_objectives,
    "an evaluation": with_an_evaluation,
    "evaluate": evaluated,
    "predict": predicted,
}


@contextmanager
def uncollected() -> Generator[None]:
    """What only the garbage collector would free counts as held."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_at_a_forward_nothing_is_left_of_the_ones_before(program: Program) -> None:
    watch = Watch()
    with uncollected():
        program(watch)
    assert watch.alive == [0] * len(watch.alive) != []
