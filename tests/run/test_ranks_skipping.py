"""What one rank skips, all ranks skip: a batch before its forward, an update before its step."""

from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.loop.programs import Batch, Unsized, linear, sgd, squares, weights
from tests.ranks import on_ranks
from tests.run.several import ENGINES, joined, me, own_batches, parameters_of
from trainhooks import (
    BatchBegin,
    GradientsReady,
    HookSet,
    OptimizerStepped,
    Progress,
    SkipBatch,
    SkipUpdate,
    ddp,
    train,
)
from trainhooks.hooks import skip_nonfinite_update

BATCHES = 5


class Left(NamedTuple):
    """What a rank knows after its run."""

    at: Progress
    parameters: list[Tensor]
    skipped: list[int]
    """Updates that were finished when an optimizer had its turn and did not step."""
    left_over: int
    """Gradients that were there when a window began."""


def skipping(
    batches_: dict[int, int], updates: dict[int, int], *, accumulate: int = 1, engine: str = "ddp", sized: bool = True,
    specialised: bool = True,
) -> Left:  # fmt: skip
    """A run of two epochs: a rank skips each batch, by its place, and each update, by its count, that is its own."""
    skipped, left_over, open_ = list[int](), list[int](), [0]

    def skip_batch(ctx: BatchBegin) -> SkipBatch | None:
        return SkipBatch("mine") if batches_.get(ctx.at.batch) == me() else None

    def skip_update(ctx: GradientsReady) -> SkipUpdate | None:
        return SkipUpdate("mine") if updates.pop(ctx.at.updates, None) == me() else None

    def stepped(ctx: OptimizerStepped) -> None:
        open_[0] = 0
        if not ctx.stepped:
            skipped.append(ctx.at.updates)

    def begun(ctx: BatchBegin) -> None:
        if open_[0] == 0:
            left_over.extend(1 for one in ctx.run.model.parameters() if one.grad is not None)

    def fed(ctx: object, batch: Batch) -> Batch:
        open_[0] += 1
        return batch

    model = linear()
    data: Any = own_batches(BATCHES) if sized else Unsized(own_batches(BATCHES))
    result = train(
        model, data, squares, sgd, epochs=2, accumulate=accumulate, parallel=ENGINES[engine](), specialised=specialised,
        hooks=[
            HookSet(name="skips", may_skip=True, on_batch_begin=skip_batch, on_after_gradient_update=skip_update),
            HookSet(name="looks", on_batch_begin=begun, transform_batch=fed, on_after_optimizer_step=stepped),
        ],
    )  # fmt: skip
    return Left(result.at, parameters_of(model), skipped, sum(left_over))


def without(batches_: set[int], accumulate: int) -> tuple[int, int, list[Tensor]]:
    """Updates, batches and parameters of one process that has the data of both ranks, but for some batches."""
    both = zip(own_batches(BATCHES, 0), own_batches(BATCHES, 1), strict=True)
    data = [joined(*parts) for place, parts in enumerate(both) if place not in batches_]
    model = linear()
    result = train(model, data, squares, sgd(model), epochs=2, accumulate=accumulate)
    return result.at.updates, result.at.batches, weights(model)


def equal_on_all(results: list[Left]) -> Left:
    first = results[0]
    for one in results:
        assert (one.at, one.skipped, one.left_over) == (first.at, first.skipped, 0)
        torch.testing.assert_close(one.parameters, first.parameters, rtol=0.0, atol=0.0)
    return first


@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("skipped", "accumulate"),
    [
        pytest.param({2: 1}, 1, id="one"),
        pytest.param({0: 1}, 1, id="the first"),
        pytest.param({4: 1}, 1, id="the last"),
        pytest.param({0: 0, 3: 1}, 2, id="one of each rank, within windows"),
        pytest.param({4: 1}, 3, id="the last, of an open window"),
        pytest.param({3: 0, 4: 1}, 2, id="the last two, the first of which would close a window"),
    ],
)
def test_a_batch_that_one_rank_skips_is_skipped_by_all(
    skipped: dict[int, int], accumulate: int, engine: str, sized: bool
) -> None:
    """Keeps P43. The result is that of a run whose data lack the batch."""
    program = partial(skipping, skipped, {}, accumulate=accumulate, engine=engine, sized=sized)
    left = equal_on_all(on_ranks(2, program))
    updates, batches_, parameters = without(set(skipped), accumulate)
    assert (left.at.updates, left.at.batches, left.at.epochs) == (updates, batches_, 2)
    torch.testing.assert_close(left.parameters, parameters, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("accumulate", "update", "windows"), [(1, 2, {2}), (2, 1, {2, 3}), (2, 2, {4})])
