"""Over ranks hooks get the gradients of the whole batch, each is there, and they are reduced once an update."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import pytest
import torch
import torch.distributed as dist
from attrs import evolve
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.utils._python_dispatch import TorchDispatchMode

from tests.loop.programs import Batch, linear, sgd, squares
from tests.ranks import on_ranks
from tests.run.several import ENGINES, joined, me, own_batches, parameters_of, whole
from trainhooks import GradientsReady, Hooks, HookSet, Rank, StepOutput, ddp, for_rank, fsdp, train
from trainhooks.distributed import Parallel, ReduceEvery
from trainhooks.errors import RunDefinitionError
from trainhooks.hooks import clip_grad_norm


def gentle(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    """A step whose gradients fit float16, also 65536 times as large."""
    output = squares(model, batch)
    return evolve(output, loss=output.loss / 16)


class Seen(NamedTuple):
    """What hooks saw of an update."""

    names: tuple[str, ...]
    gradients: list[Tensor]
    norm: Tensor
    plain: bool
    """Whether the norm was a plain tensor."""


def seen_in(
    engine: str, precision: Any, accumulate: int, listeners: tuple[int, ...], clip: float | None = 1e-3
) -> tuple[list[Seen], list[Tensor]]:
    """What the updates of a run were, as hooks on some ranks saw them, under a clip that bites; and parameters."""
    seen, model = list[Seen](), linear()

    def look(ctx: GradientsReady) -> None:
        parts = whole(ctx.gradients) if len(listeners) == 2 else [one.clone() for one in ctx.gradients]
        seen.append(Seen(ctx.names, parts, ctx.grad_norm.clone(), type(ctx.grad_norm) is Tensor))

    looks = HookSet(name="looks", on_after_gradient_update=look)
    hooks: list[Hooks] = [looks if len(listeners) == 2 else for_rank(listeners[0], looks)]
    train(
        model, own_batches(4), gentle, lambda one: torch.optim.SGD(one.parameters(), lr=0.1), epochs=1,
        hooks=[hooks, clip_grad_norm(clip)] if clip else hooks, accumulate=accumulate, precision=precision,
        parallel=ENGINES[engine](),
    )  # fmt: skip
    return seen, parameters_of(model)


def by_hand(accumulate: int, clip: float) -> tuple[list[list[Tensor]], list[Tensor]]:
    """The same in one process without hooks."""
    model, found = linear(), list[list[Tensor]]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parts = [joined(*one) for one in zip(own_batches(4, 0), own_batches(4, 1), strict=True)]
    for start in range(0, 4, accumulate):
        optimizer.zero_grad()
        gentle(model, joined(*parts[start : start + accumulate])).loss.backward()
        found.append([one.grad.clone() for one in model.parameters() if one.grad is not None])
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return found, parameters_of(model)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "fp16-mixed"])
@pytest.mark.parametrize("engine", ENGINES)
def test_hooks_see_reduced_unscaled_unclipped_gradients_of_every_parameter(
    engine: str, precision: str, accumulate: int
) -> None:
    """Keeps P52."""
    expected, after = by_hand(accumulate, 1e-3)
    tolerance = 1e-6 if precision == "float32" else 2e-2
    results = on_ranks(2, seen_in, engine, precision, accumulate, (0, 1))
    for seen, parameters in results:
        assert len(seen) == len(expected) == 4 // accumulate
        for one, gradients in zip(seen, expected, strict=True):
            assert one.names == ("weight", "bias")
            torch.testing.assert_close(one.gradients, gradients, rtol=tolerance, atol=tolerance)
            assert one.plain
            norm = nn.utils.get_total_norm(gradients)
            torch.testing.assert_close(one.norm, norm, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(parameters, after, rtol=tolerance, atol=tolerance)
    for one, other in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(one.gradients, other.gradients, rtol=0.0, atol=0.0)
        assert one.norm.item() == other.norm.item()


@pytest.mark.parametrize("listener", [0, 1])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("clip", [None, 1e-3])
def test_one_rank_alone_may_hear_gradients_and_their_norm(engine: str, clip: float | None, listener: int) -> None:
    """Keeps P52 and P40: what it takes to measure the norm is done on all ranks before."""
    expected, after = by_hand(1, clip or 1e9)
    results = on_ranks(2, seen_in, engine, "float32", 1, (listener,), clip)
    seen = results[listener][0]
    assert results[1 - listener][0] == []
    norms = torch.stack([one.norm for one in seen])
    torch.testing.assert_close(norms, torch.stack([nn.utils.get_total_norm(one) for one in expected]))
    assert all(one.plain for one in seen)
    for _, parameters in results:
        torch.testing.assert_close(parameters, after, rtol=1e-6, atol=1e-6)


class Forked(nn.Module):
    """Two layers, of which a forward may leave one out."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = linear(0), linear(1)

    def forward(self, x: Tensor, both: bool) -> Tensor:
        out: Tensor = self.used(x)
        return out + self.spare(x) if both else out


