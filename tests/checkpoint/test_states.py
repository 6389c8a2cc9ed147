"""The states of hook sets become trees and come back: records by their annotations, objects by their state_dict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from attrs import define, field, frozen
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from tests.checkpoint.test_tree import back
from tests.checkpoint.trees import same
from trainhooks.checkpoint import restored_state, saved_state
from trainhooks.core import Progress
from trainhooks.errors import CheckpointError
from trainhooks.hooks.records import Entry, History
from trainhooks.hooks.stopping import Best
from trainhooks.hooks.weights import Average


def carried(state: object, template: object) -> Any:
    """A state after a journey through a checkpoint."""
    return restored_state(template, back(saved_state(state)))


@frozen(kw_only=True)
class Inner:
    value: float
    tensor: Tensor | None = None


@dataclass
class Plain:
    inner: Inner


@frozen(kw_only=True)
class Everything:
    count: int
    mode: Literal["min", "max"] = "min"
    number: float | Tensor = 0
    free: object = None
    one: Inner | None = None
    some: list[Inner] = field(factory=list[Inner])
    row: tuple[Inner, ...] = ()
    pair: tuple[Inner, int] = (Inner(value=0.0), 1)
    series: Sequence[Inner] = ()
    numbers: Sequence[float] = ()
    by_name: Mapping[str, Inner] = field(factory=dict[str, Inner])
    weights: Mapping[str, object] | None = None
    names: frozenset[str] = frozenset()
    _hidden: int = field(default=0, alias="hidden")
    plain: Plain | None = None


FULL = Everything(
    count=3, mode="max", number=2.5, free=(1, {"a": {2}}), one=Inner(value=float("inf")),
    some=[Inner(value=1.0), Inner(value=2.0)], row=(Inner(value=3.0),), pair=(Inner(value=4.0), 5),
    series=(Inner(value=6.0),), numbers=[1.0, 2.0], by_name={"x": Inner(value=7.0)}, weights={"w": (1, 2)},
    names=frozenset({"a", "b"}), hidden=8, plain=Plain(Inner(value=9.0)),
)  # fmt: skip


def test_a_record_comes_back_equal_with_the_records_in_it() -> None:
    assert carried(FULL, Everything(count=0)) == FULL
    restored = carried(Everything(count=1, series=[Inner(value=1.0)], number=7), Everything(count=0))
    assert restored == Everything(count=1, series=[Inner(value=1.0)], number=7)
    assert type(restored.number) is int


def test_its_fields_are_a_dict_that_anybody_reads() -> None:
    assert saved_state(Inner(value=1.5)) == {"value": 1.5, "tensor": None}
    assert saved_state(FULL) == {
        "count": 3, "mode": "max", "number": 2.5, "free": (1, {"a": {2}}),
        "one": {"value": float("inf"), "tensor": None},
        "some": [{"value": 1.0, "tensor": None}, {"value": 2.0, "tensor": None}],
        "row": [{"value": 3.0, "tensor": None}], "pair": ({"value": 4.0, "tensor": None}, 5),
        "series": ({"value": 6.0, "tensor": None},), "numbers": [1.0, 2.0],
        "by_name": {"x": {"value": 7.0, "tensor": None}},
        "weights": {"w": (1, 2)}, "names": frozenset({"a", "b"}), "_hidden": 8,
        "plain": {"inner": {"value": 9.0, "tensor": None}},
    }  # fmt: skip


def test_tensors_in_records_come_back_bit_for_bit() -> None:
    weight = torch.randn(3, generator=torch.Generator().manual_seed(0))
    restored = carried(Everything(count=1, number=weight, one=Inner(value=1.0, tensor=weight)), Everything(count=0))
    assert isinstance(restored, Everything)
    assert same(restored.number, weight)
    assert restored.one is not None
    assert same(restored.one.tensor, weight)


def test_states_of_hooks_that_ship_come_back() -> None:
    best = Best(value=0.5, updates=3, failures=2, judged=4, weights={"w": torch.ones(2)})
    restored = carried(best, Best())
    assert isinstance(restored, Best)
    assert same(saved_state(restored), saved_state(best))
    entries = History([Entry(at=Progress(updates=2, batches=4), by="loop", values={"train/loss": 0.5})])
    assert carried(entries, History()) == entries
    average = carried(Average(parameters={"w": torch.ones(2)}, count=3), Average())
    assert isinstance(average, Average)
    assert average.count == 3
    assert same(average.parameters, {"w": torch.ones(2)})


def test_an_object_gives_and_takes_its_state_dict() -> None:
    def scheduler() -> StepLR:
        return StepLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), 2)

    was = scheduler()
    was.optimizer.step()
    was.step()
    template = scheduler()
    assert carried(was, template) is template
    assert template.last_epoch == 1


@pytest.mark.parametrize("state", [None, 3, 0.5, "a", (1, 2), {"a": [1]}, [torch.ones(2)]], ids=repr)
def test_a_plain_value_is_as_it_is(state: object) -> None:
    assert same(carried(state, None), state)


@define
class Derived:
    start: int
    seen: list[int] = field(init=False, factory=list[int])


def test_a_field_that_is_not_an_argument_comes_back_too() -> None:
    derived = Derived(3)
    derived.seen.append(4)
    assert carried(derived, Derived(0)) == derived


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"value": 1.0, "tensor": None, "old": 3}, "What was saved is no state of the class Inner: .*old"),
        ({"tensor": None}, "What was saved is no state of the class Inner: .*value"),
        (None, "What was saved is no state of the class Inner"),
    ],
)
def test_the_state_of_another_record_is_refused(saved: object, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        restored_state(Inner(value=0.0), saved)


def test_a_record_where_the_annotation_does_not_say_so_is_refused_by_its_place() -> None:
    with pytest.raises(CheckpointError, match=r"holds a tests.checkpoint.test_states.Inner at free.1"):
        back(saved_state(Everything(count=0, free=[1, Inner(value=1.0)])))


class Bare:
    pass


def test_an_object_without_a_state_dict_is_refused_by_its_class() -> None:
    with pytest.raises(CheckpointError, match=r"holds a tests.checkpoint.test_states.Bare"):
        back(saved_state(Bare()))
