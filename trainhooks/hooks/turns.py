"""When an update is finished, in a run with any number of optimizers."""

from trainhooks.core import OptimizerStepped


def finishes_update(ctx: OptimizerStepped) -> bool:
    """Whether all optimizers of the window have had their turn, and one of them stepped.

    True once an update, whether its window was full or closed short; never for a window that was skipped.
    """
    return ctx.optimizer_idx == len(ctx.run.optimizers) - 1 and ctx.at.updates > ctx.since.updates
