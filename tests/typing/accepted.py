"""Hooks that both checkers accept under their strict settings."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import assert_type

import torch
from attrs import evolve, frozen
from torch import Tensor

from tests.typing.given import Batch, data, model, sgd, step
from trainhooks import (
    BatchBegin,
    BatchEnd,
    DispatchTable,
    EndEpoch,
    EpochBegin,
    EpochEnd,
    Evaluate,
    Evaluation,
    EvaluationBegin,
    EvaluationEnd,
    Gradients,
    GradientsReady,
    HookDict,
    Hooks,
    HookSet,
    LossReady,
    Rates,
    RatesDue,
    Record,
    Save,
    SkipBatch,
    SkipUpdate,
    Steer,
    Stop,
    TrainBegin,
    TrainEnd,
    TrainResult,
    at_points,
    compose,
    every,
    every_seconds,
    explain,
    factory,
    for_device,
    for_rank,
    named,
    ordered,
    quarantine,
    since,
    stateful,
    train,
    until,
    when,
)


# Functions in dicts, with a batch type, without one, and with a wider one
def loss_of_each_batch(ctx: BatchEnd[Batch, Tensor]) -> Record:
    x, y = ctx.batch
    return Record({"batch/loss": ctx.loss, "batch/items": float(len(x) + len(y)), "batch/mean": ctx.output.mean()})


def bare(ctx: BatchEnd) -> None:
    print(ctx.batch, ctx.loss.item())


def of_any_sequence(ctx: BatchEnd[Sequence[Tensor], object]) -> None:
    print(len(ctx.batch))


def of_anything(ctx: object) -> None: ...


def careful(ctx: BatchBegin[Batch]) -> SkipBatch | Stop | None:
    return SkipBatch("empty") if not len(ctx.batch[0]) else None


def several(ctx: EpochEnd) -> list[Steer]:
    return [Evaluate("val"), Save("best"), EndEpoch("enough"), Record(ctx.metrics)]


def no_update(ctx: GradientsReady) -> SkipUpdate | None:
    return None if ctx.grad_norm.isfinite() else SkipUpdate("not finite")


def noisy(ctx: BatchBegin[Batch], batch: Batch) -> Batch:
    return batch[0] + torch.randn(batch[0].shape, generator=ctx.generator("noise")), batch[1]


def doubled(ctx: LossReady, loss: Tensor) -> Tensor:
    return loss * 2


def halved(ctx: RatesDue, rates: Sequence[float]) -> list[float]:
    return [rate / (1 + ctx.at.updates) for rate in rates]


def clipped(ctx: GradientsReady, gradients: Gradients) -> list[Tensor | None]:
    return [one if one is None else one.clamp(-1.0, 1.0) for one in gradients]


def derived(ctx: EvaluationEnd, metrics: Mapping[str, float]) -> dict[str, float]:
    return {**metrics, "val/rmse": metrics["val/loss"] ** 0.5}


@contextmanager
def timed(ctx: TrainBegin) -> Generator[None]:
    yield


def quiet(ctx: EvaluationBegin) -> AbstractContextManager[object]:
    return nullcontext(ctx.name)


everything: HookDict[Batch, Tensor] = {
    "name": "everything",
    "order": -1,
    "before": frozenset({"progress"}),
    "reads": frozenset({"val/loss"}),
    "provides": frozenset({"batch/loss"}),
    "writes": frozenset({"batch"}),
    "ranks": None,
    "may_skip": True,
    "on_batch_begin": careful,
    "transform_batch": noisy,
    "transform_rates": halved,
    "transform_loss": [doubled, doubled],
    "on_after_gradient_update": no_update,
    "transform_gradients": clipped,
    "on_batch_end": [loss_of_each_batch, bare, of_any_sequence, of_anything],
    "transform_metrics": derived,
    "on_epoch_end": several,
    "around_train": timed,
    "around_evaluation": [quiet, lambda ctx: nullcontext()],
}
unsaid: HookDict = {"on_batch_end": bare}


# Objects with methods named like events
class Watcher:
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_batch_end(self, ctx: BatchEnd[Batch, Tensor]) -> None:
        self.losses.append(ctx.loss.item())

    def on_epoch_end(self, ctx: EpochEnd) -> Stop | None:
        return Stop("flat") if len(set(self.losses)) == 1 else None

    def around_epoch(self, ctx: EpochBegin) -> AbstractContextManager[object]:
        return nullcontext()

    @staticmethod
    def on_train_end(ctx: TrainEnd) -> None: ...


class Halving:
    def transform_rates(self, ctx: RatesDue, rates: Sequence[float]) -> Sequence[float]:
        return [rate / 2 for rate in rates]


class Mixup:
    def transform_batch(self, ctx: BatchBegin[Batch], batch: Batch) -> Batch:
        return batch


class Counting:
    def __call__(self, ctx: object) -> None: ...


def above(limit: float, ctx: BatchEnd) -> Stop | None:
    return Stop(f"above {limit}") if ctx.loss > limit else None


# States
@frozen
class Best:
    value: float = float("inf")
    bad: int = 0


def judged(ctx: EpochEnd, best: Best) -> tuple[Best, Stop | None]:
    if ctx.metrics["val/loss"] < best.value:
        return Best(ctx.metrics["val/loss"]), None
    return evolve(best, bad=best.bad + 1), Stop("no better") if best.bad == 2 else None


def rates_by_best(ctx: RatesDue, rates: Rates, best: Best) -> tuple[Best, Rates]:
    return best, [rate * 0.1**best.bad for rate in rates]


def mean_loss(ctx: LossReady, loss: Tensor, best: Best) -> tuple[Best, Tensor]:
    return best, loss.mean()


def early_stopping(monitor: str) -> HookSet:
    return stateful(
        "early_stopping", Best, on_epoch_end=judged, transform_loss=mean_loss, transform_rates=rates_by_best,
        reads=frozenset({monitor}),
    )  # fmt: skip


def made_late(ctx: TrainBegin) -> list[float]:
    return [0.0] * len(ctx.run.optimizers)


counter = stateful("counter", lambda: 0, on_batch_end=lambda ctx, seen: (seen + 1, None))
late = stateful("late", made_late, on_after_optimizer_step=lambda ctx, rates: ([*rates, 1.0], Record({"n": 1.0})))
around = stateful("around", lambda: "state", around_train=lambda ctx, state: nullcontext(state))

# All of these together, nested and wrapped
of_batches: HookSet[Batch, Tensor] = HookSet(name="a", on_batch_end=loss_of_each_batch, on_epoch_end=[several, several])
hooks: Hooks[Batch, Tensor] = [
    everything,
    unsaid,
    Halving(),
    of_batches,
    {"on_train_begin": lambda ctx: Stop("again") if ctx.resumed else None, "on_record": print},
    {"on_epoch_end": Watcher().on_epoch_end, "on_train_end": Watcher.on_train_end, "on_batch_end": partial(above, 3.0)},
    Watcher(),
    (Mixup(), [HookSet(on_train_end=Counting()), [early_stopping("val/loss"), counter, late, around]]),
    when(every(100, "updates") & since(10, "updates") | ~until(3, "epochs"), {"on_batch_end": loss_of_each_batch}),
    when(at_points([1, 2], "batches"), Mixup(), [of_batches], unsaid),
    when(every_seconds(60), for_rank(0, named("b", ordered(3, {"on_batch_end": loss_of_each_batch})))),
    quarantine(for_device(0, Watcher()), {"on_record": lambda ctx: print(ctx.values)}),
    compose(unsaid),
]
result = train(model, data, step, sgd, epochs=3, hooks=hooks, evaluations=[Evaluation("val", data)])
assert_type(result, TrainResult)
assert_type(compose(*hooks if isinstance(hooks, list) else [hooks]), DispatchTable)
assert_type(explain(everything, Watcher()), str)
train(model, data, step, sgd, epochs=3, hooks=everything)
train(model, data, step, sgd, epochs=3, hooks={"on_batch_begin": careful})
train(model, data, step, sgd, epochs=3, hooks=[{"transform_batch": noisy}])
train(model, data, step, sgd, epochs=3, hooks=Watcher())
train(model, data, step, sgd, epochs=3, hooks=[Watcher(), {"on_batch_end": loss_of_each_batch}])
train(model, data, step, sgd, epochs=3, hooks={"on_batch_end": lambda ctx: print(ctx.output.mean(), ctx.batch[0])})
train(model, data, step, sgd, epochs=3, hooks=[{"on_batch_end": lambda ctx: print(ctx.output.mean(), ctx.batch[0])}])
train(model, data, step, sgd, epochs=3, hooks=HookSet(on_batch_end=lambda ctx: print(ctx.output.mean(), ctx.batch[0])))
train(model, data, step, sgd, epochs=3, hooks={"on_epoch_end": lambda ctx: print(ctx.metrics["val/loss"] + 1.0)})
train(model, data, step, sgd, epochs=3, hooks={"transform_batch": lambda ctx, batch: (batch[0] * 2, batch[1])})


def library() -> list[HookSet]:
    return [early_stopping("val/loss"), HookSet(on_train_loop_registration=of_anything)]


train(model, data, step, sgd, epochs=3, hooks=library())


# Factories keep their parameters, and the types of the sets that they make
@factory
def made_of_batches(limit: float, *, name: str = "of_batches") -> HookSet[Batch, Tensor]:
    def on_batch_end(ctx: BatchEnd[Batch, Tensor]) -> Stop | None:
        return Stop("enough") if float(ctx.loss) > limit + float(ctx.batch[0].mean()) else None

    return HookSet(name=name, on_batch_end=on_batch_end)


@factory
def made_of_anything() -> HookSet:
    return named("outer", HookSet(on_epoch_end=print))


assert_type(made_of_batches(1.0, name="x"), HookSet[Batch, Tensor])
train(model, data, step, sgd, epochs=1, hooks=[made_of_batches(1.0), when(every(2, "epochs"), made_of_anything())])
if (settings := made_of_batches(2.0).settings) is not None:
    assert_type(settings.arguments, Mapping[str, object])
