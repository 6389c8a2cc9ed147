"""A tree goes into JSON and named tensors, and comes back with its types, orders and bits."""

import json
import math
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.optim import lr_scheduler

from tests.checkpoint.trees import TREES, same
from trainhooks.checkpoint.decoding import decode
from trainhooks.checkpoint.tree import encode
from trainhooks.errors import CheckpointError


def back(tree: object) -> Any:
    """A tree after a journey through JSON text."""
    skeleton, tensors = encode(tree)
    return decode(json.loads(json.dumps(skeleton, allow_nan=False)), tensors)


@given(TREES)
def test_every_tree_comes_back_as_it_was(tree: object) -> None:
    assert same(back(tree), tree)


@given(TREES)
def test_the_tensors_of_a_tree_have_names_of_their_own(tree: object) -> None:
    skeleton, tensors = encode({"model": tree, "optimizers": [tree], "model ": tree})
    assert json.dumps(skeleton).count('{"$tensor"') == len(tensors)


@pytest.mark.parametrize("number", [0.1, -0.0, 1.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf])
def test_a_float_comes_back_bit_for_bit(number: float) -> None:
    assert same(back([number]), [number])


def test_the_text_of_a_tree_is_plain_where_json_has_words_for_it() -> None:
    tree = {"step": 3, "lr": 0.5, "betas": (0.9, math.inf), "names": ["a"], 7: {"$x": b"\x00"}}
    assert encode(tree)[0] == {
        "$dict": [
            ["step", 3],
            ["lr", 0.5],
            ["betas", {"$tuple": [0.9, {"$float": "inf"}]}],
            ["names", ["a"]],
            [7, {"$dict": [["$x", {"$bytes": "AA=="}]]}],
        ]
    }


def test_a_model_keeps_its_own_keys_and_other_tensors_are_named_by_their_path() -> None:
    shared = torch.ones(2)
    tree = {
        "model": {"head.weight": shared, "tail.weight": shared},
        "optimizers": [{"state": {0: {"m": torch.ones(1)}}}],
    }
    skeleton, tensors = encode(tree | {"hooks": {"ema": {"w": shared}}})
    assert list(tensors) == ["model:head.weight", "model:tail.weight", "optimizers:0.state.0.m", "state:hooks.ema.w"]
    assert isinstance(skeleton, dict)
    assert skeleton["model"] == {
        "head.weight": {"$tensor": "model:head.weight"},
        "tail.weight": {"$tensor": "model:tail.weight"},
    }


def test_paths_that_would_be_one_name_and_the_word_of_the_file_format_are_told_apart() -> None:
    tree = {"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}, "model": {"__metadata__": torch.ones(2)}}
    assert list(encode(tree)[1]) == ["state:a.b", "state:a.b#", "model:__metadata__#"]
    assert same(back(tree), tree)


def test_a_parameter_comes_back_as_a_tensor_without_a_graph() -> None:
    restored = back(nn.Parameter(torch.ones(2)) * 2)
    assert isinstance(restored, Tensor)
    assert not restored.requires_grad
    assert restored.tolist() == [2.0, 2.0]


def test_mappings_stay_what_they_are_but_for_a_defaultdict_whose_factory_is_no_data() -> None:
    tree = [OrderedDict[object, int]([("b", 1), ("a", 2)]), Counter("aab"), defaultdict(list, {"x": [1]})]
    assert same(back(tree), [tree[0], tree[1], {"x": [1]}])


def test_numpy_arrays_scalars_and_its_random_state_come_back() -> None:
    tree: list[Any] = [
        np.arange(6, dtype=np.int16)[::-2], np.array(2.5), np.zeros((0, 3), dtype=np.complex128), np.float32(0.1),
        np.uint64(2**63 + 1), np.bool_(True), np.complex64(1 - 2j), np.float64(math.nan),
    ]  # fmt: skip
    for was, now in zip(tree, back(tree), strict=True):
        assert type(now) is type(was)
        assert now.dtype == was.dtype
        assert np.array_equal(now, was, equal_nan=was.dtype.kind in "fc")
    stream = np.random.RandomState(3)
    stream.normal()
    twin = np.random.RandomState(4)
    twin.set_state(back(stream.get_state(legacy=True)))
    assert twin.normal(size=9).tolist() == stream.normal(size=9).tolist()


class Level(IntEnum):
    HIGH = 1


class Pair(NamedTuple):
    left: int


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Level.HIGH, "tests.checkpoint.test_tree.Level"),
        (Pair(1), "tests.checkpoint.test_tree.Pair"),
        (object(), "builtins.object"),
        (np.array(["a"]), "a numpy array of <U1"),
        (np.str_("a"), "a numpy scalar of <U1"),
        (torch.ones(2).to_sparse(), "layout torch.sparse_coo"),
        (torch.ones(2, device="meta"), "on the meta device"),
    ],
)
def test_what_has_no_exact_form_is_refused_where_it_stands(value: object, said: str) -> None:
    with pytest.raises(CheckpointError) as raised:
        encode({"hooks": {"mine": [0, value]}})
    assert said in str(raised.value)
    assert "at hooks.mine.1" in str(raised.value)