def forked(uses_both: tuple[int, ...], frozen: bool, find: bool) -> tuple[str, bool, int]:
    """A run in which some ranks use both layers: what it says, whether it left the model alone, and its updates."""
    model = Forked()
    model.spare.requires_grad_(not frozen)
    before, updates = parameters_of(model), [0]

    def step(module: nn.Module, batch: Batch) -> Tensor:
        loss: Tensor = nn.functional.mse_loss(module(batch[0], me() in uses_both), batch[1])
        return loss

    def count(ctx: GradientsReady) -> None:
        updates[0] += 1

    said = ""
    try:
        train(
            model, own_batches(3), step, sgd, epochs=1, hooks={"on_after_gradient_update": count},
            parallel=ddp(find_unused_parameters=find),
        )  # fmt: skip
    except RunDefinitionError as error:
        said = str(error)
    return said, all(map(torch.equal, before, parameters_of(model))), updates[0]


@pytest.mark.parametrize(
    ("uses_both", "where"),
    [
        ((), "'spare.weight', 'spare.bias' on rank 0; 'spare.weight', 'spare.bias' on rank 1"),
        ((0,), "'spare.weight', 'spare.bias' on rank 1"),
        ((1,), "'spare.weight', 'spare.bias' on rank 0"),
    ],
)
def test_every_rank_names_a_parameter_without_gradient_before_anything_is_stepped(
    uses_both: tuple[int, ...], where: str
) -> None:
    """Keeps P44."""
    for said, untouched, updates in on_ranks(2, forked, uses_both, False, False):
        assert said == (
            f"The first update gives these parameters no gradient: {where}; ddp() waits for that of each. Leave them "
            "out of the model, freeze them by requires_grad_(False), or write ddp(find_unused_parameters=True)."
        )
        assert untouched
        assert updates == 0


@pytest.mark.parametrize(
    ("uses_both", "frozen", "find"), [((), False, True), ((1,), False, True), ((), True, False), ((0, 1), False, False)]
)
def test_what_the_sentence_offers_trains(uses_both: tuple[int, ...], frozen: bool, find: bool) -> None:
    """Keeps P44."""
    assert on_ranks(2, forked, uses_both, frozen, find) == 2 * [("", False, 3)]


class Counting:
    """A user's own way to train together: DDP, with each bucket's reduction counted."""

    stop = "any"
    uneven = "join"
    timeout = None
    sharded = False
    needs_every_gradient = True

    def __init__(self, reduce_every: ReduceEvery) -> None:
        self.every_batch = reduce_every == "batch"
        self.reductions = 0

    def wrap(self, model: nn.Module, rank: Rank, device: torch.device, /) -> nn.Module:
        wrapped = nn.parallel.DistributedDataParallel(model)

        def count(
            state: dist.ProcessGroup, bucket: dist.GradBucket  # type: ignore[name-defined]  # torch adds it when imported
        ) -> torch.futures.Future[Tensor]:
            self.reductions += 1
            return allreduce_hook(state, bucket)

        wrapped.register_comm_hook(dist.group.WORLD, count)
        return wrapped

    def reduce_in_backward(self, wrapped: Any, last: bool, /) -> bool:
        wrapped.require_backward_grad_sync = last or self.every_batch
        return bool(wrapped.require_backward_grad_sync)


