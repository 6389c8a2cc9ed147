"""Values over the steps: from checkpoints and histories, and as a line of blocks."""

import math

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.checkpoint.test_manifest import MANIFEST
from trainhooks.cli.curves import BLOCKS, curves, sparkline


def test_values_come_from_checkpoints_and_from_the_epochs_between() -> None:
    manifests = [evolve(MANIFEST, step=6, metrics={"loss": 1.0}), evolve(MANIFEST, step=2, metrics={"loss": 3.0})]
    history: list[dict[str, object]] = [
        {"epoch": 0, "updates": 4, "loss": 2.0, "acc": 0.5},
        {"epoch": 1, "updates": 6, "loss": 9.0, "acc": {"$float": "nan"}},
    ]
    found = curves(manifests, history)
    assert found == {"acc": {4: 0.5}, "loss": {2: 3.0, 4: 2.0, 6: 1.0}}
    assert list(found["loss"]) == [2, 4, 6]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], BLOCKS),
        ([5.0], "▄"),
        ([2.0, 2.0], "▄▄"),
        ([math.nan, 1.0, math.inf, 2.0], "x▁x█"),
        ([math.nan], "x"),
        ([-1e308, 1e308, 0.0], "▁█▅"),
    ],
)
def test_a_line_is_as_high_as_its_values(values: list[float], line: str) -> None:
    assert sparkline(values) == line


def test_many_values_are_drawn_as_means_of_some_in_a_row() -> None:
    assert sparkline([0.0, 2.0, 4.0, 6.0, math.nan, 9.0], width=3) == "▁▅█"
    assert len(sparkline([float(one) for one in range(1000)])) == 60


@given(st.lists(st.floats(), min_size=1, max_size=200), st.integers(1, 80))
def test_any_values_make_a_line(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(len(values), width)
    assert set(line) <= {*BLOCKS, "x"}
