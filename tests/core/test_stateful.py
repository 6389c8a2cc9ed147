"""A hook set's state lives in the run, under the set's name, and is threaded through its hooks."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch
from attrs import frozen

from tests.core.callables import hook_set
from tests.loop.programs import Batch, batches, linear, sgd, squares
from trainhooks import (
    BatchBegin,
    BatchEnd,
    Completed,
    DuplicateHookNameError,
    EpochBegin,
    EpochEnd,
    HookDefinitionError,
    HookSet,
    Registration,
    Stop,
    Stopped,
    TrainBegin,
    TrainEnd,
    TrainResult,
    compose,
    named,
    stateful,
    train,
)
from trainhooks.core import needs_begin


def run(*hooks: Any, **changes: Any) -> TrainResult:
    model = linear()
    arguments: dict[str, Any] = {"data": batches(2), "epochs": 2, **changes}
    return train(model, step=squares, optimizer=sgd(model), hooks=hooks, **arguments)


@frozen
class Patience:
    """What an early stopper remembers."""

    best: int = 0
    bad: int = 0


def stopper(name: str, *, worse: Callable[[int], bool], patience: int) -> HookSet:
    """Stops after `patience` bad epochs; an epoch is bad if `worse` says so of its number."""

    def on_epoch_end(ctx: EpochEnd, state: Patience) -> tuple[Patience, Stop | None]:
        if not worse(ctx.at.epoch):
            return Patience(ctx.at.epoch, 0), None
        now = Patience(state.best, state.bad + 1)
        return now, Stop(f"{name} is out of patience") if now.bad >= patience else None

    return stateful(name, Patience, on_epoch_end=on_epoch_end)


def test_two_early_stoppers_keep_their_own_state_within_a_run() -> None:
    """Keeps P10."""
    a = stopper("a", worse=lambda epoch: epoch >= 2, patience=4)
    b = stopper("b", worse=lambda epoch: epoch % 2 == 1, patience=2)
    first = run(a, b, epochs=9)
    assert first.end == Stopped("a is out of patience", ("a",))
    assert first.at.epochs == 6
    assert first.hook_states == {"a": Patience(best=1, bad=4), "b": Patience(best=4, bad=1)}
    assert run(b, a, epochs=9).hook_states == first.hook_states
    assert run(a, epochs=9).hook_states == {"a": Patience(best=1, bad=4)}


def test_two_early_stoppers_of_one_name_are_refused_until_one_is_renamed() -> None:
    """Keeps P10."""
    twins = [stopper("early_stopping", worse=bool, patience=patience) for patience in (2, 3)]
    with pytest.raises(DuplicateHookNameError) as caught:
        compose(twins)
    assert str(caught.value) == (
        "compose() got two stateful hook sets named 'early_stopping', at positions 0 and 1. States are saved by name; "
        "rename one: named('early_stopping_2', hook)."
    )
    result = run(twins[0], named("early_stopping_2", twins[1]), epochs=9)
    assert result.end == Stopped("early_stopping is out of patience", ("early_stopping",))
    assert result.hook_states == {"early_stopping": Patience(0, 2), "early_stopping_2": Patience(0, 2)}


def test_each_run_makes_a_state_of_its_own() -> None:
    """Keeps P12."""
    made: list[list[int]] = []

    def make() -> list[int]:
        made.append([])
        return made[-1]

    def note(ctx: BatchEnd, seen: list[int]) -> tuple[list[int], None]:
        seen.append(ctx.at.batches)
        return seen, None

    notes = stateful("notes", make, on_batch_end=note)
    first, second = run(notes), run(notes)
    assert first.hook_states == second.hook_states == {"notes": [1, 2, 3, 4]}
    assert first.hook_states["notes"] is not second.hook_states["notes"]
    assert len(made) == 2


def test_one_state_goes_through_every_hook_of_the_set_in_turn() -> None:
    seen: list[tuple[str, int]] = []

    def registered(ctx: Registration, state: int) -> tuple[int, None]:
        return state + 1, None

    @contextmanager
    def around(ctx: EpochBegin, state: int) -> Generator[None]:
        seen.append(("around", state))
        yield

    def replace(ctx: BatchBegin[Batch, object], batch: Batch, state: int) -> tuple[int, Batch]:
        seen.append(("transform", state))
        return state * 10, (batch[0] * 0.0, batch[1])

    def end(ctx: BatchEnd[Batch, object], state: int) -> tuple[int, None]:
        seen.append(("end", state))
        assert not ctx.batch[0].any()
        return state + 2, None

    one = stateful(
        "all", lambda: 4, on_train_loop_registration=registered, around_epoch=around, transform_batch=replace,
        on_batch_end=end,
    )  # fmt: skip
    result = run(one, data=batches(2), epochs=1)
    assert seen == [("around", 5), ("transform", 5), ("end", 50), ("transform", 52), ("end", 520)]
    assert result.hook_states == {"all": 522}


def test_an_init_may_take_the_begin_of_the_run() -> None:
    def make(begin: TrainBegin) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(begin.run.optimizers[0], step_size=1, gamma=0.5)

    def step(
        ctx: BatchEnd, scheduler: torch.optim.lr_scheduler.LRScheduler
    ) -> tuple[torch.optim.lr_scheduler.LRScheduler, None]:
        scheduler.step()
        return scheduler, None

    schedule = stateful("schedule", make, on_batch_end=step)
    assert needs_begin(schedule)
    result = run(schedule)
    (state,) = result.hook_states.values()
    assert isinstance(state, torch.optim.lr_scheduler.StepLR)
    assert state.get_last_lr() == [0.1 * 0.5**4]


def may_take_the_begin(begin: object = None) -> object:
    return begin


@pytest.mark.parametrize("init", [int, dict[str, int], lambda: None, may_take_the_begin, Patience])
def test_an_init_that_can_take_nothing_is_given_nothing(init: Callable[..., object]) -> None:
    assert not needs_begin(stateful("s", init, on_batch_end=keep))
    assert run(stateful("s", init, on_batch_end=keep)).hook_states == {"s": init()}
    assert not needs_begin(hook_set(on_batch_end=print))


def keep(ctx: object, state: Any) -> tuple[Any, None]:
    return state, None


def of_the_begin(begin: TrainBegin) -> int:
    return 0


def needs_two(one: object, two: object) -> None: ...


STATEFUL: Any = stateful


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: stateful("", int, on_batch_end=keep), "stateful wants a name first: the state is saved under it."),
        (lambda: STATEFUL("s", 0, on_batch_end=keep), "init is a function of nothing, or of the TrainBegin, got 0."),
        (
            lambda: STATEFUL("s", needs_two, on_batch_end=keep),
            (
                "init takes nothing or the TrainBegin, but `needs_two(one: object, two: object) -> None` at {here} "
                "takes neither."
            ),
        ),
        (
            lambda: STATEFUL("s", of_the_begin, on_batch_end=keep, on_train_loop_registration=keep),
            (
                "The init of 's' takes the TrainBegin, so it has no state yet at on_train_loop_registration; make it "
                "of nothing."
            ),
        ),
        (
            lambda: STATEFUL("s", of_the_begin, on_multiprocess_start=keep),
            (
                "The init of 's' takes the TrainBegin, so it has no state yet at on_multiprocess_start; make it of "
                "nothing."
            ),
        ),
        (lambda: STATEFUL("s", int, on_batch_end=keep, order="last"), "order is a whole number, got 'last'."),
        (
            lambda: STATEFUL("s", int, on_batch_end=[print]),
            f"on_batch_end wants a callable (ctx, state), got {[print]}.",
        ),
    ],
)
def test_a_stateful_set_that_cannot_work_is_refused(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(HookDefinitionError) as caught:
        call()
    here = f"test_stateful.py:{needs_two.__code__.co_firstlineno}"
    assert str(caught.value) == sentence.format(here=here)


@pytest.mark.parametrize("returned", [None, 3, Stop("no"), (1, None, None), [1, None]])
def test_a_hook_that_returns_no_pair_is_named(returned: object) -> None:
    def forgets(ctx: object, state: object) -> Any:
        return returned

    def forgets_too(ctx: object, value: object, state: object) -> Any:
        return returned

    for event, hook, second in (("on_batch_end", forgets, "answer"), ("transform_batch", forgets_too, "value")):
        with pytest.raises(HookDefinitionError) as caught:
            run(STATEFUL("s", int, **{event: hook}))
        assert str(caught.value) == (
            f"A stateful hook on {event} returns (state, {second}), but `{hook.__qualname__}"
            f"{'(ctx: object, state: object)' if second == 'answer' else '(ctx: object, value: object, state: object)'}"
            f" -> Any` at test_stateful.py:{hook.__code__.co_firstlineno} returned {returned!r}."
        )


@pytest.mark.parametrize("early", [True, False])
def test_an_init_that_raises_ends_the_run_with_a_note_and_its_set_does_not_hear_the_end(early: bool) -> None:
    ends: list[str] = []

    def make(*begin: object) -> int:
        raise OSError("no such folder")

    def make_later(begin: TrainBegin) -> int:
        raise OSError("no such folder")

    def end(ctx: TrainEnd, state: int) -> tuple[int, None]:
        ends.append("stateful")
        return state, None

    def other(ctx: TrainEnd) -> None:
        ends.append("other")

    with pytest.raises(OSError, match="no such folder") as caught:
        run(stateful("s", make if early else make_later, on_train_end=end), {"on_train_end": other})
    assert "Raised in the init of the hook set 's'." in caught.value.__notes__
    assert ends == ([] if early else ["other"])


def test_a_stateful_set_is_a_value() -> None:
    """Keeps P67."""
    one = stateful("s", int, on_batch_end=keep)
    assert one == stateful("s", int, on_batch_end=keep)
    assert hash(one) == hash(stateful("s", int, on_batch_end=keep))
    assert one != stateful("s", float, on_batch_end=keep)
    assert one != stateful("s", int, on_epoch_end=keep)
    assert one != hook_set(name="s", on_batch_end=print)
    assert run(one).end == Completed()


def test_a_slot_may_be_none_so_that_an_option_needs_no_second_call() -> None:
    def count(ctx: BatchEnd, seen: int) -> tuple[int, None]:
        return seen + 1, None

    one = stateful("counter", int, on_batch_end=count, on_epoch_end=None, around_train=None, transform_loss=None)
    assert one == stateful("counter", int, on_batch_end=count)
    with pytest.raises(HookDefinitionError, match=r"^A hook set needs a hook on some event\."):
        stateful("counter", int, on_batch_end=None)
    with pytest.raises(HookDefinitionError, match="'on_bach_end' is no event; did you mean 'on_batch_end'"):
        stateful("counter", int, **cast("Any", {"on_bach_end": None}))
