"""Batches reach the device whatever they are made of, and come back without their graph."""

from collections import OrderedDict, UserDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import pytest
import torch
from attrs import define, frozen
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from tests.core.outputs import Classified
from tests.loop.programs import linear, sgd
from trainhooks import (
    BatchEnd,
    BatchPrediction,
    Evaluation,
    HookDefinitionError,
    HookDict,
    StepOutput,
    evaluate,
    predict,
    train,
)
from trainhooks.loop import move
from trainhooks.loop.transfer import detached

META = torch.device("meta")
CPU = torch.device("cpu")


class Named(NamedTuple):
    x: Tensor
    label: str


@dataclass(frozen=True)
class Data:
    x: Tensor
    label: str = "a"
    extra: list[Tensor] = field(default_factory=list[Tensor])


@frozen
class Record:
    x: Tensor
    label: str = "a"


@define
class Slotted:
    x: dict[str, Tensor]


class Encoding(UserDict[str, Tensor]):
    def to(self, device: torch.device) -> "Encoding":
        return Encoding({name: value.to(device) for name, value in self.items()})


def ones() -> Tensor:
    return torch.ones(2)


def tensor_at(batch: Any, path: tuple[str | int, ...]) -> Tensor:
    """The tensor that these keys and fields, one after another, lead to."""
    for key in path:
        batch = getattr(batch, key) if isinstance(key, str) and hasattr(batch, key) else batch[key]
    assert isinstance(batch, Tensor)
    return batch


