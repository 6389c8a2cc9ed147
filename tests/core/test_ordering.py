"""The order of hook sets: as given, moved by what somebody asked for and by nothing else."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast, final

import pytest
from hypothesis import given

from tests.core.callables import hook_set
from tests.core.sets import (
    SOME_EVENTS,
    Plan,
    circles,
    contradiction,
    hear,
    order_by_the_rule,
    replace,
    tables,
    wanted,
)
from trainhooks import (
    EVENTS,
    DuplicateHookNameError,
    HookDefinitionError,
    HookObject,
    HookSet,
    OrderCycleError,
    RunDefinitionError,
    compose,
    for_device,
    for_rank,
    quarantine,
    stateful,
)
from trainhooks.core import Arrangement, arrange

SLOTS = {event: replace if spec.kind == "transform" else hear for event, spec in EVENTS.items()}
UPDATES = "on_after_optimizer_step"


def everything(name: str, **keys: Any) -> HookSet:
    """A set that hears every event."""
    return hook_set(name=name, **keys, **SLOTS)


def orders(*sets: HookSet) -> set[tuple[str, ...]]:
    table = compose(*sets)
    return {table.order(event) for event in EVENTS}


Listens = type("Listens", (), {event: staticmethod(cast("Any", hook)) for event, hook in SLOTS.items()})


def test_every_event_has_the_order_given_whatever_the_sets_are() -> None:
    """Keeps P01."""
    a = {"name": "A", **SLOTS}
    c = stateful(
        "C", int, on_batch_end=lambda ctx, state: (state, None), reads=frozenset({"nothing here"}),
        writes=frozenset({"parameters"}), may_skip=True,
    )  # fmt: skip
    (d,) = quarantine(everything("D", writes=frozenset({"gradients"}), collective=True))
    mixed = [cast("HookSet", a), cast("HookObject", Listens()), c, d, everything("E", ranks=frozenset({0}))]
    for given_, names in ((mixed, ("A", "Listens", "C", "D", "E")), (mixed[::-1], ("E", "D", "C", "Listens", "A"))):
        table = compose(given_)
        assert table.order("on_batch_end") == names
        without_c = tuple(name for name in names if name != "C")
        assert {table.order(event) for event in EVENTS if event != "on_batch_end"} == {without_c}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "ABCDE"),
        ({"D": {"order": -1}}, "DABCE"),
        ({"B": {"order": 1}}, "ACDEB"),
        ({"B": {"order": 1}, "A": {"order": 1}}, "CDEAB"),
        ({"D": {"before": {"B"}}}, "ACDBE"),
        ({"B": {"after": {"D"}}}, "ACDBE"),
        ({"B": {"after": {"D"}}, "C": {"after": {"B"}}}, "ADBCE"),
        ({"E": {"before": {"A", "C"}}}, "BDEAC"),
        ({"A": {"before": {"absent"}, "after": {"absent"}}}, "ABCDE"),
        ({"A": {"before": {"E"}}, "D": {"after": {"B"}}}, "ABCDE"),
        ({"B": {"reads": {"x"}}, "E": {"provides": {"x"}}}, "ACDEB"),
        ({"E": {"reads": {"x"}}, "B": {"provides": {"x"}}}, "ABCDE"),
        ({"A": {"reads": {"*"}}, "C": {"provides": {"x"}}, "D": {"provides": {"y"}}}, "BCDAE"),
        ({"C": {"reads": {"x"}, "provides": {"x"}}}, "ABCDE"),
        ({"C": {"before": {"C"}, "after": {"C"}}}, "ABCDE"),
        ({"A": {"reads": {"x"}, "order": 1}, "E": {"provides": {"x"}, "order": 1}, "C": {"order": -1}}, "CBDEA"),
    ],
)
def test_what_is_asked_for_moves_only_what_it_must(keys: dict[str, dict[str, Any]], expected: str) -> None:
    """Keeps P01."""
    assert orders(*(everything(name, **keys.get(name, {})) for name in "ABCDE")) == {tuple(expected)}


def test_a_set_that_does_not_hear_the_event_keeps_the_others_apart_and_moves_nobody_else() -> None:
    """Keeps P01."""
    first = hook_set(name="first", on_batch_end=hear, after={"between"})
    other = hook_set(name="other", on_batch_end=hear)
    between = hook_set(name="between", on_epoch_end=hear, after={"last"})
    last = hook_set(name="last", on_batch_end=hear)
    assert compose(first, other, between, last).order("on_batch_end") == ("other", "last", "first")
    assert compose(first, other, between).order("on_batch_end") == ("first", "other")


@pytest.mark.parametrize("event", EVENTS)
def test_a_reader_stands_after_its_provider(event: str) -> None:
    """Keeps P03."""
    reader = hook_set(name="reader", reads={"gap"}, **{event: SLOTS[event]})
    provider = hook_set(name="provider", provides={"gap"}, **{event: SLOTS[event]})
    for given_ in ((reader, provider), (provider, reader)):
        assert compose(given_).order(event) == ("provider", "reader")
    of_all = hook_set(name="of all", reads={"*"}, **{event: SLOTS[event]})
    assert compose(of_all, reader, provider).order(event) == ("provider", "of all", "reader")


def test_an_order_that_forbids_a_reader_to_stand_after_its_provider_is_refused_naming_both() -> None:
    """Keeps P03."""
    reader, provider = everything("reader", reads={"gap"}, order=-1), everything("provider", provides={"gap"})
    for given_ in ((reader, provider), (provider, reader)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            compose(given_)
        assert type(caught.value) is OrderCycleError
        assert str(caught.value) == (
            "'reader' with order=-1 comes before 'provider' with order=0, but 'provider' must come before 'reader', "
            "because 'reader' reads 'gap'. Change one of the orders."
        )
        assert caught.value.path == ("reader", "provider", "reader")


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"late": {"before": {"early"}}}, "'late' asks for before={'early'}"),
        ({"early": {"after": {"late"}}}, "'early' asks for after={'late'}"),
        ({"early": {"reads": {"*"}}, "late": {"provides": {"x"}}}, "'early' reads 'x'"),
    ],
)
def test_an_order_is_as_hard_as_a_constraint(keys: dict[str, dict[str, Any]], why: str) -> None:
    early = everything("early", order=1, **keys.get("early", {}))
    late = everything("late", order=2, **keys.get("late", {}))
    with pytest.raises(OrderCycleError) as caught:
        compose(early, late)
    assert str(caught.value) == (
        "'early' with order=1 comes before 'late' with order=2, but 'late' must come before 'early', because "
        f"{why}. Change one of the orders."
    )


def test_a_circle_is_refused_with_its_path_and_who_asked_for_each_edge() -> None:
    sets = [
        everything("early", before={"a"}),
        everything("a", after={"c"}, provides={"x"}),
        everything("b", reads={"x"}),
        everything("c", after={"b"}),
        everything("late", after={"c"}),
    ]
    with pytest.raises(OrderCycleError) as caught:
        compose(sets)
    assert str(caught.value) == (
        "The order of 'a' -> 'b' -> 'c' -> 'a' goes in a circle: 'a' before 'b', because 'b' reads 'x'; 'b' before "
        "'c', because 'c' asks for after={'b'}; 'c' before 'a', because 'a' asks for after={'c'}."
    )
    assert caught.value.path == ("a", "b", "c", "a")


def test_two_sources_of_one_value_are_refused_naming_both() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        compose(everything("a", provides={"x", "y"}), everything("b"), everything("c", provides={"y"}))
    assert type(caught.value) is RunDefinitionError
    assert str(caught.value) == (
        "'a' and 'c' both provide the value 'y'; a name has one source. Rename one of the values."
    )


FINAL: dict[str, Any] = {"writes": {"parameters", "final"}}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"C": FINAL}, "CAB"),
        ({"C": {**FINAL, "order": 1}}, "ABC"),
        ({"C": FINAL, "A": {"order": -1}}, "ACB"),
        ({"C": {**FINAL, "reads": {"x"}}, "B": {"provides": {"x"}}}, "BCA"),
        ({"C": {**FINAL, "after": {"B"}}, "B": {"reads": {"x"}}, "A": {"provides": {"x"}}}, "ABC"),
    ],
)
def test_at_the_end_the_set_that_leaves_other_weights_comes_before_the_others_of_its_order(
    keys: dict[str, dict[str, Any]], expected: str
) -> None:
    table = compose(*(everything(name, **keys.get(name, {})) for name in "ABC"))
    assert table.order("on_train_end") == tuple(expected)
    plain = {name: {key: value for key, value in one.items() if key != "writes"} for name, one in keys.items()}
    assert table.order("on_epoch_end") == compose(
        *(everything(name, **plain.get(name, {})) for name in "ABC")
    ).order("on_epoch_end")  # fmt: skip


def test_two_sets_that_leave_other_weights_are_refused_naming_both() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        compose(everything("a", **FINAL), everything("b"), everything("c", **FINAL))
    assert type(caught.value) is RunDefinitionError
    assert str(caught.value) == (
        "'a' and 'c' each leave other weights in the model when the run ends (they declare writes={'final'}), and the "
        "last would undo the others. Keep one; where they are restore_best=True and apply_at_end=True, drop the "
        "latter, since the best weights are the average's already."
    )


@pytest.mark.parametrize("restrict", [for_rank, for_device])
def test_a_set_that_runs_collectives_cannot_be_restricted_to_some_ranks(restrict: Any) -> None:
    sentence = (
        "'gathers' runs collectives (collective=True), which need every rank, but it is restricted to some. Take away "
        "for_rank, for_device or ranks=."
    )
    with pytest.raises(HookDefinitionError, match=re.escape(sentence)):
        compose(restrict(0, everything("gathers", collective=True)))
    with pytest.raises(HookDefinitionError, match=re.escape(sentence)):
        compose(everything("gathers", collective=True, ranks={0, 1}))


def composed(made: Sequence[Plan]) -> Arrangement:
    return arrange([plan.made() for plan in made])


@given(tables())
def test_the_order_is_that_of_the_rule(made: list[Plan]) -> None:
    """Keeps P01, P67."""
    if contradiction(made):
        return
    arrangement = composed(made)
    for event in SOME_EVENTS:
        assert list(arrangement.order(event)) == order_by_the_rule(made, event)


@given(tables())
def test_contradictions_and_they_alone_are_refused(made: list[Plan]) -> None:
    """Keeps P67."""
    if not contradiction(made):
        composed(made)
        return
    with pytest.raises(OrderCycleError) as caught:
        composed(made)
    path = caught.value.path
    asked = {(made[a].name, made[b].name) for a, b in wanted(made)}
    by_order = {(a.name, b.name) for a in made for b in made if a.order < b.order}
    assert path[0] == path[-1]
    assert all(pair in asked or pair in by_order for pair in pairwise(path))
    assert any(pair in asked for pair in pairwise(path))
    assert all(repr(name) in str(caught.value) for name in path)


@given(circles())
def test_a_circle_is_refused_with_a_path_of_what_was_asked_for(made: list[Plan]) -> None:
    """Keeps P67."""
    with pytest.raises(OrderCycleError) as caught:
        composed(made)
    path = caught.value.path
    asked = {(made[a].name, made[b].name) for a, b in wanted(made)}
    assert path[0] == path[-1]
    assert len(path) > 1
    assert all(pair in asked for pair in pairwise(path))
    for first, then in pairwise(path):
        assert f"{first!r} before {then!r}, because " in str(caught.value)


@final
class Counted(tuple[Any, ...]):
    """A tuple that counts what is taken out of it."""

    taken = 0

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            Counted.taken += 1
            yield one

    def __getitem__(self, index: Any) -> Any:
        Counted.taken += 1
        return super().__getitem__(index)


def work(count: int) -> int:
    """How often sets and constraints are looked at to order a chain of `count` sets, given in the wrong order."""
    chain = [everything(f"h{i}", after={f"h{i + 1}"} if i + 1 < count else set()) for i in range(count)]
    found = arrange(chain)
    assert len(found.edges) == count - 1
    Counted.taken = 0
    counted = Arrangement(Counted(found.sets), Counted(found.edges))
    assert counted.order(UPDATES) == tuple(range(count))[::-1]
    return Counted.taken


def test_the_work_grows_in_step_with_sets_and_constraints() -> None:
    small, large = work(50), work(500)
    assert small > 0
    assert large <= 10 * small + 10


def test_tens_of_thousands_of_sets_with_constraints_are_composed() -> None:
    count = 20_000
    sets = [
        hook_set(name=f"h{i}", on_batch_end=hear, after={f"h{i + 1}"}, provides={f"v{i}"}, reads={f"v{i + 1}"})
        for i in range(count)
    ]
    table = compose(sets)
    assert table.order("on_batch_end") == tuple(f"h{i}" for i in reversed(range(count)))
    with pytest.raises(OrderCycleError) as caught:
        compose(sets, hook_set(name=f"h{count}", on_epoch_end=hear, after={"h0"}))
    assert len(caught.value.path) == count + 2


def test_two_stateful_sets_of_one_name_are_refused_with_their_positions() -> None:
    """Keeps P10."""
    twin = stateful("early_stopping", int, on_batch_end=lambda ctx, state: (state, None))
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        compose(twin, everything("early_stopping"), [twin])
    assert type(caught.value) is DuplicateHookNameError
    assert str(caught.value) == (
        "compose() got two stateful hook sets named 'early_stopping', at positions 0 and 2. States are saved by name; "
        "rename one: named('early_stopping_2', hook)."
    )
    assert (caught.value.name, caught.value.positions) == ("early_stopping", (0, 2))
