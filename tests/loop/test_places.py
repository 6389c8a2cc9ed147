"""Where in an epoch a run goes on that has other processes, or other batches, than the one before."""

import pytest

from trainhooks.data import first, seeded_loader
from trainhooks.loop import batch_size_of, place_now


@pytest.mark.parametrize(
    ("fed", "was", "now", "expected"),
    [
        (6, (1, 4), (1, 4), 6),
        (6, (2, 4), (1, 8), 6),  # the global batch stays
        (6, (2, 4), (1, 4), 12),
        (6, (1, 4), (1, 8), 3),
        (5, (1, 4), (1, 8), None),
        (6, (1, 4), (4, 2), 3),
        (1, (3, 2), (2, 2), None),
        (6, (2, None), (1, None), 12),
        (6, (2, 4), (1, None), 12),
        (0, (2, 3), (7, 5), 0),
    ],
)
def test_the_samples_that_were_read_decide_the_place(
    fed: int, was: tuple[int, int | None], now: tuple[int, int | None], expected: int | None
) -> None:
    """Keeps P18."""
    assert place_now(fed, was, now) == expected


def test_data_that_can_begin_anywhere_says_how_many_samples_its_batches_have() -> None:
    loader = seeded_loader(list(range(20)), batch_size=4, seed=0)
    assert batch_size_of(loader) == batch_size_of(first(loader, 2)) == 4
    assert batch_size_of([1, 2, 3]) is None