@pytest.mark.parametrize(
    ("batch", "path"),
    [
        (ones(), ()),
        ((ones(), 1), (0,)),
        ([ones(), "a"], (0,)),
        ({"x": ones(), 3: None}, ("x",)),
        (OrderedDict({"x": ones()}), ("x",)),
        (Named(ones(), "a"), ("x",)),
        (Data(ones()), ("x",)),
        (Data(ones(), extra=[ones()]), ("extra", 0)),
        (Record(ones()), ("x",)),
        (Slotted({"x": ones()}), ("x", "x")),
        (((ones(),), {"x": [ones()]}), (1, "x", 0)),
        (Encoding({"x": ones()}), ("x",)),
        (Classified(logits=ones(), hidden=(ones(),)), ("logits",)),
        (Classified(logits=ones(), hidden=(ones(),)), ("hidden", 0)),
        (deque([ones()], maxlen=2), (0,)),
        ([torch.eye(2).to_sparse()], (0,)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_tensors_move_and_their_containers_stay_what_they_are(batch: object, path: tuple[str | int, ...]) -> None:
    moved = move(batch, META)
    assert type(moved) is type(batch)
    assert tensor_at(moved, path).device == META
    assert tensor_at(batch, path).device == CPU


class Attributes(dict[str, Any]):
    """A dict whose keys are its attributes; a missing one raises KeyError."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def test_a_dict_whose_keys_are_its_attributes_moves() -> None:
    assert move(Attributes(x=ones()), META).x.device == META


@dataclass
class Edge:
    start: Tensor
    to: Tensor


def test_a_field_named_to_is_no_method() -> None:
    edge = move(Edge(ones(), ones()), META)
    assert edge.start.device == edge.to.device == META


def test_what_moving_raises_is_raised() -> None:
    with pytest.raises(NotImplementedError, match="meta"):
        move({"x": [ones().to(META)]}, CPU)


ATOMS = ["text", None, 5, {1, 2}, object(), b"bytes", Named]


@pytest.mark.parametrize("batch", ATOMS, ids=lambda one: type(one).__name__)
def test_anything_else_passes_as_it_is(batch: object) -> None:
    assert move(batch, META) is batch
    assert detached(batch) is batch


def test_what_is_there_already_is_not_rebuilt() -> None:
    batch = {"x": (ones(), [Record(ones())])}
    assert move(batch, CPU) is batch
    assert detached(batch) is batch


def test_an_object_that_moves_itself_is_asked_first() -> None:
    packed = pack_sequence([torch.ones(3), torch.ones(2)])
    moved = move(packed, META)
    assert isinstance(moved, PackedSequence)
    assert moved.batch_sizes.device == CPU


def test_detaching_reaches_everywhere_and_leaves_the_original() -> None:
    x = torch.ones(2, requires_grad=True) * 2
    batch = {"x": [Data(x)], "y": ones()}
    free = detached(batch)
    assert not tensor_at(free, ("x", 0, "x")).requires_grad
    assert tensor_at(batch, ("x", 0, "x")) is x
    assert free["y"] is batch["y"]


class Known:
    """An object of the user's."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


def in_itself(x: Tensor) -> Any:
    made: dict[str, Any] = {"x": x}
    made["self"] = made
    return made


def kept_outputs(make: Callable[[Tensor], Any]) -> tuple[list[Any], list[Any]]:
    """What steps gave as output, in training and evaluations, and what hooks got of it."""
    model, given, kept = linear(), list[Any](), list[Any]()

    def step(model: nn.Module, batch: Tensor) -> StepOutput[Any]:
        with torch.enable_grad():  # in evaluations too, as where forces are a gradient
            x = model(batch)
        given.append(make(x))
        return StepOutput(x.square().mean(), output=given[-1], target=given[-1])

    def end(ctx: BatchEnd) -> None:
        kept.append(ctx.output)

    def predicted(ctx: BatchPrediction) -> None:
        assert (ctx.y_test is given[-1]) == (ctx.y_pred is given[-1])
        kept.append(ctx.y_pred)

    data = [torch.ones(2, 3)]
    hooks: list[HookDict] = [{"on_batch_end": end}, {"on_after_batch_prediction": predicted}]
    train(model, data, step, sgd(model), epochs=1, hooks=hooks, evaluations=[Evaluation("val", data)])
    assert len(kept) == 2
    return given, kept


REBUILT: list[tuple[Callable[[Tensor], Any], tuple[str | int, ...]]] = [
    (lambda x: x, ()),
    (lambda x: {"a": [x]}, ("a", 0)),
    (lambda x: Classified(logits=x), ("logits",)),
    (lambda x: Classified(logits=x, hidden=(x,)), ("hidden", 0)),
    (lambda x: deque([x]), (0,)),
    (lambda x: OrderedDict[str, Tensor](x=x), ("x",)),
    (Data, ("x",)),
    (Record, ("x",)),
]
OPAQUE: list[Callable[[Tensor], Any]] = [
    lambda x: Normal(x, 1.0),
    lambda x: UserDict[str, Tensor](x=x),
    lambda x: {x},
    Known,
    in_itself,
]


@pytest.mark.parametrize(("make", "path"), REBUILT)
def test_an_output_that_can_be_rebuilt_has_no_graph_in_any_context_after_backward(
    make: Callable[[Tensor], Any], path: tuple[str | int, ...]
) -> None:
    """Keeps P61."""
    given, kept = kept_outputs(make)
    for one, free in zip(given, kept, strict=True):
        assert tensor_at(one, path).requires_grad
        assert not tensor_at(free, path).requires_grad
        assert type(free) is type(one)


@pytest.mark.parametrize("make", OPAQUE)
def test_an_output_that_cannot_be_rebuilt_is_handed_out_that_very_object(make: Callable[[Tensor], Any]) -> None:
    given, kept = kept_outputs(make)
    assert all(one is free for one, free in zip(given, kept, strict=True))


def test_predictions_have_no_graph() -> None:
    def step(model: nn.Module, batch: Tensor) -> tuple[Any, Any, Any]:
        with torch.enable_grad():
            x = model(batch)
        return {"x": x}, x, Classified(logits=x)

    predictions: list[Any] = list(predict(linear(), [torch.ones(2, 3)], step))
    (one,) = predictions
    assert not one.y_pred["x"].requires_grad
    assert not one.y_test.requires_grad
    assert not one.metadata.logits.requires_grad


def test_a_transfer_that_forgets_to_return_the_batch_is_named_wherever_it_is_taken() -> None:
    def forgets(batch: Tensor, device: torch.device) -> None:
        batch.to(device)

    def step(model: nn.Module, batch: Tensor) -> Tensor:
        out: Tensor = model(batch).mean()
        return out

    model, data, transfer = linear(), [torch.ones(2, 3)], cast("Any", forgets)
    takers: list[Callable[[], object]] = [
        lambda: train(model, data, step, sgd(model), epochs=1, transfer=transfer),
        lambda: evaluate(model, data, step, transfer=transfer),
        lambda: list(predict(model, data, lambda model, batch: (model(batch), None, None), transfer=transfer)),
    ]
    for take in takers:
        with pytest.raises(HookDefinitionError, match=r"^transfer returns the batch .*, but '.*forgets' returned None"):
            take()
