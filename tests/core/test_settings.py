"""A set that a factory made is a value of the factory's arguments: compared, shown, copied and pickled by them."""

import copy
import functools
import math
import pickle
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import pytest
import torch
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainhooks import (
    BatchEnd,
    HookDefinitionError,
    HookSet,
    TrainhooksError,
    compose,
    every,
    factory,
    for_device,
    for_rank,
    named,
    ordered,
    quarantine,
    stateful,
    timed,
    when,
)
from trainhooks.core import told, whole_number
from trainhooks.hooks import checkpoint, clip_grad_norm, cosine, ema, freeze, lr_schedule, torch_scheduler, warmup


def hear(ctx: object) -> None: ...


def hear_too(ctx: object) -> None: ...


class Size(Enum):
    SMALL = 1
    LARGE = 2


@final
@frozen
class Pair:
    one: object
    other: object


@factory
def holding(value: object = None, *more: object, name: str = "holding", **words: object) -> HookSet:
    return HookSet(name=name, on_batch_end=lambda ctx: None)


@factory
def around_another(inner: HookSet, n: int = 1) -> HookSet:
    return named("outer", inner)


@factory
def gentle(norm: float = 1.0) -> HookSet:
    """Clips gently."""
    return clip_grad_norm(norm)


MODULE, TENSOR = nn.Linear(1, 1), torch.zeros(2)
VALUES: list[Callable[[], Any]] = [
    lambda: 1,
    lambda: True,
    lambda: math.nan,
    lambda: "1",
    lambda: b"1",
    lambda: None,
    lambda: Decimal("2.5"),
    lambda: Path("1"),
    lambda: Size.SMALL,
    lambda: Size.LARGE,
    lambda: torch.float32,
    lambda: torch.device("cpu"),
    lambda: [1, [2.5]],
    lambda: {"a": [1], "b": {2}},
    lambda: {"a": [1], "b": {3}},
    lambda: {1, 2},
    lambda: hear,
    lambda: hear_too,
    lambda: MODULE,
    lambda: MODULE.forward,
    lambda: TENSOR,
    lambda: every(2, "epochs"),
    lambda: every(3, "epochs"),
    lambda: cosine(10),
    lambda: warmup(2, cosine(10)),
    lambda: clip_grad_norm(2.0),
    lambda: named("other", clip_grad_norm(2.0)),
    lambda: Pair([1], TENSOR),
    lambda: Pair([2], TENSOR),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(VALUES)))
def test_sets_are_equal_where_their_arguments_are(index: int) -> None:
    """Keeps P92."""
    one = holding(VALUES[index]())
    assert one == holding(value=VALUES[index]())
    assert hash(one) == hash(holding(VALUES[index]()))
    assert one == holding(VALUES[index](), name="holding")
    assert [other for other in range(len(VALUES)) if holding(VALUES[other]()) == one] == [index]
    assert one != holding(VALUES[index](), 1)
    assert one != holding(VALUES[index](), x=1)


def test_numbers_compare_as_numbers_and_a_bool_is_none() -> None:
    """Keeps P92."""
    assert holding(1) == holding(1.0) == holding(np.int64(1)) == holding(np.float32(1.0))
    assert holding(0.0) == holding(-0.0)
    assert holding(math.nan) == holding(np.float64("nan"))
    assert len({holding(1), holding(1.0), holding(True), holding("1")}) == 3
    assert holding([True]) != holding([1])
    assert holding((1, 2)) == holding([1, 2])


def test_what_is_no_plain_value_is_equal_to_itself_alone() -> None:
    """Keeps P92."""
    assert holding(torch.zeros(2)) != holding(torch.zeros(2))
    assert holding(lambda: 1) != holding(lambda: 1)
    assert holding(nn.Linear(1, 1)) != holding(nn.Linear(1, 1))
    assert holding(np.zeros(2)) != holding(np.zeros(2))
    assert holding([TENSOR]) == holding([TENSOR])


def test_the_wrappers_of_a_set_count_and_its_factory_too() -> None:
    """Keeps P92."""
    clip = clip_grad_norm(1.0)
    assert clip == clip_grad_norm(1.0)
    assert clip != gentle(1.0)
    variants: list[HookSet] = [
        clip, named("other", clip), ordered(1, clip), *when(every(2, "updates"), clip), *for_rank(0, clip),
        *for_device(0, clip), *quarantine(clip), *timed(clip), *timed(quarantine(clip)),
    ]  # fmt: skip
    assert len(set(variants)) == len(variants)
    assert quarantine(when(every(2, "updates"), clip)) == when(every(2, "updates"), quarantine(clip_grad_norm(1.0)))
    assert compose(clip, ema(0.9)) == compose(clip_grad_norm(1.0), ema(0.9)) != compose(clip, ema(0.99))
    assert hash(compose(clip, ema(0.9))) == hash(compose(clip_grad_norm(1.0), ema(0.9)))


