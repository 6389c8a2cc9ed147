"""Whose weights evaluations look at: a hook set may put others than the live ones into the model around them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast, final

from attrs import asdict, define, field, frozen
from torch import Tensor, nn

from trainhooks.core import HookSet, Progress, Swapped, bare_name, named_buffers, named_parameters
from trainhooks.errors import HookDefinitionError

MODEL = frozenset({"parameters", "buffers"})
"""What a set that writes to the model declares."""


@final
@frozen
class Judged:
    """What one evaluation looked at."""

    average: str | None
    """The hook set whose weights were in the model; None for the live ones."""
    writers: Sequence[str]
    """Other sets that may have written to the model around it: no checkpoint holds what they wrote."""
    values: Sequence[str]
    """Names of the values that were recorded in it."""


@final
@define(eq=False)
class Averages:
    """What the evaluations of one moment looked at."""

    writers: Sequence[str] = ()
    """Sets of the run that say that they write to the model, and hear that an evaluation begins."""
    _at: Progress = field(factory=Progress)
    _weights: dict[str, Mapping[str, Tensor]] = field(factory=dict[str, Mapping[str, Tensor]])
    _judged: dict[str, Judged] = field(factory=dict[str, Judged])
    _entered: Sequence[tuple[HookSet, object]] = ()  # around the evaluation at hand
    _average: str | None = None

    def look(self, model: nn.Module, at: Progress, entered: object) -> None:
        """Note whose weights are in the model, now that all managers around an evaluation are entered.

        Args:
            model: The run's.
            at: How far the run is.
            entered: Each set whose manager was entered, with what that gave, in order.
        """
        self._move_to(at)
        self._entered, self._average = cast("Sequence[tuple[HookSet, object]]", entered), None
        weights: dict[str, Tensor] = {}
        for one, value in self._entered:
            if isinstance(value, Swapped) and value.weights:  # if these are a part alone, the rest is as it was
                self._average = one.name
                weights |= value.weights
        if self._average is not None:
            self._weights[self._average] = _kept(model, weights, self._average)

    def end(self, name: str, at: Progress, values: Iterable[str]) -> None:
        """Note what an evaluation recorded, which is over."""
        self._move_to(at)
        average, entered = self._average, self._entered
        self._average, self._entered = None, ()
        say_what = {one.name for one, value in entered if isinstance(value, Swapped)}
        around = [one.name for one, _ in entered if one.writes & MODEL]
        writers = tuple(one for one in dict.fromkeys((*around, *self.writers)) if one not in say_what)
        if average is not None or writers:
            self._judged[name] = Judged(average, writers, sorted(values))

    def _move_to(self, at: Progress) -> None:
        if _place(at) != _place(self._at):
            self._at = at
            self._weights.clear()
            self._judged.clear()

    def at(self, at: Progress) -> Mapping[str, Mapping[str, Tensor]]:
        """The weights of each set that evaluations looked at when as much was trained as at `at`."""
        return self._weights if _place(at) == _place(self._at) else {}

    def judged_at(self, at: Progress) -> dict[str, dict[str, Any]]:
        """What these evaluations looked at, as plain data; those of the live weights alone are left out."""
        return {name: asdict(one) for name, one in self._judged.items()} if _place(at) == _place(self._at) else {}


def _place(at: Progress) -> tuple[int, int]:
    return at.updates, at.batches


def _kept(model: nn.Module, weights: Mapping[str, Tensor], by: str) -> dict[str, Tensor]:
    """The weights under all names that the model has for each.

    One that lies in the model's own memory is copied: it is no more there once the manager is left.
    """
    named = {
        **dict(named_parameters(model, remove_duplicate=False)), **dict(named_buffers(model, remove_duplicate=False))
    }  # fmt: skip
    of_tensor: dict[int, Tensor] = {}
    for name, one in weights.items():
        own = named.get(bare_name(name))
        if own is None or own.shape != one.shape:
            there = "no tensor" if own is None else f"one of shape {tuple(own.shape)}"
            raise HookDefinitionError(
                f"{by!r} gave Swapped weights with a tensor of shape {tuple(one.shape)} for {name!r}, where the model "
                f"has {there}. The names are those of named_parameters and named_buffers."
            )
        of_tensor[id(own)] = one.detach().clone() if _memory(one) == _memory(own) != 0 else one
    return {name: of_tensor[id(one)] for name, one in named.items() if id(one) in of_tensor}


def _memory(tensor: Tensor) -> int:
    """Where the data of a tensor begins, or of the part of it that this rank holds; 0 if it has none."""
    local = cast("Tensor", getattr(tensor, "to_local", lambda: tensor)())
    return local.data_ptr()