class CountedCalls(TorchDispatchMode):
    """Every call that torch makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self.calls = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


def reductions_of_ddp(accumulate: int, reduce_every: ReduceEvery) -> tuple[int, int]:
    parallel = Counting(reduce_every)
    result = train(
        linear(), own_batches(8), squares, sgd, epochs=1, accumulate=accumulate, parallel=cast("Parallel", parallel)
    )
    return parallel.reductions, result.at.updates


def reductions_of_fsdp(accumulate: int, reduce_every: ReduceEvery) -> tuple[int, int]:
    with CountedCalls() as counted:
        result = train(
            linear(), own_batches(8), squares, sgd, epochs=1, accumulate=accumulate,
            parallel=fsdp(reduce_every=reduce_every),
        )  # fmt: skip
    return sum("reduce_scatter" in call for call in counted.calls), result.at.updates


@pytest.mark.parametrize("reductions", [reductions_of_ddp, reductions_of_fsdp])
@pytest.mark.parametrize(
    ("accumulate", "reduce_every", "expected"),
    [(4, "update", (2, 2)), (4, "batch", (8, 2)), (1, "update", (8, 8)), (3, "update", (3, 3))],
)
def test_gradients_are_reduced_once_an_update_or_for_each_batch_if_told_to(
    reductions: Callable[[int, ReduceEvery], tuple[int, int]], accumulate: int, reduce_every: ReduceEvery,
    expected: tuple[int, int],
) -> None:  # fmt: skip
    """Keeps P54."""
    assert on_ranks(2, reductions, accumulate, reduce_every) == [expected, expected]


def with_empty_batches(by_number: bool, accumulate: int, find: bool) -> tuple[int, list[Tensor]]:
    """A run in which each rank has batches without an item, whose loss is NaN if their weight is a number."""

    def step(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> StepOutput[None]:
        x, y, mask = batch
        items = mask.sum()
        loss = ((module(x) - y).square().mean(1) * mask).sum() / (items if by_number else items.clamp(min=1))
        return StepOutput(loss, weight=items.item() if by_number else items)

    empty, model = ((0, 2), (1, 2, 3))[me()], linear()
    data = [(x, y, torch.full((len(y),), float(place not in empty))) for place, (x, y) in enumerate(own_batches(6))]
    result = train(
        model, data, step, sgd, epochs=1, accumulate=accumulate, parallel=ddp(find_unused_parameters=find)
    )
    return result.at.updates, parameters_of(model)


@pytest.mark.parametrize("find", [False, True])
@pytest.mark.parametrize(("accumulate", "updates"), [(1, 5), (2, 3)])
def test_a_batch_that_weighs_the_number_0_has_no_part_in_what_is_reduced(
    accumulate: int, updates: int, find: bool
) -> None:
    """Its loss may be NaN. With windows of one batch, one has no items on any rank."""
    numbers = on_ranks(2, with_empty_batches, True, accumulate, find)
    assert [made for made, _ in numbers] == [updates, updates]
    assert all(map(torch.equal, numbers[0][1], numbers[1][1]))
    assert all(bool(one.isfinite().all()) for one in numbers[0][1])
    if accumulate == 2:  # else a window of tensors without items is an update by zeros
        tensors = on_ranks(2, with_empty_batches, False, accumulate, find)
        torch.testing.assert_close(numbers[0][1], tensors[0][1])
