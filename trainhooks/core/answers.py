"""What hooks give back to the loop, and how the answers of many become one decision."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast, final

from attrs import frozen
from torch import Tensor

from trainhooks.errors import HookDefinitionError, shown

from .endings import Stopped


@final
@frozen
class Stop:
    """End the run at the next boundary."""

    reason: str
    """Why, for `Stopped.reason`."""


@final
@frozen
class EndEpoch:
    """End this epoch now, as if its data were used up; an open accumulation window is closed short."""

    reason: str
    """Why, for whoever reads the trace."""


@final
@frozen
class Evaluate:
    """Run an evaluation of the run at the next boundary."""

    name: str
    """The evaluation's name."""


@final
@frozen
class Save:
    """Save a checkpoint at the next boundary."""

    tag: str = ""
    """A word that the checkpoint carries; all tags asked for at one boundary stand on one checkpoint."""


@final
@frozen
class Record:
    """Values for whoever listens to `on_record`; device tensors are read once a burst, never here."""

    values: Mapping[str, float | Tensor]
    """By name; a tensor has one element."""


@final
@frozen
class SkipBatch:
    """Leave this batch out: no forward, no backward, no later event of its own."""

    reason: str
    """Why, for whoever reads the trace."""


@final
@frozen
class SkipUpdate:
    """Drop this window's gradients of this optimizer instead of stepping."""

    reason: str
    """Why, for whoever reads the trace."""


@final
@frozen(eq=False)
class Swapped:
    """What a manager of `around_evaluation` gives from `__enter__` if it puts other weights into the model.

    The evaluation then judges these: a checkpoint at its boundary holds them, and `load_weights(which="best")` gives
    them. Of several sets the innermost counts.

    Example:
        >>> import contextlib
        >>> from trainhooks import EvaluationBegin
        >>> @contextlib.contextmanager
        ... def around_evaluation(ctx: EvaluationBegin):
        ...     weights = {name: one.detach() / 2 for name, one in ctx.run.model.named_parameters()}
        ...     own = {name: one.detach().clone() for name, one in ctx.run.model.named_parameters()}
        ...     ctx.run.model.load_state_dict(weights, strict=False)
        ...     yield Swapped(weights)
        ...     ctx.run.model.load_state_dict(own, strict=False)
    """

    weights: Mapping[str, Tensor]
    """By the names of `named_parameters` and `named_buffers`; not copied. Empty if it puts in nothing this time."""

    def __attrs_post_init__(self) -> None:
        given: object = self.weights
        if not isinstance(given, Mapping):
            raise HookDefinitionError(f"Swapped takes tensors by name, a mapping, got {shown(given)}.")
        for name, tensor in cast("Mapping[object, object]", given).items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                raise HookDefinitionError(
                    f"Swapped takes tensors by name, got {shown(tensor)} for {shown(name)}; write the names of "
                    "named_parameters and named_buffers."
                )


Steer: TypeAlias = Stop | EndEpoch | Evaluate | Save | Record
"""What most events take."""

Answer: TypeAlias = Steer | SkipBatch | SkipUpdate
"""Every kind of answer there is."""


@final
@frozen
class Asked:
    """An answer and the hook set that gave it."""

    by: str
    """The set's name."""
    answer: Answer
    """What it asked for."""


@final
@frozen
class Decision:
    """What a boundary does, from everything that was asked since the last one."""

    stop: Stopped | None = None
    """The first `Stop`, with everybody who asked for one."""
    end_epoch: bool = False
    """Whether the epoch ends here; `stop` goes before."""
    evaluate: tuple[str, ...] = ()
    """Names of the evaluations asked for, each once, in the order first asked."""
    save: tuple[str, ...] | None = None
    """The tags of one checkpoint, each once; None if nobody asked to save."""
    savers: tuple[str, ...] = ()
    """Names of the hook sets that asked to save, each once."""


def decide(asked: Sequence[Asked]) -> Decision:
    """Merge answers, given in the order in which they were asked, into one decision."""
    stops = [(one.by, one.answer) for one in asked if isinstance(one.answer, Stop)]
    saves = [(one.by, one.answer.tag) for one in asked if isinstance(one.answer, Save)]
    return Decision(
        stop=Stopped(stops[0][1].reason, _once([by for by, _ in stops])) if stops else None,
        end_epoch=any(isinstance(one.answer, EndEpoch) for one in asked),
        evaluate=_once([one.answer.name for one in asked if isinstance(one.answer, Evaluate)]),
        save=tuple(tag for tag in _once([tag for _, tag in saves]) if tag) if saves else None,
        savers=_once([by for by, _ in saves]),
    )


def _once(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
