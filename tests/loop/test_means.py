"""Means over items, on the host and on a device."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainhooks.loop.means import Mean

VALUES = st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(0, 9)), min_size=1, max_size=40)


@given(VALUES)
def test_a_mean_is_over_items_and_leaves_out_what_has_none(values: list[tuple[float, int]]) -> None:
    mean = Mean()
    for value, weight in values:
        mean.add(value if weight else float("nan"), weight)
    items = sum(weight for _, weight in values)
    expected = sum(value * weight for value, weight in values) / items if items else float("nan")
    assert mean.read() == pytest.approx(expected, nan_ok=True)


@given(VALUES)
def test_values_kept_on_a_device_give_the_same_mean(values: list[tuple[float, int]]) -> None:
    host, kept = Mean(), Mean()
    for value, weight in values:
        host.add(value, weight)
        kept._keep(torch.tensor(value, dtype=torch.float64), torch.tensor(float(weight)))  # pyright: ignore[reportPrivateUsage]
    assert kept.read() == pytest.approx(host.read(), nan_ok=True)


def test_bursts_are_folded_on_the_device_and_add_up() -> None:
    mean = Mean()
    for index in range(1000):
        mean._keep(torch.tensor(float(index)), 1.0)  # pyright: ignore[reportPrivateUsage]
    assert mean.read() == 499.5
    assert mean.read() == 499.5
    mean.add(0.0, 1000)
    assert mean.read() == 249.75


def test_a_mean_of_nothing_is_not_a_number() -> None:
    assert math.isnan(Mean().read())


@pytest.mark.gpu
def test_adding_on_a_device_reads_nothing() -> None:
    mean = Mean()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for index in range(600):
            mean.add(torch.full((), float(index), device="cuda"), 2.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert mean.read() == 299.5
