"""Hooks that keep a state and that both checkers must reject."""

# mypy: disable-error-code=empty-body
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from torch import Tensor

from tests.typing.given import Batch, Other, data, model, sgd, step
from trainhooks import BatchEnd, EpochEnd, LossReady, SkipBatch, Stop, TrainBegin, TrainEnd, stateful, train


def zero() -> int: ...
def count(ctx: EpochEnd, seen: int) -> tuple[int, None]: ...


# A wrong state
def of_words(ctx: EpochEnd, state: str) -> tuple[str, None]: ...
def to_words(ctx: EpochEnd, state: int) -> tuple[str, None]: ...
def stateless(ctx: EpochEnd) -> None: ...
def of_a_loss(ctx: LossReady, loss: Tensor, state: str) -> tuple[str, Tensor]: ...


stateful("a", zero, on_epoch_end=of_words)  # E: misc | reportArgumentType
stateful("a", zero, on_epoch_end=to_words)  # E: misc | reportArgumentType
stateful("a", zero, on_epoch_end=stateless)  # E: arg-type | reportArgumentType
stateful("a", zero, on_epoch_end=count, transform_loss=of_a_loss)  # E: misc | reportArgumentType


# A wrong answer beside the state
def word(ctx: EpochEnd, seen: int) -> tuple[int, str]: ...
def skip(ctx: EpochEnd, seen: int) -> tuple[int, SkipBatch]: ...
def turned(ctx: EpochEnd, seen: int) -> tuple[Stop | None, int]: ...
def answer_alone(ctx: EpochEnd, seen: int) -> Stop | None: ...
def state_alone(ctx: EpochEnd, seen: int) -> int: ...
def stop_after_the_end(ctx: TrainEnd, seen: int) -> tuple[int, Stop]: ...
def value_first(ctx: LossReady, loss: Tensor, seen: int) -> tuple[Tensor, int]: ...
def value_alone(ctx: LossReady, loss: Tensor, seen: int) -> Tensor: ...
def manager_in_a_pair(ctx: TrainBegin, seen: int) -> tuple[int, None]: ...


stateful("a", zero, on_epoch_end=word)  # E: arg-type | reportArgumentType
stateful("a", zero, on_epoch_end=skip)  # E: arg-type | reportArgumentType
stateful("a", zero, on_epoch_end=turned)  # E: arg-type | reportArgumentType
stateful("a", zero, on_epoch_end=answer_alone)  # E: arg-type | reportArgumentType
stateful("a", zero, on_epoch_end=state_alone)  # E: arg-type | reportArgumentType
stateful("a", zero, on_train_end=stop_after_the_end)  # E: arg-type | reportArgumentType
stateful("a", zero, transform_loss=value_first)  # E: arg-type | reportArgumentType
stateful("a", zero, transform_loss=value_alone)  # E: arg-type | reportArgumentType
stateful("a", zero, around_train=manager_in_a_pair)  # E: arg-type | reportArgumentType
stateful("a", zero, on_epoch_end=lambda ctx, seen: (seen, "stop"))  # E: arg-type, return-value | reportArgumentType


# A wrong key, event, batch, output or init
def other_batches(ctx: BatchEnd[Other], seen: int) -> tuple[int, None]: ...
def other_outputs(ctx: BatchEnd[Batch, str], seen: int) -> tuple[int, None]: ...
def of_epoch_ends(ctx: EpochEnd) -> int: ...


stateful("a", zero, on_epch_end=count)  # E: call-arg | reportCallIssue
stateful("a", zero, on_batch_end=count)  # E: arg-type | reportArgumentType
stateful("a", zero, on_epoch_end=count, priority=3)  # E: call-arg | reportCallIssue
stateful("a", zero, on_epoch_end=[count])  # E: arg-type | reportArgumentType
stateful("a", of_epoch_ends, on_epoch_end=count)  # E: arg-type | reportArgumentType
stateful("a", 0, on_epoch_end=count)  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=stateful("a", zero, on_batch_end=other_batches))  # E: arg-type | reportArgumentType
train(model, data, step, sgd, hooks=stateful("a", zero, on_batch_end=other_outputs))  # E: misc | reportArgumentType
train(
    model, data, step, sgd, hooks=[stateful("a", zero, on_batch_end=other_batches)]
)  # E: arg-type | reportArgumentType
