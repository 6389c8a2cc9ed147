"""Telling the data which epoch begins."""

from operator import attrgetter
from typing import Any, Final

_PLACES: Final = ("", "sampler", "batch_sampler", "batch_sampler.sampler", "dataset")


def set_epoch(data: object, epoch: int) -> None:
    """Call `set_epoch(epoch)` of the data, its samplers and its dataset, each object once, where there is one.

    torch's `DistributedSampler` shuffles by it, anew in each epoch and alike on all ranks. What `trainhooks.data.first`
    holds is told too.
    """
    told = set[int]()
    for place in (f"{holder}{one}".rstrip(".") for holder in ("", "data.") for one in _PLACES):
        try:
            found: Any = attrgetter(place)(data) if place else data
        except AttributeError:
            continue
        tell = getattr(found, "set_epoch", None)
        if callable(tell) and id(found) not in told:
            told.add(id(found))
            tell(epoch)
