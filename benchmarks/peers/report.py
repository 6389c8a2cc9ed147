"""What is found of the systems, as plain tables and as a picture."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Final

from ..picture import Bar, picture
from ..report import machine, table
from .cases import Case
from .racing import Found
from .systems import BY_HAND

INTRODUCTION: Final = """\
## Beside other systems

Written by `make bench-peers`. Each system trains the same model on the same ready batches with the same SGD, in the
smallest form that it recommends, which the docstring of its file in `benchmarks/peers/` names; a clip, a schedule or a
file of its own is used where it has one that works. Each has an environment of its own with the same build of torch,
and a warm process of its own. In each round all of them run once, in a new order; next to each run, the same process
runs the hand-written loop, and a ratio compares the processor time of these two, with the garbage collector at rest. A
step is what lies between two requests for a batch, so the start of a run and what happens between epochs are not in
these ratios. With the tiny model a step is nearly all overhead; the third table has steps that compute.

Before anything is timed, the final weights and the calls of the hooks are checked in every case: "same" is within 1e-5
of the hand-written loop, "bit for bit" equal. What differs is said, and that case is not timed.
"""

BEHIND: Final = """\
A few percent of a model that computes are noise: the first line of its table has the hand-written loop against itself.
Accelerate imports most of itself when it is used. Memory is nearly all torch's."""

TINY: Final = {f"hooks: {count}": Case("tiny", count) for count in (0, 1, 10, 100)} | {
    "realistic": Case("tiny", realistic=True)
}
LARGER: Final = {
    "MLP": Case("mlp"),
    "MLP, realistic": Case("mlp", realistic=True),
    "convolution": Case("convolution"),
    "convolution, realistic": Case("convolution", realistic=True),
}


def section(everything: Sequence[Found], absent: Mapping[str, str]) -> str:
    """The whole section of RESULTS.md."""
    ordered = in_order(everything)
    missing = (f"- {title} is not here: {why}." for title, why in absent.items())
    return "\n".join([
        INTRODUCTION, machine(), "",
        "### The tiny model, system / by hand: median of the rounds", "", ratios(TINY, ordered, median), "",
        "### The same: minimum of the rounds", "", ratios(TINY, ordered, min), "",
        "### Models that compute, system / by hand: median of the rounds", "",
        "MLP 4 x 512 with batches of 64; two convolutions and a linear layer with 16 images of 32 x 32.", "",
        ratios(LARGER, ordered, median), "",
        "### Python calls of a step, import and memory", "",
        "Import is what comes on top of torch's, as a share of torch's. Memory is the peak of a process that trains",
        "the tiny model, in MB.", "", costs(ordered), "",
        "### Where another system is ahead of this one", "", ahead(ordered), "",
        "### Versions and remarks", "", *map(remarks, ordered), *missing,
    ])  # fmt: skip


def in_order(everything: Iterable[Found]) -> list[Found]:
    """By hand first, then the quickest; what was not timed comes last."""
    tiny = TINY["hooks: 0"]

    def place(found: Found) -> tuple[bool, float]:
        return found.peer != BY_HAND, median(found.ratios.get(tiny, [float("inf")]))

    return sorted(everything, key=place)


def ratios(cases: Mapping[str, Case], everything: Iterable[Found], of: Callable[[Sequence[float]], float]) -> str:
    """A column for each case."""

    def cell(found: Found, case: Case) -> str:
        return f"{of(found.ratios[case]):.2f}" if case in found.ratios else "-"

    rows = ((found.peer.title, *(cell(found, case) for case in cases.values()), verdict(found)) for found in everything)
    return table(("system", *cases, "trains"), rows)


def costs(everything: Iterable[Found]) -> str:
    """What has no rounds."""
    rows = (
        (
            found.peer.title,
            *(f"{found.calls[case]:.0f}" if case in found.calls else "-" for case in TINY.values()),
            *((f"{found.start('import'):.0%}", f"{found.start('memory'):.0f}") if found.starts else ("-", "-")),
        )
        for found in everything
    )
    return table(("system", *TINY, "import", "memory"), rows)


def ahead(everything: Sequence[Found]) -> str:
    """Each measure in which another system takes less than this one, with both numbers."""
    (ours,) = (found for found in everything if found.peer.name == "trainhooks")
    others = [found for found in everything if found.peer not in (ours.peer, BY_HAND)]
    shown: dict[str, Mapping[str, str]] = {}
    for title, case in {**TINY, **LARGER}.items():
        shown[title] = {one.peer.title: f"{median(one.ratios[case]):.2f}" for one in everything if case in one.ratios}
    for title, case in TINY.items():
        shown[f"calls, {title}"] = {
            one.peer.title: f"{one.calls[case]:.0f}" for one in everything if case in one.calls
        }
    started = [one for one in everything if one.starts]
    shown["import"] = {one.peer.title: f"{one.start('import'):.2f}" for one in started}
    shown["memory"] = {one.peer.title: f"{one.start('memory'):.0f}" for one in started}
    lines = [
        f"- {what}: {one.peer.title} {values[one.peer.title]}, trainhooks {values[ours.peer.title]}"
        for what, values in shown.items()
        for one in others
        if one.peer.title in values and ours.peer.title in values
        and float(values[one.peer.title]) < float(values[ours.peer.title])
    ]  # fmt: skip
    return "\n".join([*lines, "", BEHIND] if lines else ["Nowhere."])


def verdict(found: Found) -> str:
    """What the check said, in a word or two."""
    return "differs" if found.faults else "bit for bit" if found.peer.is_exact else "same"


def remarks(found: Found) -> str:
    """A line of a list."""
    version = found.starts[0]["version"] if found.starts else ""
    said = "; ".join([*filter(None, [found.peer.remark]), *found.faults])
    return f"- {found.peer.title}: {found.peer.package} {version}".rstrip() + (f"; {said}." if said else ".")


def drawn(everything: Sequence[Found]) -> str:
    """The picture: no hooks, and ten."""
    none, ten = TINY["hooks: 0"], TINY["hooks: 10"]
    bars = [
        Bar(found.peer.title, (median(found.ratios[none]), median(found.ratios[ten])), found.peer.name == "trainhooks")
        for found in in_order(everything)
        if found.peer != BY_HAND and none in found.ratios and ten in found.ratios
    ]
    return picture(
        "Time of a training step, by hand = 1 (tiny model, logarithmic)", ("no hooks", "10 hooks on two events"), bars
    )
