"""What is kept, compared with a definition that looks at every checkpoint by itself."""

import math
from collections.abc import Sequence
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from trainhooks.checkpoint.manifest import Manifest
from trainhooks.checkpoint.retention import best_of, kept
from trainhooks.core import Keep


def manifest(
    step: int, attempt: int = 1, serial: int = 0, *, pinned: bool = False, resumable: bool = True, **metrics: float
) -> Manifest:
    return Manifest(
        step=step, epoch=0, epochs=0, attempt=attempt, serial=serial, nonce="00", created="", metrics=metrics,
        pinned=pinned, resumable=resumable, files=(),
    )  # fmt: skip


VALUES = st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 0.5, 1.0]), st.floats())
MANIFESTS = st.lists(
    st.builds(
        Manifest,
        step=st.integers(0, 20),
        epoch=st.just(0),
        epochs=st.just(0),
        attempt=st.integers(1, 3),
        serial=st.integers(0, 2),
        nonce=st.just("00"),
        created=st.just(""),
        metrics=st.dictionaries(st.sampled_from(["loss", "acc"]), VALUES),
        pinned=st.booleans(),
        resumable=st.booleans(),
        files=st.just(()),
    ),
    unique_by=lambda one: one.place,
    max_size=12,
)
MODES: st.SearchStrategy[Literal["min", "max"]] = st.sampled_from(["min", "max"])
POLICIES = st.lists(
    st.builds(
        Keep,
        last=st.none() | st.integers(0, 4),
        best=st.none() | st.tuples(st.sampled_from(["loss", "acc", "other"]), MODES),
        every=st.none() | st.integers(1, 6),
    ),
    max_size=3,
)


def is_kept(one: Manifest, among: Sequence[Manifest], policies: Sequence[Keep]) -> bool:
    """The definition: by counting what is newer, and what is better."""
    newer = [other for other in among if other.place > one.place]
    if not policies or one.pinned or not newer or (one.resumable and not any(other.resumable for other in newer)):
        return True
    return any(
        (policy.last is not None and len(newer) < policy.last)
        or (policy.every is not None and one.step % policy.every == 0)
        or (policy.best is not None and is_best(one, among, *policy.best))
        for policy in policies
    )


def is_best(one: Manifest, among: Sequence[Manifest], metric: str, mode: Literal["min", "max"]) -> bool:
    value = one.metrics.get(metric)
    if value is None or math.isnan(value):
        return False
    for other in among:
        theirs = other.metrics.get(metric, math.nan)
        better = theirs < value if mode == "min" else theirs > value
        if better or (theirs == value and other.place < one.place):
            return False
    return True


@given(MANIFESTS, POLICIES)
def test_what_is_kept_is_what_the_definition_says(manifests: list[Manifest], policies: list[Keep]) -> None:
    """Keeps P70."""
    assert kept(manifests, policies) == {one.key for one in manifests if is_kept(one, manifests, policies)}


@given(MANIFESTS, POLICIES, POLICIES)
def test_policies_do_not_affect_each_other(manifests: list[Manifest], some: list[Keep], others: list[Keep]) -> None:
    """Keeps P32."""
    if some and others:
        assert kept(manifests, [*some, *others]) == kept(manifests, some) | kept(manifests, others)


@given(st.permutations([manifest(step, loss=loss) for step, loss in enumerate([3.0, 1.0, 1.0, 2.0])]))
def test_the_order_in_which_manifests_are_found_does_not_matter(manifests: list[Manifest]) -> None:
    assert kept(manifests, [Keep(best=("loss", "min"))]) == {manifest(1).key, manifest(3).key}


def test_the_best_at_3_of_24_is_kept_beside_the_newest() -> None:
    """Keeps P32."""
    manifests = [manifest(step, loss=abs(step - 3)) for step in range(1, 25)]
    assert kept(manifests, [Keep(last=1, best=("loss", "min"))]) == {manifest(3).key, manifest(24).key}


def test_nan_and_a_step_without_the_value_are_never_best() -> None:
    """Keeps P70."""
    manifests = [manifest(1, loss=math.nan), manifest(2, acc=1.0), manifest(3, loss=2.0), manifest(4, loss=3.0)]
    assert best_of(manifests, "loss", "min") == manifests[2]
    assert best_of(manifests, "loss", "max") == manifests[3]
    assert best_of(manifests[:2], "loss", "min") is None
    assert best_of([manifest(1, loss=math.inf)], "loss", "min") == manifest(1, loss=math.inf)


def test_the_newest_from_which_a_source_without_a_cursor_goes_on_is_kept() -> None:
    manifests = [manifest(step, resumable=step in (10, 20)) for step in (5, 10, 15, 20, 25, 27)]
    assert kept(manifests, [Keep(last=1)]) == {manifest(20).key, manifest(27).key}
