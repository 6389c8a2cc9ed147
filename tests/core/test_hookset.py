"""Hook sets are values with a name, whatever form they were given in; what is misspelt is refused with the nearest."""

import functools
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast
from unittest import mock

import pytest
from attrs import define
from attrs.exceptions import FrozenInstanceError

from tests.core.callables import Counter, counting, hook_set
from trainhooks import EVENTS, BatchEnd, EpochEnd, HookDefinitionError, HookDict, HookSet, compose, every, stateful
from trainhooks.core import flatten

HERE = Path(__file__).name
ALL = ", ".join(EVENTS)
FIRST = frozenset({"first"})


def hear(ctx: object) -> None: ...


def hear_too(ctx: object) -> None: ...


def replace(ctx: object, value: object) -> object:
    return value


def misspellings(event: str) -> set[str]:
    """One letter missing, doubled, wrong, or swapped with the next; and camel case."""
    places = range(len(event))
    missing = {event[:i] + event[i + 1 :] for i in places}
    doubled = {event[: i + 1] + event[i:] for i in places}
    wrong = {event[:i] + "q" + event[i + 1 :] for i in places}
    swapped = {event[:i] + event[i + 1] + event[i] + event[i + 2 :] for i in places[:-1]}
    first, *words = event.split("_")
    return (missing | doubled | wrong | swapped | {first + "".join(map(str.capitalize, words))}) - {event}


@pytest.mark.parametrize("event", EVENTS)
def test_every_misspelling_of_a_slot_is_refused_with_the_nearest(event: str) -> None:
    """Keeps P06."""
    hook = {"on": hear, "transform": replace, "around": hear}[EVENTS[event].kind]
    forms: list[Callable[[str], object]] = [
        lambda name: hook_set(**{name: hook}),
        lambda name: compose(cast("HookDict", {name: hook})),
        lambda name: stateful("s", int, **cast("Any", {name: hook})),
    ]
    for name, form in zip(sorted(misspellings(event)), cycle(forms), strict=False):
        with pytest.raises(TypeError) as caught:
            form(name)
        assert type(caught.value) is HookDefinitionError
        assert str(caught.value) == f"{name!r} is no event; did you mean {event!r}? The events: {ALL}."


@pytest.mark.parametrize("event", EVENTS)
def test_every_misspelling_of_a_method_is_refused_with_the_nearest(event: str) -> None:
    """Keeps P06."""
    methods: list[object] = [hear, staticmethod(hear), classmethod(hear), functools.partial(hear)]
    for name, method in zip(sorted(misspellings(event)), cycle(methods), strict=False):
        holder = type("Holder", (), {"on_batch_end": counting, name: method})()
        if name.startswith("_"):
            assert [event for event, _ in next(flatten(holder)).slots] == ["on_batch_end"]
            continue
        with pytest.raises(TypeError) as caught:
            next(flatten(holder))
        assert type(caught.value) is HookDefinitionError
        assert str(caught.value) == (
            f"Holder.{name} is no event and would never be called; the nearest event is {event}. Rename the method, or "
            "give it a leading underscore."
        )


class Epochs:
    """An object with methods named like events, and some that are not."""

    on_time = "a plain attribute is nobody's hook"
    on_train_end = None
    seen: int = 0

    def on_epoch_end(self, ctx: EpochEnd) -> None:
        self.seen += 1

    def on_batch_end(self, ctx: BatchEnd) -> None: ...

    def epoch(self) -> None: ...

    def transform(self, value: float) -> float:
        return value

    def batch_end(self) -> None: ...

    def _on_epch_end(self) -> None: ...


class Called:
    """An object that can be called and has a method with a nearly right name."""

    def __call__(self, ctx: BatchEnd) -> None: ...

    def on_epch_end(self, ctx: EpochEnd) -> None: ...


