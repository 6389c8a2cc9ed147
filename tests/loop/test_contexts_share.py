"""What contexts share: a moment that several hooks see is one object."""

from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import BatchEnd, HookDict, OptimizerStepped, Progress, train


def test_a_window_begins_at_the_very_moment_that_the_batch_before_it_ended_at() -> None:
    ends: list[Progress] = []
    begins: list[Progress] = []

    def on_batch_end(ctx: BatchEnd) -> None:
        ends.append(ctx.at)

    def on_after_optimizer_step(ctx: OptimizerStepped) -> None:
        begins.append(ctx.since)

    model = linear()
    hooks: HookDict = {"on_batch_end": on_batch_end, "on_after_optimizer_step": on_after_optimizer_step}
    train(model, batches(3), squares, sgd(model), epochs=1, hooks=hooks)
    assert [begin is end for begin, end in zip(begins[1:], ends, strict=False)] == [True, True]
    assert [begin.batches for begin in begins] == [0, 1, 2]