def test_settings_name_the_factory_and_its_arguments_with_defaults_and_frozen() -> None:
    """Keeps P92."""
    given: dict[str, Any] = {"a": [1, {2}]}
    settings = holding(given, 5, "six", loud=True).settings
    assert settings is not None
    assert settings.factory is holding
    given["a"].append(3)
    assert settings.arguments == {
        "value": {"a": (1, frozenset({2}))}, "more": (5, "six"), "name": "holding", "words": {"loud": True},
    }  # fmt: skip
    with pytest.raises(TypeError):
        cast("Any", settings.arguments)["value"] = 1
    with pytest.raises(TypeError):
        cast("Any", settings.arguments["value"])["a"] = 1
    assert HookSet(name="x", on_batch_end=hear).settings is None
    with pytest.raises(HookDefinitionError, match="settings are those of a set that a factory made, or None, got 3"):
        HookSet(name="x", on_batch_end=hear, settings=cast("Any", 3))


def test_of_nested_factories_the_outermost_counts() -> None:
    """Keeps P92."""
    assert repr(gentle(2.0)) == "named('clip_grad_norm', gentle(norm=2.0))"
    made = around_another(clip_grad_norm(1.0))
    assert made.settings is not None
    assert made.settings.factory is around_another
    assert made.settings.arguments["inner"] == clip_grad_norm(1.0)
    assert made == around_another(clip_grad_norm(1.0)) != around_another(clip_grad_norm(2.0))


def test_a_factory_keeps_its_name_document_and_errors() -> None:
    assert gentle.__name__ == "gentle"
    assert gentle.__doc__ == "Clips gently."
    with pytest.raises(TypeError, match=r"^gentle\(\) got an unexpected keyword argument 'nrm'"):
        cast("Any", gentle)(nrm=1)


def two_sets() -> list[HookSet]:
    return [clip_grad_norm(1.0), ema(0.9)]


SEVERAL, NOTHING = r"\[clip_grad_norm\(max_norm=1\.0\), ema", "None"


@pytest.mark.parametrize(("f", "gave"), [(two_sets, SEVERAL), (functools.partial(hear, None), NOTHING)])
def test_a_factory_that_does_not_give_one_set_is_refused_when_it_is_called(f: Any, gave: str) -> None:
    made: Callable[[], HookSet] = factory(f)
    with pytest.raises(HookDefinitionError, match=f"is under @factory, so it gives one HookSet, and it gave {gave}"):
        made()
    with pytest.raises(HookDefinitionError, match="factory decorates a function that gives a HookSet, got 3"):
        factory(cast("Any", 3))


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (clip_grad_norm(1.0), "clip_grad_norm(max_norm=1.0)"),
        (clip_grad_norm(cast("Any", np.float32(0.5)), 1), "clip_grad_norm(max_norm=0.5, norm_type=1)"),
        (freeze("a.*", "b.*", until=3), "freeze('a.*', 'b.*', until=3)"),
        (holding(1, 2, name="x", y=3), "named('x', holding(1, 2, name='x', y=3))"),
        (holding(TENSOR), "holding(value=torch.Tensor)"),
        (holding(MODULE), "holding(value=torch.nn.modules.linear.Linear)"),
        (holding(hear), "holding(value=tests.core.test_settings.hear)"),
        (holding(nn.ReLU), "holding(value=torch.nn.modules.activation.ReLU)"),
        (holding(Pair((1,), Path("a"))), "holding(value=Pair(one=(1,), other='a'))"),
        (holding(Size.SMALL), "holding(value=Size.SMALL)"),
        (holding({"b": {2, 1}}), "holding(value={'b': {1, 2}})"),
        (holding(list(range(100))), f"holding(value={str(list(range(100)))[:77]}...)"),
        (lr_schedule(cosine(10)), "lr_schedule(factor_of_update=cosine(updates=10))"),
        (holding(password="hunter2", api_key="k"), "holding(password='***', api_key='***')"),
        (holding({"init": {"API_KEY": "k", "mode": "w"}}), "holding(value={'init': {'API_KEY': '***', 'mode': 'w'}})"),
        (holding("s3://user:hunter2@host/bucket"), "holding(value='s3://***@host/bucket')"),
        (holding(password_env="SMTP_PASSWORD"), "holding(password_env='SMTP_PASSWORD')"),
        (when(every(2, "epochs"), quarantine(ema(0.9)))[0], "quarantine(when(every(2, 'epochs'), ema(decay=0.9)))"),
        (named("mine", ema(0.9)), "named('mine', ema(decay=0.9))"),
        (HookSet(name="loud", on_batch_end=hear), "HookSet('loud': on_batch_end)"),
    ],
)
def test_a_set_is_shown_as_it_is_written(made: HookSet, text: str) -> None:
    """Keeps P92."""
    assert repr(made) == text


def test_what_is_told_of_a_long_value_is_short_and_differs_with_it() -> None:
    one, other = list(range(5000)), [*range(4999), 0]
    assert len(told(one)) < 1100
    assert told(one) != told(other)
    assert told(one) == told(list(one))


