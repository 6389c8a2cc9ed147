"""Whatever a batch or an output is made of is opened and rebuilt in one way, or it is handed on as it is."""

from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import attrs
import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils._pytree import register_pytree_node

from tests.core.outputs import REFUSED, Classified, fill
from trainhooks.core import INSIDE, changed, tensors_in

T = TypeVar("T")
ONES, TWOS = torch.ones(2), torch.full((2,), 2.0)


def doubled(part: Any) -> Any:
    """Puts a two for a one."""
    return TWOS if part is ONES else INSIDE


@dataclass
class Unregistered(OrderedDict[str, Any]):
    logits: Any = None
    update = REFUSED

    def __post_init__(self) -> None:
        fill(self)


class FrozenDict(dict[str, Any]):
    update = __setitem__ = REFUSED


class AttributeDict(dict[str, Any]):
    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.__dict__ = self


class Both(NamedTuple):
    left: Any
    right: Any


class Pair(Both):  # with a constructor of its own
    def __new__(cls, both: Any) -> "Pair":
        return super().__new__(cls, both, both)


class Two(tuple[Any, ...]):
    note: str

    def __new__(cls, left: Any, right: Any) -> "Two":
        made = super().__new__(cls, (left, right))
        made.note = "kept"
        return made


class Stack(list[Any]):
    def __init__(self, size: int, *items: Any) -> None:
        super().__init__(items)
        self.size = size


class Queue(deque[Any]):
    pass


class Named(NamedTuple):
    x: Any
    label: str = "a"


@dataclass(frozen=True, slots=True)
class Frozen:
    x: Any
    doubles: ClassVar[int] = 2


@dataclass
class Partial:
    x: Any
    seed: InitVar[int]
    cached: Any = field(init=False)

    def __post_init__(self, seed: int) -> None:
        if not isinstance(seed, int):
            raise TypeError("called again")

    @cached_property
    def again(self) -> Any:
        return self.x


class Derived(Partial):
    pass


@attrs.frozen
class Record(Generic[T]):
    x: T
    _hidden: int = 3
    made: int = attrs.field(init=False, default=5)


@attrs.frozen(slots=False)
class Loose(Record[Any]):
    pass


class Registered:
    def __init__(self, x: Any) -> None:
        self.x = x


register_pytree_node(Registered, lambda one: ([one.x], None), lambda parts, _: Registered(*parts))


def looked_at(record: Partial) -> Partial:
    assert record.again is record.x
    return record


REBUILT: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tuple": (lambda x: (x, 3), lambda one: one[0]),
    "list": (lambda x: ["a", x], lambda one: one[1]),
    "dict": (lambda x: {3: None, "x": x}, lambda one: one["x"]),
    "nested": (lambda x: {"a": [(x,)]}, lambda one: one["a"][0][0]),
    "OrderedDict": (lambda x: OrderedDict[str, Any](b=x, a=1), lambda one: one["b"]),
    "defaultdict": (lambda x: defaultdict(list, x=x), lambda one: one["x"]),
    "derived from defaultdict": (lambda x: type("D", (defaultdict,), {})(list, x=x), lambda one: one["x"]),
    "Counter": (lambda x: Counter(x=x), lambda one: one["x"]),
    "deque": (lambda x: deque([x, x], maxlen=3), lambda one: one[1]),
    "derived from deque": (lambda x: Queue([x], maxlen=3), lambda one: one[0]),
    "derived from list": (lambda x: Stack(7, x), lambda one: one[0]),
    "attribute of a list": (Stack, lambda one: one.size),
    "a tuple with its own constructor": (lambda x: Two(x, 1), lambda one: one[0]),
    "a dict that refuses changes": (lambda x: FrozenDict(x=x), lambda one: one["x"]),
    "a dict whose keys are attributes": (lambda x: AttributeDict(x=x), lambda one: one.x),
    "named tuple": (Named, lambda one: one.x),
    "a named tuple with its own constructor": (Pair, lambda one: one.right),
    "what torch returns": (lambda x: torch.return_types.max((x, x)), lambda one: one.values),
    "frozen dataclass with slots": (Frozen, lambda one: one.x),
    "dataclass with a field that is not set": (lambda x: Partial(x, 1), lambda one: one.x),
    "what a dataclass has cached": (lambda x: looked_at(Partial(x, 1)), lambda one: one.again),
    "derived from a dataclass": (lambda x: Derived(x, 1), lambda one: one.x),
    "attrs record": (Record, lambda one: one.x),
    "generic attrs record": (Record[Any], lambda one: one.x),
    "attrs record without slots": (Loose, lambda one: one.x),
    "Hugging Face's output": (lambda x: Classified(logits=x), lambda one: one.logits),
    "Hugging Face's output by key": (lambda x: Classified(logits=x, hidden=(1, x)), lambda one: one["hidden"][1]),
    "such an output that nobody registered": (Unregistered, lambda one: one.logits),
    "by key": (Unregistered, lambda one: one["logits"]),
    "registered with torch's pytree": (Registered, lambda one: one.x),
}  # fmt: skip


