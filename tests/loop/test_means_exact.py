"""A mean over items depends neither on their order nor on how they came together, over ranks neither."""

import json
import math
import random
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import cast

import torch
import torch.distributed as dist
from hypothesis import example, given
from hypothesis import strategies as st

from tests.ranks import on_ranks
from trainhooks.distributed import Ranks, join, rank_here
from trainhooks.loop.means import Mean, folded, mean_of, read_together, total_of

Pairs = list[tuple[float, float]]
HUGE = 1.7e308

NUMBERS = st.lists(st.floats(), max_size=30)
PAIRS = st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1e6)), max_size=30)


def mean_over(pairs: Iterable[tuple[float, float]]) -> Mean:
    mean = Mean()
    for value, weight in pairs:
        mean.add(value, weight)
    return mean


def same(one: float, other: float) -> bool:
    return one.hex() == other.hex()


@given(NUMBERS, st.randoms())
@example([HUGE, HUGE, -HUGE], random.Random(0))
@example([math.inf, HUGE, HUGE, -math.inf], random.Random(0))
@example([math.inf, HUGE, HUGE], random.Random(0))
@example([1e-320, HUGE, -HUGE, HUGE, HUGE, -HUGE, -HUGE], random.Random(0))
def test_a_sum_is_the_exact_one_rounded_once_in_any_order(numbers: list[float], order: random.Random) -> None:
    """Keeps P45."""
    finite = [one for one in numbers if math.isfinite(one)]
    if len(finite) < len(numbers):
        expected = sum(one for one in numbers if not math.isfinite(one))
    else:
        exact = sum(map(Fraction, finite))
        try:
            expected = float(exact)
        except OverflowError:
            expected = math.inf if exact > 0 else -math.inf
    assert same(total_of(numbers) + 0.0, expected + 0.0)
    order.shuffle(numbers)
    assert same(total_of(numbers) + 0.0, expected + 0.0)


@given(NUMBERS, NUMBERS)
@example([HUGE, HUGE, HUGE], [-HUGE, -HUGE])
@example([math.inf, 1.0], [-math.inf])
def test_what_is_folded_stands_for_the_whole(numbers: list[float], others: list[float]) -> None:
    """Keeps P45."""
    assert same(total_of([*folded(numbers), *others]), total_of([*numbers, *others]))
    assert list(map(float.hex, folded(folded(numbers)))) == list(map(float.hex, folded(numbers)))


def test_a_fold_is_short_and_loses_nothing() -> None:
    assert folded([1e100, 1.0, 1e-100, 3.0]) == [1e100, 4.0, 1e-100]
    assert folded([0.1] * 10) == [1.0, 5.551115123125783e-17]
    assert folded([0.5, -0.5]) == []


@given(PAIRS, st.integers(0, 30), st.randoms())
def test_a_mean_is_bit_equal_in_any_order_and_split(pairs: Pairs, place: int, order: random.Random) -> None:
    """Keeps P45."""
    expected = mean_over(pairs).read()
    order.shuffle(pairs)
    assert same(mean_over(pairs).read(), expected)
    assert same(mean_of([mean_over(pairs[:place]).terms(), mean_over(pairs[place:]).terms()]), expected)


def test_a_long_mean_is_that_of_its_exact_sums_and_holds_few_numbers() -> None:
    """Keeps P45."""
    stream = random.Random(0)
    pairs = [(stream.uniform(-1, 1) * 10 ** stream.randint(-9, 9), stream.uniform(0, 9)) for _ in range(5000)]
    products = sum(Fraction(value * weight) for value, weight in pairs)
    weights = sum(Fraction(weight) for _, weight in pairs)
    mean, expected = mean_over(pairs), float(products) / float(weights)
    assert same(mean.read(), expected)
    for world in range(2, 40):
        assert same(mean_of(mean_over(pairs[rank::world]).terms() for rank in range(world)), expected)
    assert sum(map(len, mean.terms())) < 8
    assert len(mean._products) < 300  # pyright: ignore[reportPrivateUsage]


def test_values_that_are_no_finite_numbers_stay_what_they_are() -> None:
    assert mean_over([(math.inf, 1.0), (1.0, 1.0)]).read() == math.inf
    assert math.isnan(mean_over([(math.inf, 1.0), (-math.inf, 1.0)]).read())
    assert math.isnan(mean_over([*[(1.0, 1.0)] * 300, (math.nan, 1.0), *[(1.0, 1.0)] * 300]).read())
    assert mean_over([*[(HUGE, 1.0)] * 300, *[(-HUGE, 1.0)] * 299]).read() == HUGE / 599


@given(PAIRS, PAIRS)
def test_a_mean_goes_on_bit_equal_from_its_saved_state(before: Pairs, after: Pairs) -> None:
    """Keeps P17."""
    saved = Mean.of(json.loads(json.dumps(mean_over(before).state())), None)
    for value, weight in after:
        saved.add(value, weight)
    assert same(saved.read(), mean_over([*before, *after]).read())


def test_what_was_summed_on_a_device_is_saved_too() -> None:
    mean = mean_over([(1.0, 3.0)])
    mean._keep(torch.tensor(5.0), 1.0)  # pyright: ignore[reportPrivateUsage]
    assert Mean.of(mean.state(), torch.device("cpu")).read() == mean.read() == 2.0


def parts_read_on_each(parts: Sequence[dict[str, Pairs]]) -> tuple[list[tuple[str, str]], int]:
    gathers = 0

    class Counted:
        """Counts exchanges, which are the real ones."""

        def gather(self, value: object) -> list[object]:
            nonlocal gathers
            gathers += 1
            return ranks.gather(value)

    ranks = join(rank_here(), torch.device("cpu"))
    own = {name: mean_over(pairs) for name, pairs in parts[ranks.rank.index].items()}
    found = read_together(own, cast("Ranks", Counted()))
    dist.destroy_process_group()
    return [(name, "" if value is None else value.hex()) for name, value in found.items()], gathers


def test_means_are_read_over_all_ranks_that_have_them_in_one_exchange() -> None:
    """Keeps P45."""
    a: Pairs = [(0.1, 3.0), (0.7, 1.0), (-0.3, 0.1)]
    b: Pairs = [(0.2, 7.0)]
    parts: list[dict[str, Pairs]] = [{"a": a[2:], "none": []}, {"only": [(0.3, 2.0)], "a": []}, {"b": b, "a": a[:2]}]
    both = mean_over(a).read().hex(), mean_over(b).read().hex()
    expected = [("a", both[0]), ("none", ""), ("only", (0.6 / 2.0).hex()), ("b", both[1])]
    assert on_ranks(3, parts_read_on_each, parts) == [(expected, 1)] * 3


def test_means_of_one_process_are_read_alone() -> None:
    assert read_together({"a": mean_over([(1.0, 1.0), (2.0, 3.0)])}, None) == {"a": 1.75}