def test_a_tensor_from_elsewhere_goes_where_it_is_told_to_and_one_of_the_cpu_stays() -> None:
    marked = [{"$tensor": "state:0", "device": "cuda"}, {"$tensor": "state:1"}]
    tensors = {"state:0": torch.ones(1), "state:1": torch.ones(1)}
    assert devices_of(decode(marked, tensors, device=torch.device("meta"))) == ["meta", "cpu"]
    assert devices_of(decode(marked, tensors)) == ["cpu", "cpu"]


def devices_of(tree: Any) -> list[str]:
    return [one.device.type for one in tree]


@pytest.mark.gpu
def test_a_tensor_of_a_gpu_is_marked_and_comes_back_to_it() -> None:
    skeleton, tensors = encode([torch.ones(1, device="cuda"), torch.ones(1)])
    assert skeleton == [{"$tensor": "state:0", "device": "cuda"}, {"$tensor": "state:1"}]
    there = {name: one.cpu() for name, one in tensors.items()}
    assert devices_of(decode(skeleton, there, device=torch.device("cuda"))) == ["cuda", "cpu"]


def test_a_word_of_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match=r"uses '\$quaternion'"):
        decode({"$quaternion": [1, 2, 3, 4]}, {})
    with pytest.raises(CheckpointError, match=r"dtype 'float2'"):
        decode({"$dtype": "float2"}, {})


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "step": lambda opt: lr_scheduler.StepLR(opt, 2),
    "multi": lambda opt: lr_scheduler.MultiStepLR(opt, [2, 2, 5]),
    "linear": lr_scheduler.LinearLR,
    "cosine": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 9),
    "restarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 3),
    "one cycle": lambda opt: lr_scheduler.OneCycleLR(opt, 0.1, total_steps=30),
    "cyclic": lambda opt: lr_scheduler.CyclicLR(opt, 0.01, 0.1),
    "lambda": lambda opt: lr_scheduler.LambdaLR(opt, lambda step: 0.9**step),
    "sequence": lambda opt: lr_scheduler.SequentialLR(
        opt, [lr_scheduler.ConstantLR(opt), lr_scheduler.ExponentialLR(opt, 0.9)], [3]
    ),
    "chain": lambda opt: lr_scheduler.ChainedScheduler([lr_scheduler.ConstantLR(opt), lr_scheduler.StepLR(opt, 2)]),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_every_scheduler_of_torch_goes_on_from_what_comes_back(kind: str) -> None:
    def rates(saved_at: int | None) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
        scheduler = SCHEDULERS[kind](optimizer)
        seen: list[float] = []
        for step in range(12):
            if step == saved_at:
                optimizer_state, state = back([optimizer.state_dict(), scheduler.state_dict()])
                optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
                scheduler = SCHEDULERS[kind](optimizer)
                optimizer.load_state_dict(optimizer_state)
                scheduler.load_state_dict(state)
            optimizer.step()
            scheduler.step()
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    assert rates(5) == rates(None)


@pytest.mark.parametrize(
    "kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad, torch.optim.ASGD, torch.optim.Rprop]
)
def test_every_optimizer_of_torch_goes_on_from_what_comes_back(kind: Any) -> None:
    def trained(saved_at: int | None) -> Tensor:
        weight = nn.Parameter(torch.linspace(1, 2, 5))
        optimizer = kind([weight], lr=0.01)
        for step in range(6):
            if step == saved_at:
                state = back(optimizer.state_dict())
                optimizer = kind([weight], lr=0.5)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            (weight**3).sum().backward()
            optimizer.step()
        return weight.detach()

    assert same(trained(3), trained(None))