@pytest.mark.parametrize(("make", "part"), REBUILT.values(), ids=REBUILT)
def test_a_container_is_rebuilt_with_other_parts_and_the_given_one_stays_as_it_was(
    make: Callable[[Any], Any], part: Callable[[Any], Any]
) -> None:
    given = make(ONES)
    made = changed(given, doubled)
    assert type(made) is type(given)
    assert made is not given
    assert part(made) is TWOS
    assert part(given) is ONES


@pytest.mark.parametrize(("make", "part"), REBUILT.values(), ids=REBUILT)
def test_where_nothing_changes_the_same_object_comes_back(
    make: Callable[[Any], Any], part: Callable[[Any], Any]
) -> None:
    given = make(torch.zeros(2))
    assert changed(given, doubled) is given
    assert changed([given], doubled)[0] is given


def test_what_is_no_part_goes_over_to_the_twin() -> None:
    made = changed(defaultdict(list, {"x": ONES}), doubled)
    assert made["new"] == []
    assert changed(deque([ONES], maxlen=3), doubled).maxlen == 3
    assert changed(Queue([ONES], maxlen=3), doubled).maxlen == 3
    assert list(changed(OrderedDict(b=ONES, a=1), doubled)) == ["b", "a"]
    assert changed(Two(ONES, 1), doubled).note == "kept"
    assert changed(Stack(7, ONES), doubled).size == 7
    partial = changed(Partial(ONES, 1), doubled)
    assert not hasattr(partial, "cached")
    record = changed(Record(ONES, 8), doubled)
    assert (record._hidden, record.made) == (8, 5)
    again = changed(AttributeDict(x=ONES), doubled)
    again.y = 3
    assert again["y"] == 3


class Recording:
    """A mapping of the user's that nobody can rebuild."""

    def __init__(self, x: Any) -> None:
        self.x = x


class OwnMapping(Mapping[str, Any]):
    def __init__(self, **values: Any) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass
class Node:
    x: Any
    parent: Any = None


@dataclass
class DataclassError(Exception):
    x: Any


@dataclass(eq=False)
class DataclassModule(nn.Module):
    x: Any

    def __post_init__(self) -> None:
        super().__init__()


class Refusing(Registered):
    pass


register_pytree_node(Refusing, lambda one: ([one.x], None), REFUSED)


class Closed(Registered):
    pass


register_pytree_node(Closed, REFUSED, REFUSED)


def cyclic_list(x: Any) -> Any:
    made: list[Any] = [x]
    made.append(made)
    return made


def cyclic_record(x: Any) -> Any:
    node = Node(x)
    node.parent = {"child": [node]}
    return node


def nested(x: Any) -> Any:
    made = x
    for _ in range(100_000):
        made = [made]
    return made


