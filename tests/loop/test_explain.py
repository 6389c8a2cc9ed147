"""`explain` shows what is called, in which order and why there, and then the loop that will run."""

from typing import Any

import pytest

from tests.core.callables import hook_set
from tests.core.sets import hear, replace
from trainhooks import (
    EVENTS,
    HookDefinitionError,
    OrderCycleError,
    compose,
    every,
    explain,
    for_device,
    for_rank,
    quarantine,
    since,
    stateful,
    timed,
    when,
)


def shown(*hooks: Any) -> list[str]:
    """The lines before the loop, which must be that of the table."""
    above, loop = explain(*hooks).split("# The loop:\n\n")
    assert loop == compose(*hooks).source
    return above.rstrip("\n").split("\n")


def test_without_hooks_there_is_the_loop_alone() -> None:
    assert explain() == f"# The loop:\n\n{compose().source}"


def test_events_come_in_the_order_of_a_run_with_their_hooks_in_order() -> None:
    hooks = [
        hook_set(name="logger", on_train_end=hear, on_batch_end=hear),
        hook_set(name="clip", order=5, transform_gradients=replace, on_batch_end=hear),
        stateful("stopper", int, on_batch_end=lambda ctx, state: (state, None), order=-1),
    ]
    assert shown(hooks) == [
        "transform_gradients",
        "  1. clip  order=5",
        "",
        "on_batch_end",
        "  1. stopper  order=-1",
        "  2. logger   as given",
        "  3. clip     order=5",
        "",
        "on_train_end",
        "  1. logger  as given",
    ]


def test_every_constraint_says_who_asked_for_it_on_both_sides() -> None:
    """Keeps P03."""
    hooks = [
        hook_set(name="reader", on_epoch_end=hear, reads={"gap"}),
        hook_set(name="provider", on_epoch_end=hear, provides={"gap"}, after={"first"}),
        hook_set(name="first", on_epoch_end=hear, before={"last"}),
        hook_set(name="last", on_epoch_end=hear),
    ]
    assert shown(hooks) == [
        "on_epoch_end",
        (
            "  1. first     as given; before 'provider', because 'provider' asks for after={'first'}; before 'last', "
            "because 'first' asks for before={'last'}"
        ),
        (
            "  2. provider  as given; before 'reader', because 'reader' reads 'gap'; after 'first', because 'provider' "
            "asks for after={'first'}"
        ),
        "  3. reader    as given; after 'provider', because 'reader' reads 'gap'",
        "  4. last      as given; after 'first', because 'first' asks for before={'last'}",
    ]


def test_the_set_that_leaves_the_final_weights_says_so_and_the_others_too() -> None:
    hooks = [
        hook_set(name="saver", on_train_end=hear),
        hook_set(name="late", order=1, on_train_end=hear),
        hook_set(name="best", on_train_end=hear, writes={"parameters", "final"}),
    ]
    assert shown(hooks) == [
        "on_train_end",
        "  1. best   as given; before the others of its order, because it declares writes={'final'}",
        "  2. saver  as given; after 'best', which leaves the final weights in the model",
        "  3. late   order=1",
    ]


def test_a_constraint_is_shown_where_both_hear_the_event() -> None:
    hooks = [
        hook_set(name="a", on_batch_end=hear, on_epoch_end=hear, after={"b"}),
        hook_set(name="b", on_epoch_end=hear),
    ]
    assert shown(hooks) == [
        "on_batch_end",
        "  1. a  as given",
        "",
        "on_epoch_end",
        "  1. b  as given; before 'a', because 'a' asks for after={'b'}",
        "  2. a  as given; after 'b', because 'a' asks for after={'b'}",
    ]


def test_names_that_are_not_there_are_said_to_be_ignored() -> None:
    hooks = [
        hook_set(name="a", on_batch_end=hear, before={"y", "x"}, after={"z", "b"}),
        hook_set(name="b", on_record=hear),
    ]
    assert shown(hooks) == [
        "on_batch_end",
        "  1. a  as given",
        "",
        "on_record",
        "  1. b  as given",
        "",
        "'a' has before={'x'}, which is not here: ignored.",
        "",
        "'a' has before={'y'}, which is not here: ignored.",
        "",
        "'a' has after={'z'}, which is not here: ignored.",
    ]


def test_wrappers_are_shown_where_they_count() -> None:
    some = hook_set(name="some", on_batch_end=[hear, hear], on_epoch_end=hear)
    both = hook_set(name="both", on_epoch_end=hear)
    hooks = [
        timed(quarantine(for_device(1, for_rank(2, when(every(2, "updates"), some))))),
        hook_set(name="others", on_epoch_end=hear, ranks={3, 1}),
        when(every(1, "epochs") | since(5, "updates"), when(since(2, "epochs"), both)),
    ]
    ranks = "on ranks [2]; on ranks within their node [1]; quarantined; timed"
    assert shown(hooks) == [
        "on_batch_end",
        f"  1. some  as given; when every(2, 'updates'); {ranks}",
        "",
        "on_epoch_end",
        f"  1. some    as given; when every(2, 'updates'); {ranks}",
        "  2. others  as given; on ranks [1, 3]",
        "  3. both    as given; when (every(1, 'epochs') | since(5, 'updates')) & since(2, 'epochs')",
    ]


@pytest.mark.parametrize("event", EVENTS)
def test_the_loop_that_is_shown_names_what_is_heard(event: str) -> None:
    hook = replace if EVENTS[event].kind == "transform" else hear
    text = explain(hook_set(name="one", **{event: hook}))
    above, loop = text.split("# The loop:\n\n")
    assert above == f"{event}\n  1. one  as given\n\n"
    assert loop.startswith("def train_loop(")
    called = [other for other in EVENTS if f"heard.{other}(" in loop]
    assert called == [event]


def test_what_compose_refuses_explain_refuses() -> None:
    a, b = hook_set(name="a", on_batch_end=hear, after={"b"}), hook_set(name="b", on_batch_end=hear, after={"a"})
    with pytest.raises(OrderCycleError, match="The order of 'a' -> 'b' -> 'a' goes in a circle"):
        explain(a, b)
    given: Any = {"on_bach_end": hear}
    with pytest.raises(HookDefinitionError, match="did you mean 'on_batch_end'"):
        explain(given)
