"""Which checkpoints are kept: one pure function of all manifests and all policies of a run."""

import math
from collections.abc import Iterable, Iterator, Sequence

from trainhooks.core import Keep

from .manifest import Manifest, Mode


def kept(manifests: Iterable[Manifest], policies: Sequence[Keep]) -> frozenset[str]:
    """The keys of the manifests to keep.

    Always kept are the newest, the newest resumable, and every pinned one; further whatever any policy keeps, whether
    or not another does. Without a policy, all are kept.
    """
    by_age = sorted(manifests, key=lambda one: one.place)
    if not policies:
        return frozenset(one.key for one in by_age)
    always = [*by_age[-1:], *[one for one in by_age if one.resumable][-1:], *(one for one in by_age if one.pinned)]
    asked = (one for policy in policies for one in _kept_by(policy, by_age))
    return frozenset(one.key for one in (*always, *asked))


def best_of(manifests: Iterable[Manifest], metric: str, mode: Mode) -> Manifest | None:
    """The one whose own value is best, the earliest of several; NaN and a missing value are no candidates."""
    return next(iter(_best_first(manifests, metric, mode)), None)


def _best_first(manifests: Iterable[Manifest], metric: str, mode: Mode) -> list[Manifest]:
    sign = 1 if mode == "min" else -1
    candidates = [one for one in manifests if not math.isnan(one.metrics.get(metric, math.nan))]
    return sorted(candidates, key=lambda one: (sign * one.metrics[metric], one.place))


def _kept_by(policy: Keep, by_age: Sequence[Manifest]) -> Iterator[Manifest]:
    if policy.last:
        yield from by_age[-policy.last :]
    if policy.best is not None:
        yield from _best_first(by_age, *policy.best)[: policy.best_count]
    if policy.every is not None:
        yield from (one for one in by_age if one.step % policy.every == 0)
