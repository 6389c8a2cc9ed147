"""`timed` measures every call of a set's hooks, and nothing else about them or the run is changed."""

import itertools
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from torch import Tensor

from tests.core.callables import hook_set
from tests.core.places import place
from tests.hooks.clocks import Clock
from tests.loop.programs import batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchEnd,
    EpochEnd,
    Evaluation,
    HookDefinitionError,
    HookSet,
    HookTime,
    HookTimes,
    Rank,
    TrainResult,
    compose,
    every,
    for_device,
    for_rank,
    named,
    ordered,
    quarantine,
    stateful,
    timed,
    train,
    when,
)
from trainhooks.core import flatten
from trainhooks.loop import bind_table


def run(*hooks: Any, epochs: int = 2, **arguments: Any) -> tuple[list[Tensor], TrainResult]:
    """Two epochs of three batches, an evaluation of two after each."""
    model = linear()
    evaluations = [Evaluation("val", batches(2, seed=7))]
    result = train(
        model, batches(3), squares, sgd(model), epochs=epochs, evaluations=evaluations, hooks=hooks, **arguments
    )
    return weights(model), result


def calls(result: TrainResult) -> dict[str, int]:
    return {name: one.calls for name, one in result.hook_times.items()}


def hear(ctx: object) -> None: ...


def count(ctx: BatchEnd, seen: int) -> tuple[int, None]:
    return seen + 1, None


def sleep(ctx: BatchEnd) -> None:
    time.sleep(0.005)


def test_a_hook_that_sleeps_is_named_first_with_its_total_and_its_time_a_call() -> None:
    """Keeps P60."""
    _, result = run(timed({"name": "quick", "on_batch_end": hear, "on_epoch_end": hear}, {"on_batch_end": sleep}))
    slow = result.hook_times["sleep"]
    assert slow.calls == 6
    assert slow.total >= 6 * 0.005
    assert slow.per_call == slow.total / 6 >= 0.005
    header, first, second = map(str.split, str(result.hook_times).splitlines())
    assert header == ["hook", "set", "calls", "total", "[s]", "per", "call", "[ms]"]
    assert first == ["sleep", "6", f"{slow.total:.3f}", f"{slow.total / 6 * 1000:.3f}"]
    assert second[:2] == ["quick", "8"]


def test_the_report_is_a_table_with_the_dearest_set_first() -> None:
    times = HookTimes({
        "a": HookTime(calls=1000, total=0.5), "slow": HookTime(calls=3, total=12.0), "idle": HookTime(),
    })  # fmt: skip
    assert str(times) == (
        "hook set  calls  total [s]  per call [ms]\n"
        "slow          3     12.000       4000.000\n"
        "a          1000      0.500          0.500\n"
        "idle          0      0.000          0.000"
    )
    assert repr(HookTimes({"a": HookTime(calls=1, total=0.5)})) == "{'a': HookTime(calls=1, total=0.5)}"
    assert str(HookTimes({})) == "No hook set was timed; wrap those that are to be: timed(hook)."


def of_a_clock(*given: Any, event: str, value: tuple[object, ...] = (), body: float = 0.0) -> Mapping[str, HookTime]:
    """What is measured when the hooks of an event are called once, and left if they are managers."""
    bindings = bind_table(compose(*given), Rank(), CLOCK)
    for one in bindings.hooks[event]:
        ctx = place(event)
        try:
            made = one.call(ctx, *value)
            if one.leave is not None:
                assert made.value == "entered"
                CLOCK.now += body
                one.leave(ctx, made, None, None, None)
        except LookupError:
            pass
    return bindings.times()


CLOCK = Clock()


def takes(seconds: float) -> Callable[..., Any]:
    def hook(ctx: object, value: object = None) -> object:
        CLOCK.now += seconds
        return value

    return hook


def test_every_call_of_a_set_is_measured_by_the_clock_of_the_run() -> None:
    """Keeps P60."""
    one = hook_set(name="one", on_batch_end=[takes(0.25), takes(0.5)], transform_batch=takes(2.0))
    other = hook_set(name="other", on_batch_end=takes(4.0))
    assert of_a_clock(timed(one, other), event="on_batch_end") == {
        "one": HookTime(calls=2, total=0.75),
        "other": HookTime(calls=1, total=4.0),
    }
    assert of_a_clock(timed(one), other, event="on_batch_end") == {"one": HookTime(calls=2, total=0.75)}
    assert of_a_clock(timed(one), event="transform_batch", value=(5,)) == {"one": HookTime(calls=1, total=2.0)}
    assert of_a_clock(one, other, event="on_batch_end") == {}


def test_of_a_context_manager_what_it_does_on_entering_and_leaving_counts_and_the_body_does_not() -> None:
    @contextmanager
    def around(ctx: object) -> Generator[str]:
        CLOCK.now += 1.0
        try:
            yield "entered"
        finally:
            CLOCK.now += 2.0

    def made_slowly(ctx: object) -> Any:
        CLOCK.now += 4.0
        return around(ctx)

    (one,) = timed(hook_set(name="one", around_epoch=made_slowly))
    assert of_a_clock(one, event="around_epoch", body=8.0) == {"one": HookTime(calls=1, total=7.0)}


def test_a_call_that_raises_is_measured() -> None:
    def fail(ctx: object) -> None:
        CLOCK.now += 1.0
        raise LookupError

    class FailsToLeave:
        def __enter__(self) -> str:
            return "entered"

        def __exit__(self, *raised: object) -> None:
            fail(None)

    def around_failure(ctx: object) -> FailsToLeave:
        return FailsToLeave()

    one = timed(hook_set(name="one", on_batch_end=fail, around_epoch=around_failure))
    assert of_a_clock(one, event="on_batch_end") == {"one": HookTime(calls=1, total=1.0)}
    assert of_a_clock(one, event="around_epoch", body=8.0) == {"one": HookTime(calls=1, total=1.0)}


