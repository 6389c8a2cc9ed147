"""A picture of ratios: horizontal bars on a logarithmic scale, to the right of 1 or to its left, as SVG."""

import math
from collections.abc import Iterator, Sequence
from typing import Final, final
from xml.sax.saxutils import escape

from attrs import frozen

WIDTH: Final = 760
LEFT: Final = 150
"""Where the bars' ground begins; names stand before it."""
RIGHT: Final = 60
TOP: Final = 74
BAR: Final = 10
GAP: Final = 12
STYLE: Final = """\
text { font: 12px sans-serif; fill: #24292f; }
.title { font-size: 14px; font-weight: bold; }
.value { font-size: 10px; }
.strong { font-weight: bold; }
.tick { fill: #656d76; text-anchor: middle; }
.line { stroke: #8b949e; stroke-opacity: 0.35; }
.one { stroke: #656d76; }
.first { fill: #0969da; }
.second { fill: #8250df; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.tick { fill: #8d96a0; }
.one { stroke: #8d96a0; }
.first { fill: #4493f8; }
.second { fill: #ab7df8; }
}"""


@final
@frozen
class Bar:
    """One name with its ratios, a bar for each."""

    name: str
    ratios: tuple[float, float]
    strong: bool = False


def picture(title: str, labels: tuple[str, str], bars: Sequence[Bar]) -> str:
    """An SVG file that follows the reader's light or dark mode."""
    height = TOP + len(bars) * (2 * BAR + GAP) + 28
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{STYLE}\n</style>",
        f'<text class="title" x="12" y="24">{escape(title)}</text>',
        *_legend(labels),
        *_scale(bars, height),
    ]
    for index, bar in enumerate(bars):
        lines += _rows(bar, TOP + index * (2 * BAR + GAP), bars)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend(labels: tuple[str, str]) -> Iterator[str]:
    for index, (label, kind) in enumerate(zip(labels, ("first", "second"), strict=True)):
        x = LEFT + index * 120
        yield f'<rect class="{kind}" x="{x}" y="38" width="{BAR}" height="{BAR}"/>'
        yield f'<text x="{x + BAR + 6}" y="48">{escape(label)}</text>'


def _scale(bars: Sequence[Bar], height: int) -> Iterator[str]:
    """A line at each power of two; that of 1 is the strong one."""
    least, most = _ends(bars)
    for power in range(least, most + 1):
        x, kind = _x(2.0**power, bars), "line one" if power == 0 else "line"
        yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 22}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{height - 8}">{2.0**power:g}</text>'


def _rows(bar: Bar, top: int, bars: Sequence[Bar]) -> Iterator[str]:
    weight = " strong" if bar.strong else ""
    yield f'<text class="name{weight}" x="{LEFT - 10}" y="{top + BAR + 4}" text-anchor="end">{escape(bar.name)}</text>'
    for index, (ratio, kind) in enumerate(zip(bar.ratios, ("first", "second"), strict=True)):
        begin, end = sorted((_x(1.0, bars), _x(ratio, bars)))
        y = top + index * BAR
        yield f'<rect class="{kind}" x="{begin:.1f}" y="{y}" width="{max(end - begin, 1):.1f}" height="{BAR - 1}"/>'
        yield f'<text class="value{weight}" x="{end + 5:.1f}" y="{y + BAR - 1}">{ratio:.2f}</text>'


def _ends(bars: Sequence[Bar]) -> tuple[int, int]:
    """The powers of two between which every ratio lies, 1 included."""
    ratios = [1.0, *(ratio for bar in bars for ratio in bar.ratios)]
    return math.floor(math.log2(min(ratios))), math.ceil(math.log2(max(ratios)))


def _x(ratio: float, bars: Sequence[Bar]) -> float:
    least, most = _ends(bars)
    return LEFT + (math.log2(ratio) - least) / max(most - least, 1) * (WIDTH - LEFT - RIGHT)