def test_an_update_that_one_rank_skips_is_skipped_by_all(
    accumulate: int, update: int, windows: set[int], engine: str
) -> None:
    """Keeps P43. No count, gradient or parameter shows that its batches were there."""
    left = equal_on_all(on_ranks(2, partial(skipping, {}, {update: 1}, accumulate=accumulate, engine=engine)))
    both = [joined(*parts) for parts in zip(own_batches(BATCHES, 0), own_batches(BATCHES, 1), strict=True)]
    model = linear()
    optimizer = sgd(model)
    for epoch in range(2):
        for start in range(0, BATCHES, accumulate):
            window = range(start, min(start + accumulate, BATCHES))
            if epoch > 0 or not windows.issuperset(window):
                squares(model, joined(*(both[place] for place in window))).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    assert left.skipped == [update]
    assert left.at.updates == 2 * -(-BATCHES // accumulate) - 1
    assert left.at.batches == 2 * BATCHES
    torch.testing.assert_close(left.parameters, weights(model), rtol=1e-6, atol=1e-6)


def test_both_loops_skip_alike() -> None:
    """Keeps P43 and P66."""
    lefts = [
        equal_on_all(on_ranks(2, partial(skipping, {1: 1}, {3: 0}, accumulate=2, specialised=specialised)))
        for specialised in (True, False)
    ]
    assert lefts[0].at == lefts[1].at
    torch.testing.assert_close(lefts[0].parameters, lefts[1].parameters, rtol=0.0, atol=0.0)


def test_an_epoch_of_which_every_batch_is_skipped_ends_on_all_ranks() -> None:
    """Keeps P43."""
    left = equal_on_all(on_ranks(2, partial(skipping, dict(enumerate((0, 1, 1, 0, 1))), {}, accumulate=2)))
    assert left.at == Progress(updates=0, batches=0, epochs=2, epoch=1, batch=BATCHES - 1)
    torch.testing.assert_close(left.parameters, weights(linear()), rtol=0.0, atol=0.0)


def test_gradients_that_are_not_finite_on_one_rank_are_skipped_on_all() -> None:
    """Keeps P43, by a hook of the library."""

    def program() -> tuple[Progress, list[Tensor]]:
        model, data = linear(), own_batches(4)
        if me() == 1:
            data[2][0].fill_(float("nan"))
        at = train(model, data, squares, sgd, epochs=1, hooks=skip_nonfinite_update(), parallel=ddp()).at
        return at, weights(model)

    for at, parameters in on_ranks(2, program):
        assert (at.updates, at.batches) == (3, 4)
        assert all(one.isfinite().all() for one in parameters)


def refused(answer: SkipBatch | SkipUpdate, event: str) -> None:
    """A run in which rank 1 skips by a set that does not say that it may."""

    def skip(ctx: object) -> SkipBatch | SkipUpdate | None:
        return answer if me() == 1 else None

    hooks: dict[str, Any] = {"name": "hasty", event: skip}
    train(linear(), own_batches(2), squares, sgd, epochs=1, hooks=HookSet(**hooks), parallel=ddp())


@pytest.mark.parametrize(
    ("answer", "event"),
    [(SkipBatch("mine"), "on_batch_begin"), (SkipUpdate("mine"), "on_after_gradient_update")],
    ids=["batch", "update"],
)
def test_a_set_that_does_not_say_that_it_may_skip_is_told_what_to_write(
    answer: SkipBatch | SkipUpdate, event: str
) -> None:
    """Keeps P43."""
    with pytest.raises(AssertionError, match="HookDefinitionError: 'hasty'") as raised:
        on_ranks(2, refused, answer, event)
    assert (
        f"HookDefinitionError: 'hasty' answered {answer!r}. In a run of several processes all must skip together, "
        "which costs an exchange at each of these events, so the set says that it may: HookSet(name='hasty', "
        "may_skip=True, ...)."
    ) in str(raised.value)
