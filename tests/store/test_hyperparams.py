"""Hyperparameters are taken from whatever holds them by name, and stored as JSON."""

import argparse
import functools
import json
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from attrs import Factory, define
from torch import nn

from trainhooks import Experiment, RunDefinitionError, every
from trainhooks.hooks import cosine
from trainhooks.store import stored


class Size(Enum):
    SMALL = 1


class Word(str, Enum):  # noqa: UP042
    FIRST = "first"


@dataclass
class Layer:
    units: int = 3
    act: type = nn.ReLU


@define
class Config:
    lr: float = 0.1
    layers: list[Layer] = Factory(list[Layer])


class Model:
    """A pydantic model gives its values so."""

    def model_dump(self) -> dict[str, object]:
        return {"lr": 0.1, "depth": 3}


def function(*given: int) -> None: ...


class Point(NamedTuple):
    x: int
    y: int


class Pair(NamedTuple):
    lr: float
    depth: int


@dataclass
class Data:
    lr: float
    depth: int


@define
class Record:
    lr: float
    depth: int


def experiment(hyperparams: Any) -> Experiment:
    return Experiment(project="p", name="n", hyperparams=hyperparams)


@pytest.mark.parametrize(
    "given",
    [
        {"lr": 0.1, "depth": 3},
        SimpleNamespace(lr=0.1, depth=3),
        argparse.Namespace(lr=0.1, depth=3),
        Model(),
        Data(0.1, 3),
        Record(0.1, 3),
        Pair(0.1, 3),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_holds_values_by_name_is_taken(given: Any) -> None:
    assert experiment(given).hyperparams == {"lr": 0.1, "depth": 3}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (np.float32("nan"), "NaN"),
        (np.int64(3), 3),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.array(2), 2),
        (torch.tensor(1.5), 1.5),
        (True, True),
        (None, None),
        (Path("a") / "b", "a/b"),
        (Size.SMALL, "SMALL"),
        (Word.FIRST, "first"),
        (torch.float32, "torch.float32"),
        (torch.device("cuda", 1), "cuda:1"),
        (nn.ReLU, "torch.nn.modules.activation.ReLU"),
        (function, "tests.store.test_hyperparams.function"),
        (functools.partial(function, 1), "partial(tests.store.test_hyperparams.function, 1)"),
        (cosine(10), "cosine(updates=10)"),
        (every(2, "epochs"), "every(2, 'epochs')"),
        ((1, [2.0, math.nan]), [1, [2.0, "NaN"]]),
        ({"b", "a"}, ["a", "b"]),
        ({Size.SMALL: Point(1, 2), 3: Layer()}, {
            "SMALL": {"x": 1, "y": 2}, "3": {"units": 3, "act": "torch.nn.modules.activation.ReLU"},
        }),
    ],
)  # fmt: skip
def test_a_value_is_stored_as_json_and_the_experiment_keeps_it_as_it_is(value: Any, wanted: object) -> None:
    text = json.dumps(stored(experiment({"x": value}).hyperparams), allow_nan=False)
    assert json.loads(text) == {"x": wanted}
    assert experiment({"x": value}).hyperparams["x"] is value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Ellipsis, "Ellipsis"),
        (nn.Linear(1, 1), "Linear(in_features=1, out_features=1, bias=True)"),
        (torch.zeros(3), "<Tensor of shape (3,), torch.float32>"),
        (np.zeros(2), "<ndarray of shape (2,), float64>"),
        (b"x", "b'x'"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name_when_the_experiment_is_built(value: object, kind: str) -> None:
    with pytest.raises(RunDefinitionError) as caught:
        experiment({"layers": [{"weight": value}]})
    assert str(caught.value) == (
        f"Experiment(hyperparams=...) got {kind} as layers[0].weight; give numbers, text, and lists and dicts of them, "
        "such as str(...) of it, or leave layers[0].weight out."
    )


def test_what_holds_itself_is_refused_by_name() -> None:
    inner: dict[str, object] = {}
    inner["again"] = [inner]
    with pytest.raises(RunDefinitionError, match=r"got as layers what holds itself, .*; leave layers out\."):
        experiment({"lr": 0.1, "layers": inner})


@pytest.mark.parametrize(("given", "shown"), [(None, "None"), (3, "3"), (Config, repr(Config))])
def test_what_holds_no_values_by_name_is_refused(given: object, shown: str) -> None:
    with pytest.raises(RunDefinitionError) as caught:
        experiment(given)
    assert str(caught.value) == (
        f"Experiment(hyperparams=...) maps names to values, got {shown}; give a dict, a dataclass, an attrs record, a "
        "pydantic model, or a namespace."
    )


def test_records_in_records_are_mappings() -> None:
    config = Config(layers=[Layer(3), Layer(4)])
    assert stored(config)["layers"][1]["units"] == 4
    assert experiment(config).hyperparams == {"lr": 0.1, "layers": config.layers}