def test_an_object_is_a_set_of_its_methods_that_are_named_like_events() -> None:
    holder = Epochs()
    (made,) = flatten(holder)
    assert made.name == "Epochs"
    assert made.slots == (("on_batch_end", (holder.on_batch_end,)), ("on_epoch_end", (holder.on_epoch_end,)))
    (of_mock,) = flatten(mock.Mock(spec=["on_epoch_end"]))
    assert of_mock.name == "Mock"
    assert [event for event, _ in of_mock.slots] == ["on_epoch_end"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (hear, "hooks= got the function hear; say when: {'on_batch_end': hear}."),
        (print, "hooks= got the function print; say when: {'on_batch_end': print}."),
        (Counter().bound, "hooks= got the function Counter.bound; say when: {'on_batch_end': Counter.bound}."),
        (Epochs, "hooks= got the class Epochs; give an instance: Epochs()."),
        (HookSet, "hooks= got the class HookSet; give an instance: HookSet()."),
        (
            Called(),
            (
                "Called.on_epch_end is no event and would never be called; the nearest event is on_epoch_end. Rename "
                "the method, or give it a leading underscore."
            ),
        ),
        ({1: hear}, f"'1' is no event; did you mean 'on_train_loop_registration'? The events: {ALL}."),
        ({"on_batch_end": hear, "ordr": 1}, f"'ordr' is no event; did you mean 'order'? The events: {ALL}."),
        ({"on_batch_end": hear, "wirtes": FIRST}, f"'wirtes' is no event; did you mean 'writes'? The events: {ALL}."),
        ({}, f"A hook set needs a hook on some event. The events: {ALL}."),
        ({"on_batch_end": []}, f"A hook set needs a hook on some event. The events: {ALL}."),
        ({"on_batch_end": hear, "name": 3}, "name is a string, got 3."),
        ({"on_batch_end": hear, "order": 1.5}, "order is a whole number, got 1.5."),
        ({"on_batch_end": hear, "devices": []}, "devices is a set of ranks or None, got []; write devices={0}."),
        ({"on_batch_end": hear, "reads": 3}, "reads is a set of names, got 3; write reads={3}."),
        ({"on_batch_end": hear, "reads": [3]}, "reads is a set of names, which are strings; got 3 among them."),
        (
            {"on_batch_end": hear, "when": "always"},
            "when is a trigger, such as every(100, 'updates'), or None, got 'always'.",
        ),
        (
            {"on_batch_end": hear, "on_epoch_end": hear, "governs": {"on_epoch_begin"}},
            (
                "governs names the events that a trigger gates, of those on which the set has hooks; got "
                "'on_epoch_begin', and the set has hooks on on_batch_end, on_epoch_end."
            ),
        ),
        (
            {"on_batch_end": hear, "before": "first"},
            "before is a set of names, got 'first'; write before={'first'}.",
        ),
        (
            {"on_batch_end": hear, "writes": {"weights"}},
            (
                "writes got 'weights'; a set can declare parameters, buffers, gradients, optimizer, requires_grad, "
                "modes, batch, final, rates, base_rates."
            ),
        ),
        (
            {"on_batch_end": hear, "ranks": 0},
            "ranks is a set of ranks or None, got 0; write ranks={0}.",
        ),
        (
            {"on_batch_end": hear, "ranks": []},
            "ranks is a set of ranks or None, got []; write ranks={0}.",
        ),
    ],
)
def test_what_cannot_be_a_hook_set_is_refused_with_what_to_write(given: Any, sentence: str) -> None:
    """Keeps P06."""
    with pytest.raises(HookDefinitionError) as caught:
        compose(given)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("given", [None, 5, "on_batch_end", b"on_batch_end", object(), mock.Mock(), Counter()])
def test_what_has_no_method_of_an_event_is_refused_with_the_forms_that_there_are(given: Any) -> None:
    """Keeps P06."""
    with pytest.raises(HookDefinitionError) as caught:
        compose([given])
    assert str(caught.value) == (
        f"{given!r} is no hook: a HookSet, a dict such as {{'on_batch_end': f}}, an object with methods named like "
        f"events, or a sequence of these. The events: {ALL}."
    )


def test_any_nesting_gives_the_sets_in_the_order_given() -> None:
    first, second = hook_set(name="first", on_batch_end=hear), hook_set(name="second", on_batch_end=hear)
    of_mapping: Mapping[str, object] = MappingProxyType({"name": "third", "on_batch_end": hear})
    nested: list[object] = [first, ((second,), []), [[cast("HookDict", of_mapping)]], compose(first, [Epochs()])]
    assert [one.name for one in flatten(nested)] == ["first", "second", "third", "first", "Epochs"]


