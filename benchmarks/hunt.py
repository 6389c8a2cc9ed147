"""What was tried to make a step cheaper: what it was expected to bring, what it brought, and whether it stayed."""

from collections.abc import Mapping, Sequence
from typing import Final, final

from attrs import frozen

PREDICTED: Final[Mapping[str, Sequence[float]]] = {
    "SGD": (0.92, 0.75, 0.56, 0.45, 0.54),
    "AdamW": (0.92, 0.74, 0.65, 0.55, 0.58),
}
"""Of each rung of the ladder, before it was measured: its time, where the loop by hand takes 1."""


@final
@frozen(kw_only=True)
class Attempt:
    """A change to the loop or to what it calls, measured once, when it was made."""

    what: str
    predicted: str
    found: str
    kept: str
    """Whether it stayed; if not, why."""


ATTEMPTS: Final = (
    Attempt(
        what="SGD stepped by torch's own function on ready lists, past its `step`",
        predicted="0.54 to 0.47 of the loop by hand",
        found="0.46",
        kept="no: calling the kernels comes to 0.43",
    ),
    Attempt(
        what="SGD stepped by one foreach kernel",
        predicted="below the kernels one by one",
        found="0.46 against 0.43: on the CPU it only hides the same calls",
        kept="no",
    ),
    Attempt(
        what="AdamW stepped by torch's own function on ready lists",
        predicted="0.60 to 0.55",
        found="0.53",
        kept="no: calling the kernels comes to 0.47",
    ),
    Attempt(
        what="AdamW stepped by eight foreach kernels",
        predicted="0.50",
        found="0.51",
        kept="no",
    ),
    Attempt(
        what="`train` steps SGD and Adam by the kernels one by one (`loop/kernels.py`)",
        predicted="SGD 0.68 to 0.57, AdamW 0.75 to 0.62",
        found="SGD 0.58, AdamW 0.66",
        kept="yes, for the releases of torch that were compared",
    ),
    Attempt(
        what="18 Python calls fewer: windows that close in one call, places as tuples, an iterator for a generator",
        predicted="0.06 less",
        found="0.02 less: what costs is spread over all frames",
        kept="yes: it is less code too",
    ),
    Attempt(
        what="asking for functorch by its key set instead of its stack, which made the engine copy more state",
        predicted="0.01 less",
        found="0.01 less",
        kept="yes",
    ),
    Attempt(
        what="`batch.is_cpu` instead of `batch.device`, the device's kind asked for by `device.type`",
        predicted="0.01 less",
        found="0.03 more: `device.type` makes a string each time",
        kept="no: compared with a device it is 0.005 less",
    ),
    Attempt(
        what="the step left bare under a torch scheduler too, whose wrapper only notes the call",
        predicted="as without a scheduler",
        found="as without a scheduler",
        kept="yes",
    ),
    Attempt(
        what="contexts made as mutable twins whose class is then swapped, instead of by attrs' frozen `__init__`",
        predicted="0.03 less with hooks",
        found="nothing with 10 hooks: setting the class twice costs what it saves, and weak references are lost",
        kept="no",
    ),
    Attempt(
        what="`StepOutput` made by an `__init__` of its own instead of attrs' frozen one",
        predicted="as before",
        found="as before",
        kept="yes: `torch.compile` follows it, so a compiled step is one graph",
    ),
    Attempt(
        what="the step compiled by `torch.compile`, inductor on the CPU, against the same step as it is",
        predicted="not estimated",
        found="2.26 for the tiny model: entering compiled code costs more than it has to do; 0.71 for 12 layers of 32",
        kept="as the user's choice, `train(model, data, torch.compile(step), ...)`: its bits are not the plain step's",
    ),
    Attempt(
        what="the hooks of an event called from one tuple, with nothing else touched for one that answers nothing",
        predicted="0.03 less with 100 hooks",
        found="0.02 less",
        kept="yes",
    ),
    Attempt(
        what="numbers asked for their exact type instead of whether they are tensors; four frames fewer",
        predicted="0.02 less",
        found="0.01 less, 45 instructions of 1139",
        kept="yes",
    ),
    Attempt(
        what="`Progress` made by position, and one for the end of a batch and the begin of the next stretch",
        predicted="0.01 less with 10 hooks",
        found="0.02 less with 10 hooks, 0.01 with the realistic set",
        kept="yes",
    ),
    Attempt(
        what="the whole step in one function, as the last rung of the ladder has it",
        predicted="0.03 less",
        found="0.06 less",
        kept="no: the loop is read more often than it is run, and a breakpoint in it must show its source",
    ),
)