WRAPS: list[Callable[..., Any]] = [
    partial(when, every(2, "updates")), partial(for_rank, 0), partial(for_device, 0), partial(named, "other"),
    partial(ordered, -1), quarantine,
]  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("one", [hook_set(name="one", on_batch_end=hear), stateful("one", int, on_batch_end=count)])
def test_with_any_other_wrapper_the_order_makes_no_difference(wrap: Callable[..., Any], one: HookSet) -> None:
    (outside,), (inside,) = flatten(timed(wrap(one))), flatten(wrap(*timed(one)))
    assert outside == inside
    assert hash(outside) == hash(inside)
    assert outside != next(flatten(wrap(one)))


@pytest.mark.parametrize("wraps", [three for three in itertools.permutations([*WRAPS, timed], 3) if timed in three])
def test_wrappers_in_any_order_measure_the_calls_that_are_made(wraps: tuple[Callable[..., Any], ...]) -> None:
    some: Any = stateful("one", int, on_batch_end=count, on_epoch_end=lambda ctx, seen: (seen, None))
    for wrap in wraps:
        some = wrap(some)
    _, result = run(some)
    name = "other" if WRAPS[3] in wraps else "one"
    made = 3 + 2 if WRAPS[0] in wraps else 6 + 2  # every second of six batches, and an epoch end with an even update
    assert calls(result) == {name: made}
    assert result.hook_states == {name: made - 2}


@contextmanager
def around(ctx: object) -> Generator[None]:
    yield


def double(ctx: object, loss: Tensor) -> Tensor:
    return loss * 2


class Keeper:
    """A hook object with a state of its own."""

    def __init__(self) -> None:
        self.seen = 0

    def on_batch_end(self, ctx: BatchEnd) -> None:
        self.seen += 1

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.seen = state["seen"]


def test_timed_sets_of_every_form_do_what_they_do_without() -> None:
    def forms() -> list[Any]:
        return [
            {"name": "dict", "transform_loss": double, "around_evaluation": around},
            stateful("state", int, on_batch_end=count),
            Keeper(),
            compose(hook_set(name="composed", on_train_begin=hear, on_train_end=hear)),
        ]

    expected, plain = run(forms())
    found, result = run(timed(*forms()))
    assert equal(found, expected)
    assert (result.metrics, result.history) == (plain.metrics, plain.history)
    assert result.hook_states["state"] == plain.hook_states["state"] == 6
    assert calls(result) == {"dict": 8, "state": 6, "Keeper": 6, "composed": 2}
    assert calls(plain) == {}
    assert compose(timed(*forms())).source == compose(*forms()).source


def test_the_calls_that_a_quarantined_set_does_not_get_are_none() -> None:
    def third(ctx: BatchEnd) -> None:
        if ctx.at.batches == 3:
            raise OSError("the disk is full")

    for wrapped in (timed(quarantine({"on_batch_end": third})), quarantine(timed({"on_batch_end": third}))):
        with pytest.warns(RuntimeWarning, match="1 calls failed, 3 were not made"):
            _, result = run(wrapped)
        assert [one.calls for one in result.hook_times.values()] == [3]


def test_a_set_that_is_timed_twice_is_measured_once() -> None:
    one = hook_set(name="one", on_batch_end=takes(0.25))
    assert timed(timed(one)) == timed(one)
    assert of_a_clock(timed(timed(one)), event="on_batch_end") == {"one": HookTime(calls=1, total=0.25)}


def test_two_runs_of_one_timed_set_are_measured_on_their_own() -> None:
    """Keeps P12."""
    one = timed({"name": "one", "on_epoch_end": hear})
    assert [calls(run(one, epochs=epochs)[1]) for epochs in (1, 3)] == [{"one": 1}, {"one": 3}]


def test_sets_of_one_name_are_measured_together() -> None:
    one, other = (hook_set(name="one", on_batch_end=takes(seconds)) for seconds in (0.25, 0.5))
    assert of_a_clock(timed(one, other), event="on_batch_end") == {"one": HookTime(calls=2, total=0.75)}


def test_a_set_of_another_rank_is_not_measured_here() -> None:
    table = compose(timed(for_rank(1, hook_set(name="one", on_batch_end=hear))))
    assert bind_table(table, Rank(index=0, world=2), CLOCK).times() == {}
    assert bind_table(table, Rank(index=1, world=2), CLOCK).times() == {"one": HookTime()}


def test_what_a_timed_hook_raises_is_located_and_what_it_is_not_is_refused() -> None:
    def fail(ctx: EpochEnd) -> None:
        raise LookupError("gone")

    def no_manager(ctx: object) -> int:
        return 5

    with pytest.raises(LookupError, match="gone") as caught:
        run(timed({"name": "one", "on_epoch_end": fail}))
    assert "Raised in the hook 'one' on on_epoch_end, at update 3" in caught.value.__notes__[0]
    with pytest.raises(HookDefinitionError, match="around_epoch returns a context manager, but 'one' returned 5"):
        run(timed(hook_set(name="one", around_epoch=no_manager)))


def test_guard_mode_looks_at_timed_hooks_too() -> None:
    _, result = run(timed({"name": "one", "on_batch_end": hear, "around_epoch": around}), guard=True)
    assert calls(result) == {"one": 8}
