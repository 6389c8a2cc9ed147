"""Programs with two optimizers or two groups, and windows whose gradients are dropped."""

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from tests.loop.programs import Batch, squares
from trainhooks import GradientsReady, HookDict, Objective, SkipUpdate, StepOutput


def two_objectives(model: nn.ModuleList) -> list[Objective]:
    """One for each of two modules, with the rates 0.1 and 0.2."""

    def part(index: int) -> Objective:
        def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
            return squares(model.get_submodule(str(index)), batch)

        return Objective(f"part{index}", step, SGD(model[index].parameters(), 0.1 * (index + 1)))

    return [part(0), part(1)]


def two_groups(model: nn.Module) -> Optimizer:
    """The weight with the rate 0.1, the bias with 0.4."""
    weight, bias = model.parameters()
    groups: list[dict[str, object]] = [{"params": [weight]}, {"params": [bias], "lr": 0.4}]
    return SGD(groups, 0.1, momentum=0.9)


def skips_update(number: int, optimizer_idx: int = 0) -> HookDict:
    """Drops one optimizer's gradients where this many updates are finished, once."""
    dropped: list[int] = []

    def skip(ctx: GradientsReady) -> SkipUpdate | None:
        if ctx.optimizer_idx != optimizer_idx or ctx.at.updates != number or dropped:
            return None
        dropped.append(number)
        return SkipUpdate("dropped")

    return {"on_after_gradient_update": skip, "may_skip": True}
