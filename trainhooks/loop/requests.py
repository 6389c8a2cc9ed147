"""What hooks asked for since the last boundary, and the evaluations that are due at one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from attrs import define, field, frozen

from trainhooks.core import Answer, Asked, Decision, Due, Evaluate, Save, SkipBatch, SkipUpdate, Step, decide
from trainhooks.errors import MissingValueError, RunDefinitionError


@final
@frozen(eq=False)
class DueEvaluation:
    """An evaluation of a run."""

    name: str
    data: Iterable[Any]
    step: Step[Any, Any]
    metrics: Mapping[str, Any]
    due: Due
    """Its trigger, bound to the run; takes whatever has `since` and `at`."""
    at_epochs_alone: bool = False
    """Whether it can only be due where an epoch is complete."""
    at_begin: bool = False
    """Whether it is due before the first update of the run's life."""
    left_out: set[str] = field(factory=set[str])
    """Metrics that gave what cannot be recorded, of which it was warned."""


@final
@define(eq=False)
class Requests:
    """Answers wait here for the boundary; only skips act at once."""

    evaluations: Sequence[DueEvaluation] = ()
    """All those of the run."""
    asked: list[Asked] = field(factory=list[Asked])
    evaluated: set[str] = field(factory=set[str])
    """Evaluations that have run since the last batch of this epoch: no trigger makes them due again."""
    here: set[str] = field(factory=set[str])
    """Evaluations of this boundary: nobody gets them a second time."""
    within_epochs: bool = field(init=False)
    """Whether one of them may be due within an epoch."""
    saves: bool = False
    """Whether the run has somewhere to save to."""

    def __attrs_post_init__(self) -> None:
        self.within_epochs = not all(one.at_epochs_alone for one in self.evaluations)

    def take(self, asked: Sequence[Asked]) -> bool:
        """Remember answers; whether a skip is among them."""
        self.asked += asked
        return any(isinstance(one.answer, SkipBatch | SkipUpdate) for one in asked)

    def check(self, by: str, answer: Answer) -> None:
        """Refuse what this run cannot do.

        Raises:
            MissingValueError: if somebody asks for an evaluation that the run does not have.
            RunDefinitionError: if somebody asks to save, and the run has nowhere to save to.
        """
        match answer:
            case Evaluate(name=name):
                self._check_evaluation(by, name)
            case Save():
                if not self.saves:
                    raise RunDefinitionError(
                        f"{by!r} asked to save a checkpoint, but this run has nowhere to save to; write "
                        "train(..., experiment=Experiment(project=..., name=...))."
                    )
            case _:
                pass

    def _check_evaluation(self, by: str, name: str) -> None:
        known = tuple(sorted(one.name for one in self.evaluations))
        if name not in known:
            raise MissingValueError(
                f"{by!r} asked for Evaluate({name!r}), but the run's evaluations are: {', '.join(known) or 'none'}.",
                name,
                known,
            )

    def due(self, place: object) -> list[DueEvaluation]:
        """The evaluations due by their triggers that have not run since the last batch."""
        due = [one for one in self.evaluations if one.due(place)]  # all are asked: a trigger may count
        return [one for one in due if one.name not in self.evaluated]

    def due_at_begin(self, resumed: bool) -> list[DueEvaluation]:
        """The evaluations due before anything was trained, which comes once in a run's life."""
        return [] if resumed else [one for one in self.evaluations if one.at_begin]

    def next_of(self, waiting: list[DueEvaluation]) -> DueEvaluation | None:
        """Take the first of those that wait, or else of those asked for; none runs twice at a boundary."""
        wanted = decide(self.asked).evaluate if self.asked else ()
        waiting += [one for name in wanted for one in self.evaluations if one.name == name]
        while waiting:
            one = waiting.pop(0)
            if one.name not in self.here:
                self.evaluated.add(one.name)
                self.here.add(one.name)
                return one
        return None

    def settle(self) -> Decision:
        """What was asked for since the last boundary; this one is over."""
        decision = decide(self.asked)
        self.asked.clear()
        self.here.clear()
        return decision
