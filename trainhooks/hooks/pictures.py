"""Pictures in files, drawn with matplotlib and without a screen."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, final

from attrs import frozen


@final
@frozen(kw_only=True)
class Histogram:
    """A histogram with bins of equal width."""

    title: str
    """What is counted."""
    counts: Sequence[float]
    """How much is in each bin."""
    low: float
    """Where the first bin begins."""
    high: float
    """Where the last bin ends."""


Draw: TypeAlias = Callable[[Path, str, Sequence[Histogram]], None]
"""`draw(path, title, histograms)`: one picture, in the format that the path's suffix says."""


def histogram_drawer() -> Draw:
    """What draws histograms side by side.

    Raises:
        ImportError: if matplotlib is not installed, with the line that installs it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures are drawn with matplotlib; to have it: pip install 'trainhooks[plot]'") from error

    def draw(path: Path, title: str, histograms: Sequence[Histogram]) -> None:
        columns = math.ceil(math.sqrt(len(histograms)))
        rows = math.ceil(len(histograms) / columns)
        figure = Figure(figsize=(3.2 * columns, 2.4 * rows + 0.4), layout="constrained")
        figure.suptitle(title)
        for place, one in enumerate(histograms, start=1):
            axes = figure.add_subplot(rows, columns, place)
            axes.set_title(one.title, fontsize="small")
            if one.low < one.high:
                width = (one.high - one.low) / len(one.counts)
                edges = [one.low + width * index for index in range(len(one.counts) + 1)]
                axes.stairs(one.counts, edges, fill=True)
        figure.savefig(path)

    return draw
