"""Arbitrary tables as plain data, and the hooks that act them out: for laws that run one table several times."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from attrs import Attribute, field, frozen
from hypothesis import strategies as st
from torch import Tensor

from tests.loop.programs import Trace, Unsized, batches, linear, sgd, squares, weights
from trainhooks import (
    EVENTS,
    Answer,
    EndEpoch,
    Evaluate,
    Evaluation,
    HookSet,
    Record,
    SkipBatch,
    SkipUpdate,
    Slots,
    Stop,
    at_points,
    every,
    quarantine,
    stateful,
    train,
    when,
)

ERRORS: Mapping[str, type[BaseException]] = {
    "ValueError": ValueError,
    "StopIteration": StopIteration,
    "GeneratorExit": GeneratorExit,
}


@final
@frozen
class Deed:
    """What a hook does on its `call`th call."""

    call: int
    does: str
    """`nothing`, a kind of answer, or the name of an error."""


@final
@frozen
class Member:
    """A hook set, as plain data."""

    name: str
    deeds: Mapping[str, Deed] = field(hash=False)
    order: int = 0
    before: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    wrapper: str = ""
    keeps_state: bool = False


@final
@frozen
class Program:
    """A run, as plain data."""

    members: tuple[Member, ...]
    batches: int
    sized: bool
    epochs: int | None
    max_updates: int | None
    accumulate: int
    evaluates: int

    def run(self, *, specialised: bool) -> tuple[object, ...]:
        """Everything that a user could see of the run."""
        trace: Trace = []
        model, data = linear(), batches(self.batches)
        evaluation = Evaluation("val", batches(2, seed=7), when=every(self.evaluates, "updates"))
        torch.manual_seed(0)
        seen: tuple[object, ...]
        try:
            result = train(
                model, data if self.sized else Unsized(data), squares, sgd(model), epochs=self.epochs,
                max_updates=self.max_updates, accumulate=self.accumulate, evaluations=[evaluation],
                hooks=[acted(member, trace) for member in self.members], specialised=specialised,
            )  # fmt: skip
            states = {name: (type(state), vars(state)) for name, state in result.hook_states.items()}
            seen = (result.end, result.at, _plain(result.metrics), _plain(result.history), states)
        except BaseException as error:
            seen = (type(error), str(error), getattr(error, "__notes__", []))
        left = [_plain(weight) for weight in weights(model)]
        return (trace, seen, left, model.training, torch.rand(1).item())


class Calls:
    """A state: how often each event was heard."""

    def __init__(self) -> None:
        self.count: dict[str, int] = {}

    def next(self, event: str) -> int:
        self.count[event] = self.count.get(event, 0) + 1
        return self.count[event]


def acted(member: Member, trace: Trace) -> HookSet | tuple[HookSet, ...]:
    """The hook set that acts a member out, and notes in `trace` what it is given."""
    calls = Calls()
    own = {event: _acting(member.name, event, deed, trace) for event, deed in member.deeds.items()}
    if member.keeps_state:
        made = stateful(
            member.name, Calls, order=member.order, before=member.before, reads=member.reads,
            **cast("Any", {event: _threaded(EVENTS[event].kind, act) for event, act in own.items()}),
        )  # fmt: skip
    else:
        slots = {event: _bound(act, calls) for event, act in own.items()}
        made = HookSet(
            name=member.name, order=member.order, before=member.before, reads=member.reads, **cast("Slots", slots)
        )
    if member.wrapper == "quarantine":
        return quarantine(made)
    if member.wrapper == "when":
        return when(at_points([1, 3], "updates"), made)
    return made


def _bound(act: Callable[..., Any], calls: Calls) -> Callable[..., object]:
    return lambda *given: act(calls, *given)


def _threaded(kind: str, act: Callable[..., Any]) -> Callable[..., object]:
    def hear(ctx: object, calls: Calls) -> tuple[Calls, object]:
        return calls, act(calls, ctx)

    def replace(ctx: object, value: object, calls: Calls) -> tuple[Calls, object]:
        return calls, act(calls, ctx, value)

    def wrap(ctx: object, calls: Calls) -> object:
        return act(calls, ctx)

    kinds: Mapping[str, Callable[..., object]] = {"on": hear, "transform": replace, "around": wrap}
    return kinds[kind]


def _acting(name: str, event: str, deed: Deed, trace: Trace) -> Callable[..., object]:
    def due(calls: Calls, ctx: object) -> str:
        trace.append((name, event, *_facts(ctx)))
        does = deed.does if calls.next(event) == deed.call else "nothing"
        if does in ERRORS:
            raise ERRORS[does](f"{name} on {event}")
        return does

    def hear(calls: Calls, ctx: Any) -> Answer | None:
        return _answer(due(calls, ctx), name, ctx)

    def replace(calls: Calls, ctx: Any, value: Any) -> Any:
        due(calls, ctx)
        return _replaced(event, value)

    @contextmanager
    def wrap(calls: Calls, ctx: Any) -> Generator[None]:
        does = due(calls, ctx)
        try:
            yield
        except BaseException as error:
            trace.append((name, event, "left by", type(error)))
            if does != "swallow":
                raise
        else:
            trace.append((name, event, "left"))

    kinds: Mapping[str, Callable[..., object]] = {"on": hear, "transform": replace, "around": wrap}
    return kinds[EVENTS[event].kind]


def _facts(ctx: Any) -> Iterator[object]:
    """What a context says, as plain data."""
    for one in cast("tuple[Attribute[object], ...]", type(ctx).__attrs_attrs__):
        if one.name not in ("run", "_norms", "_quick"):
            yield _plain(getattr(ctx, one.name))


def _plain(value: Any) -> object:
    if isinstance(value, Tensor):
        return (tuple(value.shape), cast("list[float]", value.detach().flatten().tolist()), value.requires_grad)
    if isinstance(value, tuple | list):
        return tuple(_plain(one) for one in cast("Sequence[object]", value))
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in cast("Mapping[str, object]", value).items()}
    if type(value).__name__ == "Failed":
        return ("Failed", str(value.error))
    return "NaN" if value != value else value  # the mean of an epoch without items equals itself


def _answer(does: str, name: str, ctx: Any) -> Answer | None:
    match does:
        case "Stop":
            return Stop(name)
        case "EndEpoch":
            return EndEpoch(name)
        case "Evaluate":
            return Evaluate("val")
        case "Record":
            return Record({f"{name}/batches": float(ctx.at.batches)})
        case "SkipBatch":
            return SkipBatch(name)
        case "SkipUpdate":
            return SkipUpdate(name)
        case _:
            return None


def _replaced(event: str, value: Any) -> Any:
    match event:
        case "transform_batch":
            return (value[0] * 1.25, value[1])
        case "transform_rates":
            return [rate * 0.5 for rate in value]
        case "transform_loss":
            return value * 0.5
        case "transform_gradients":
            return [gradient * 0.75 for gradient in value]
        case _:
            return {**value, "twice": 2.0 * value["val/loss"]}


def _deeds(event: str) -> st.SearchStrategy[Deed]:
    spec = EVENTS[event]
    kinds = [kind.__name__ for kind in spec.answers if kind.__name__ != "Save"]
    likely = kinds or (["swallow"] if spec.kind == "around" else [])
    does = st.sampled_from(["nothing"] * 4 + likely * 2)
    raises = st.sampled_from(["nothing", "nothing", *ERRORS])
    return st.builds(Deed, call=st.integers(1, 6), does=st.one_of(does, does, does, raises))


_HEARD = [event for event in EVENTS if event not in ("on_multiprocess_start", "on_checkpoint_saved")]
_WRAPPED = [event for event in _HEARD if "updates" in EVENTS[event].gated_by]


@st.composite
def members(draw: st.DrawFn, index: int) -> Member:
    wrapper = draw(st.sampled_from(["", "", "", "when", "quarantine"]))
    heard = _WRAPPED if wrapper == "when" else _HEARD
    events = draw(st.lists(st.sampled_from(heard), min_size=2, max_size=9, unique=True))
    return Member(
        name=f"h{index}",
        deeds={event: draw(_deeds(event)) for event in events},
        order=draw(st.sampled_from([0, 0, 0, -1, 1])),
        before=frozenset(draw(st.sampled_from([[], [], [], [f"h{index - 1}"], ["absent"]]))),
        reads=frozenset(draw(st.sampled_from([[], [], ["*"], ["train/loss"]]))),
        wrapper=wrapper,
        keeps_state=draw(st.booleans()),
    )


@st.composite
def programs(draw: st.DrawFn) -> Program:
    count = draw(st.integers(1, 4))
    epochs = draw(st.sampled_from([3, 2, 1, None]))
    updates = st.integers(0, 7)
    max_updates = draw(updates if epochs is None else st.one_of(st.none(), st.none(), updates))
    return Program(
        members=tuple(draw(members(index)) for index in range(count)),
        batches=draw(st.integers(1, 5)),
        sized=draw(st.booleans()),
        epochs=epochs,
        max_updates=max_updates,
        accumulate=draw(st.integers(1, 3)),
        evaluates=draw(st.integers(1, 3)),
    )
