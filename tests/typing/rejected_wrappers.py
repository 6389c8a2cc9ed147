"""Wrapped hooks and triggers that both checkers must reject."""

# mypy: disable-error-code=empty-body
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from torch import Tensor

from tests.typing.given import Batch, Other, data, model, sgd, step
from trainhooks import (
    BatchEnd,
    EpochEnd,
    HookSet,
    at_points,
    every,
    every_seconds,
    factory,
    for_device,
    for_rank,
    named,
    ordered,
    quarantine,
    since,
    train,
    until,
    when,
)

even = every(2, "updates")


def fine(ctx: BatchEnd[Batch, Tensor]) -> None: ...
def other(ctx: BatchEnd[Other, Tensor]) -> None: ...
def words(ctx: BatchEnd[Batch, str]) -> None: ...
def epoch(ctx: EpochEnd) -> None: ...


class OfOthers:
    def on_batch_end(self, ctx: BatchEnd[Other, Tensor]) -> None: ...


# A wrong batch or output inside a wrapper
train(model, data, step, sgd, hooks=when(even, {"on_batch_end": other}))  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=when(even, HookSet(on_batch_end=other)))  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=when(even, OfOthers()))  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=when(even, [{"on_batch_end": other}]))  # E: list-item | reportArgumentType
train(model, data, step, sgd, hooks=when(even, {"on_batch_end": words}))  # E: misc | reportArgumentType
train(model, data, step, sgd, hooks=for_rank(0, {"on_batch_end": other}))  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=for_rank(0, {"on_batch_end": words}))  # E: misc | reportArgumentType
train(model, data, step, sgd, hooks=for_device(0, {"on_batch_end": other}))  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=named("a", {"on_batch_end": other}))  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=ordered(1, {"on_batch_end": other}))  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=quarantine({"on_batch_end": other}))  # E: arg-type | reportArgumentType
train(
    model, data, step, sgd, hooks=[for_rank(0, named("a", {"on_batch_end": other}))]
)  # E: arg-type | reportArgumentType

# A wrong event or key inside a wrapper
when(even, {"on_batch_end": epoch})  # E: arg-type | reportArgumentType
when(even, {"on_bach_end": fine})  # E: arg-type | reportArgumentType
for_rank(0, {"on_batch_end": epoch})  # E: arg-type | reportArgumentType
for_device(0, {"on_batch_end": epoch})  # E: arg-type | reportArgumentType
named("a", {"on_batch_end": epoch})  # E: arg-type | reportArgumentType
ordered(1, {"on_batch_end": epoch})  # E: arg-type | reportArgumentType
quarantine({"on_batch_end": epoch})  # E: arg-type | reportArgumentType

# A wrong argument of a wrapper
when("updates", {"on_batch_end": fine})  # E: arg-type | reportArgumentType
when({"on_batch_end": fine})  # E: arg-type | reportArgumentType
for_rank("0", {"on_batch_end": fine})  # E: arg-type | reportArgumentType
named(1, {"on_batch_end": fine})  # E: arg-type | reportArgumentType
ordered("first", {"on_batch_end": fine})  # E: arg-type | reportArgumentType

# A wrong trigger
every(2, "steps")  # E: arg-type | reportArgumentType
every("updates", 2)  # E: arg-type | reportArgumentType
every(2)  # E: call-arg | reportCallIssue
at_points(3, "epochs")  # E: arg-type | reportArgumentType
since(3, "minutes")  # E: arg-type | reportArgumentType
until(3, "epoch")  # E: arg-type | reportArgumentType
every_seconds("1m")  # E: arg-type | reportArgumentType
print(even & 3)  # E: operator | reportOperatorIssue


# Factories
def several() -> list[HookSet]: ...
@factory
def of_others(n: int) -> HookSet[Other, Tensor]: ...


factory(several)  # E: arg-type | reportArgumentType
of_others("3")  # E: arg-type | reportArgumentType
of_others(m=3)  # E: call-arg | reportCallIssue
train(model, data, step, sgd, hooks=of_others(3))  # E: arg-type | reportArgumentType
