"""What is wrong and yet missed by one checker or both; `nothing` stands where a checker finds nothing."""

# mypy: disable-error-code=empty-body
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.typing.given import Batch, Other, data, model, sgd, step
from trainhooks import (
    BatchBegin,
    BatchEnd,
    EpochEnd,
    Evaluation,
    HookSet,
    Objective,
    compose,
    stateful,
    supervised,
    train,
)


def fine(ctx: BatchEnd[Batch, Tensor]) -> None: ...
def other_batches(ctx: BatchEnd[Other, Tensor]) -> None: ...
def begins(ctx: BatchBegin[Other]) -> None: ...
def other_outputs(ctx: BatchEnd[Batch, str]) -> None: ...
def of_others(model: nn.Module, batch: Other) -> Tensor: ...
def bare_loss(model: nn.Module, batch: Batch) -> Tensor: ...


# An object with a right method hides a misspelt one, and one of another event
class Halfway:
    def on_epoch_end(self, ctx: EpochEnd) -> None: ...
    def on_bach_end(self, ctx: BatchEnd) -> None: ...
    def on_batch_end(self, ctx: EpochEnd) -> str: ...


train(model, data, step, sgd, hooks=Halfway())  # E: nothing | nothing


# A plain DataLoader iterates as Any
def load(plain: DataLoader[Batch]) -> None:
    train(model, plain, step, sgd, hooks={"on_batch_end": other_batches})  # E: nothing | nothing


# A bare loss says nothing of an output
train(model, data, bare_loss, sgd, hooks={"on_batch_end": other_outputs})  # E: nothing | nothing

# Evaluations and objectives take any batch
others: list[Other] = []
train(model, data, step, sgd, evaluations=[Evaluation("val", others)])  # E: nothing | nothing
train(model, data, None, [Objective("a", of_others, sgd)])  # E: nothing | nothing

# A str is a sequence of str
train(model, data, step, sgd, hooks="on_batch_end")  # E: nothing | reportArgumentType
train(model, data, step, sgd, hooks=["on_batch_end"])  # E: nothing | reportArgumentType

# What a lambda does with an output or a state
train(
    model, data, step, sgd, hooks={"on_batch_end": lambda ctx: ctx.output.shapes()}
)  # E: nothing | reportAttributeAccessIssue
train(
    model, data, step, sgd, hooks=HookSet(on_batch_end=lambda ctx: ctx.output.shapes())
)  # E: nothing | reportAttributeAccessIssue
stateful("a", lambda: 0, on_epoch_end=lambda ctx, seen: (seen.upper(), None))  # E: nothing | reportAttributeAccessIssue

# Right, and yet refused: an output that nothing has a type for
train(model, data, supervised(lambda output, y: (output - y).mean()), sgd)  # E: nothing | reportOperatorIssue

# Two batch types in one set that no run has been given yet
HookSet(on_batch_begin=begins, on_batch_end=fine)  # E: nothing | reportArgumentType
compose({"on_batch_begin": begins, "on_batch_end": fine})  # E: nothing | reportArgumentType