def test_no_secret_is_told_in_any_text() -> None:
    settings = holding(password="hunter2", init={"token": "hunter2"}, url="ftp://hunter2@host").settings
    assert settings is not None
    assert "hunter2" not in repr(settings.told())
    assert cast("Any", settings.arguments["words"])["password"] == "hunter2"


def copies(hook_set: HookSet) -> list[HookSet]:
    return [pickle.loads(pickle.dumps(hook_set)), copy.copy(hook_set), copy.deepcopy(hook_set)]


@pytest.mark.parametrize(
    "made",
    [
        clip_grad_norm(1.0),
        ema(0.9, every=2),
        freeze("a.*", until=3),
        lr_schedule(warmup(2, cosine(10))),
        checkpoint(when=every(3, "updates"), keep_best=("val/loss", "min")),
        named("mine", ordered(2, clip_grad_norm(1.0))),
        *when(every(2, "updates"), *quarantine(*timed(*for_rank(0, *for_device(0, holding(3)))))),
        around_another(when(every(2, "updates"), clip_grad_norm(1.0))[0]),
        HookSet(name="x", order=3, reads={"y"}, on_batch_end=hear),
        HookSet(on_batch_end=[hear, hear_too]),
    ],
)
def test_sets_pickle_and_are_copied(made: HookSet) -> None:
    """Keeps P92."""
    for other in copies(made):
        assert other == made
        assert hash(other) == hash(made)
        assert (repr(other), other.settings, other.keeps) == (repr(made), made.settings, made.keeps)
        assert [event for event, _ in other.slots] == [event for event, _ in made.slots]
    table = compose(made, ema(0.5) if made.name != "ema" else clip_grad_norm(1.0))
    assert pickle.loads(pickle.dumps(table)) == table


def test_the_factory_is_called_again_with_arguments_of_the_same_kinds() -> None:
    calls: list[object] = []

    def make(values: list[int]) -> HookSet:
        calls.append(values)
        return HookSet(name="made", on_batch_end=hear)

    given = [1, 2]
    made = factory(make)(given)
    assert calls[0] is given  # a factory may keep what it is given
    given.append(3)
    copy.deepcopy(made)
    assert calls[1] == [1, 2]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: torch_scheduler(lambda optimizer: cast("Any", optimizer), unit="epochs"),
            r"its argument factory does not \(.*lambda.*\); give plain data, or a function or class from the top level",
        ),
        (
            factory(lambda: HookSet(name="x", on_batch_end=hear)),
            r"its factory does not \(.*lambda.*\); give plain data",
        ),
        (
            lambda: HookSet(name="x", on_batch_end=lambda ctx: None),
            r"its on_batch_end, `lambda@.*:\d+\(ctx\)`.*, does not .*give a module-level function, or .* @factory",
        ),
        (
            lambda: stateful("s", lambda: 0, on_batch_end=lambda ctx, state: (state, None)),
            "does not pickle, because its on_batch_end, ",
        ),
    ],
)
def test_what_does_not_pickle_is_named(make: Callable[[], HookSet], sentence: str) -> None:
    """Keeps P92."""
    made = make()
    with pytest.raises(HookDefinitionError, match=sentence):
        pickle.dumps(made)
    assert copy.copy(made) == made
    assert [event for event, _ in copy.deepcopy(made).slots] == [event for event, _ in made.slots]


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (np.int64(3), 3), (np.uint8(3), 3), (torch.tensor(3), 3), (np.array(3), 3), (-2, -2), (0, 0)],
)
def test_whole_numbers_of_any_kind_are_ints(value: object, number: int) -> None:
    found = whole_number(value)
    assert (type(found), found) == (int, number)
    assert whole_number(value, number + 1) is None


NO_WHOLE_NUMBERS = [True, np.bool_(True), torch.tensor(True), 3.0, np.float64(3), "3", None, torch.ones(2)]


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS)
def test_what_is_no_whole_number_is_none(value: object) -> None:
    assert whole_number(value) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(plain, plain)
def test_equal_sets_have_equal_hashes_texts_and_copies(one: Any, other: Any) -> None:
    """Keeps P92."""
    first, second = holding(one), holding(other)
    assert (first == second) == (second == first)
    if first == second:
        assert hash(first) == hash(second)
    assert pickle.loads(pickle.dumps(first)) == first == copy.deepcopy(first) == holding(copy.deepcopy(one))


def test_a_batch_type_goes_through_a_factory() -> None:
    @factory
    def typed(n: int) -> HookSet[torch.Tensor, torch.Tensor]:
        def on_batch_end(ctx: BatchEnd[torch.Tensor, torch.Tensor]) -> None: ...

        return HookSet(on_batch_end=on_batch_end)

    assert isinstance(typed(1), HookSet)
    assert issubclass(HookDefinitionError, TrainhooksError)