def test_a_set_is_named_as_given_or_by_its_first_hook() -> None:
    anonymous: Callable[[object], None] = lambda ctx: None  # noqa: E731
    line = anonymous.__code__.co_firstlineno
    assert hook_set(name="given", on_batch_end=hear).name == "given"
    assert hook_set(on_train_end=hear_too, on_batch_end=hear).name == "hear_too"
    assert hook_set(on_batch_end=[], on_train_end=hear_too).name == "hear_too"
    assert hook_set(on_batch_end=Counter().bound).name == "Counter.bound"
    assert hook_set(on_batch_end=Counter()).name == "Counter"
    assert hook_set(on_batch_end=anonymous).name == f"lambda@{HERE}:{line}"


def test_a_set_holds_its_hooks_by_event_in_the_order_of_a_run() -> None:
    made = hook_set(on_train_end=[hear, hear_too], transform_batch=replace, on_train_begin=(hear,))
    assert made.slots == (
        ("on_train_begin", (hear,)),
        ("transform_batch", (replace,)),
        ("on_train_end", (hear, hear_too)),
    )
    assert made.hooks("on_train_end") == (hear, hear_too)
    assert made.hooks("on_batch_end") == ()
    assert repr(made) == "HookSet('hear': on_train_begin, transform_batch, on_train_end)"


KEYS: dict[str, object] = {
    "order": 1,
    "before": frozenset({"a"}),
    "after": frozenset({"b"}),
    "reads": frozenset({"c"}),
    "provides": frozenset({"d"}),
    "writes": frozenset({"gradients"}),
    "ranks": frozenset({0, 1}),
    "may_skip": True,
    "collective": True,
    "devices": frozenset({0}),
    "governs": frozenset({"on_batch_end"}),
    "when": every(2, "updates"),
    "quarantined": True,
    "timed": True,
}


@define
class Unhashable:
    """A hook that compares by value and has no hash."""

    limit: int

    def __call__(self, ctx: object) -> None: ...


def test_sets_compare_and_hash_by_value() -> None:
    """Keeps P67."""
    one = hook_set(name="s", on_batch_end=hear)
    assert one == hook_set(name="s", on_batch_end=[hear])
    assert hash(one) == hash(hook_set(name="s", on_batch_end=[hear]))
    assert one != hook_set(name="t", on_batch_end=hear)
    assert one != hook_set(name="s", on_batch_end=hear_too)
    assert one != hook_set(name="s", on_epoch_end=hear)
    assert len({one, hook_set(name="s", on_batch_end=hear), hook_set(name="t", on_batch_end=hear)}) == 2
    for key, value in KEYS.items():
        changed = hook_set(name="s", on_batch_end=hear, **{key: value})
        assert getattr(changed, key) == value
        assert changed != one, key
        assert changed == hook_set(name="s", on_batch_end=hear, **{key: value})
    assert hash(hook_set(on_batch_end=Unhashable(3))) == hash(hook_set(on_batch_end=Unhashable(3)))
    assert hook_set(on_batch_end=Unhashable(3)) == hook_set(on_batch_end=Unhashable(3))
    assert hook_set(on_batch_end=Unhashable(3)) != hook_set(on_batch_end=Unhashable(4))


def test_names_in_any_collection_become_a_set() -> None:
    for names in (["a", "b"], ("b", "a"), {"a", "b"}, {"a": 1, "b": 2}, {"a": 1, "b": 2}.keys()):
        assert hook_set(on_batch_end=hear, after=names) == hook_set(on_batch_end=hear, after=frozenset({"a", "b"}))


def test_sets_cannot_be_changed() -> None:
    """Keeps P67."""
    one = hook_set(name="s", on_batch_end=hear)
    for field in ("name", "order", "slots", "init", *KEYS):
        with pytest.raises(FrozenInstanceError):
            setattr(one, field, None)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(one, "novel", None)  # noqa: B010
    assert one == hook_set(name="s", on_batch_end=hear)


def test_a_set_does_not_change_with_the_list_that_it_was_made_of() -> None:
    """Keeps P67."""
    hooks: list[Callable[[object], None]] = [hear]
    names = {"a"}
    one = hook_set(name="s", on_batch_end=hooks, before=names)
    hooks.append(hear_too)
    names.add("b")
    assert one == hook_set(name="s", on_batch_end=hear, before={"a"})