HANDED_ON: Mapping[str, Callable[[Any], Any]] = {
    "distribution": lambda x: Normal(x, 1.0),
    "namespace": lambda x: SimpleNamespace(x=x),
    "UserDict": lambda x: UserDict(x=x),
    "mapping proxy": lambda x: MappingProxyType({"x": x}),
    "mapping of the user's": lambda x: OwnMapping(x=x),
    "object of the user's": Recording,
    "set": lambda x: {x},
    "frozen set": lambda x: frozenset({x}),
    "array": lambda x: numpy.array([x, None], dtype=object),
    "array of numbers": lambda x: x.numpy(),
    "text": lambda x: "text",
    "class": lambda x: Node,
    "iterator": lambda x: iter([x]),
    "module": lambda x: nn.Linear(2, 2),
    "module that is a dataclass": DataclassModule,
    "exception that is a dataclass": DataclassError,
    "list in itself": cyclic_list,
    "record that its parent's child is": cyclic_record,
    "nested without end": nested,
    "one that refuses to be rebuilt": Refusing,
    "one that refuses to be opened": Closed,
}


@pytest.mark.parametrize("make", HANDED_ON.values(), ids=HANDED_ON)
def test_what_cannot_be_rebuilt_is_handed_on_that_very_object(make: Callable[[Any], Any]) -> None:
    given = make(ONES)
    assert changed(given, doubled) is given
    if make is not nested:
        pair = changed((given, ONES), doubled)  # and what is around it is rebuilt all the same
        assert pair[0] is given
        assert pair[1] is TWOS


def test_within_a_cycle_all_stays_as_it_is_and_beside_it_nothing_does() -> None:
    node = cyclic_record(ONES)
    made = changed([node.parent, [ONES], node, node.parent], doubled)
    assert made[0] is made[3] is node.parent
    assert made[1][0] is TWOS
    assert made[2] is node


def test_an_object_that_is_found_twice_is_changed_once() -> None:
    asked = list[Any]()

    def change(part: Any) -> Any:
        asked.append(part)
        return doubled(part)

    shared = [ONES]
    made = changed({"a": shared, "b": (shared, ONES)}, change)
    assert made["a"] is made["b"][0]
    assert sum(one is ONES for one in asked) == 1
    wide: Any = [ONES]
    for _ in range(60):  # as a tree it would have 2**60 leaves
        wide = [wide, wide]
    assert changed(wide, doubled) is not wide


def test_what_a_change_raises_is_not_taken_for_a_refusal() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        changed({"x": [ONES]}, lambda part: raising() if part is ONES else INSIDE)


def raising() -> None:
    raise RuntimeError("out of memory")


def test_packed_sequences_keep_their_form() -> None:
    packed = pack_sequence([torch.ones(3), torch.ones(2)])
    made = changed(packed, lambda part: part * 2 if part is packed.data else INSIDE)
    assert isinstance(made, PackedSequence)
    assert made.data.tolist() == [2.0] * 5
    assert made.batch_sizes is packed.batch_sizes


@pytest.mark.parametrize(
    ("value", "places"),
    [
        (ONES, [""]),
        ((1, ONES, [ONES]), ["[1]", "[2][0]"]),
        ({"x": {"y": ONES}}, ["['x']['y']"]),
        (Named(ONES), [".x"]),
        (Frozen([ONES]), [".x[0]"]),
        (Partial(ONES, 1), [".x"]),
        (Record(ONES), [".x"]),
        (Classified(logits=ONES, hidden=(ONES,)), ["['logits']", "['hidden'][0]"]),
        (Registered(ONES), ["[0]"]),
        (UserDict(x=ONES), ["['x']"]),
        (OwnMapping(x=ONES), ["['x']"]),
        (MappingProxyType({"x": ONES}), ["['x']"]),
        (deque([ONES]), ["[0]"]),
        (Stack(1, ONES), ["[0]"]),
        (cyclic_list(ONES), ["[0]"]),
        (5, []),
    ],
    ids=lambda one: type(one).__name__,
)
def test_the_tensors_in_a_value_are_found_with_their_places(value: Any, places: list[str]) -> None:
    found: list[tuple[str, Tensor]] = list(tensors_in(value))
    assert [place for place, _ in found] == places
    assert all(tensor is ONES for _, tensor in found)
