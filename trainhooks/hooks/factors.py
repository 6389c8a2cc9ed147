"""Factors as plain functions of the update count, for `lr_schedule` and wherever a value follows that count.

The update after `u` finished ones is made with the factor at `u`, so the first with the factor at 0.
"""

import functools
import math
from collections.abc import Callable
from typing import ParamSpec, cast, final

from attrs import field, frozen

from trainhooks.core import Settings, called_with

from .arguments import check_count, check_function, check_number

P = ParamSpec("P")


@final
@frozen(repr=False)
class Schedule:
    """A factor for each update, as a function of the count of finished ones; compared, copied and pickled by value.

    Example:
        >>> cosine(10), cosine(10) == cosine(10), cosine(10) == cosine(20)
        (cosine(updates=10), True, False)
    """

    settings: Settings
    """The function that made it, and with which arguments."""
    _factor: Callable[[int], float] = field(eq=False)

    def __call__(self, update: int) -> float:
        return self._factor(update)

    def __repr__(self) -> str:
        return repr(self.settings)

    def __copy__(self) -> "Schedule":
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "Schedule":
        made: Schedule = self.settings.made_again(memo)
        return made

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Settings]]:
        self.settings.check_pickles()
        return Settings.made_again, (self.settings,)


def _schedule(make: Callable[P, Callable[[int], float]]) -> Callable[P, Schedule]:
    """Let what `make` gives know how it was made."""

    @functools.wraps(make)
    def make_schedule(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        called = called_with(make_schedule, args, kwargs)
        settings = Settings.of(make_schedule, called)
        return Schedule(settings, cast("Callable[..., Callable[[int], float]]", make)(*called.args, **called.kwargs))

    return make_schedule


@_schedule
def constant(factor: float = 1.0) -> Callable[[int], float]:
    """The same factor at every update.

    Args:
        factor: A finite number from 0 on.

    Raises:
        HookDefinitionError: if it is none.

    Example:
        >>> constant(0.5)(1_000)
        0.5
    """
    check_number("constant", "factor", factor)
    return lambda update: factor


@_schedule
def linear(updates: int, *, start: float = 1.0, end: float = 0.0) -> Callable[[int], float]:
    """A straight line from `start` at update 0 to `end` at update `updates`: `start + (end - start) * u / updates`.

    From `u = updates` on, inclusive, the factor is `end`.

    Args:
        updates: Updates from `start` to `end`, 1 or more.
        start: Factor of the first update, a finite number from 0 on.
        end: Last factor, a finite number from 0 on.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: torch's `LinearLR`.

    Example:
        >>> [linear(4)(update) for update in range(6)]
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    check_count("linear", "updates", updates, 1)
    check_number("linear", "start", start)
    check_number("linear", "end", end)

    def factor(update: int) -> float:
        return end if update >= updates else start + (end - start) * update / updates

    return factor


@_schedule
def cosine(updates: int, *, end: float = 0.0) -> Callable[[int], float]:
    """Half a cosine from 1 at update 0 to `end` at update `updates`.

    The factor is `end + (1 - end) * (1 + cos(pi * u / updates)) / 2`, and `end` from `u = updates` on, inclusive;
    torch's scheduler would rise again there.

    Args:
        updates: Updates from 1 to `end`, 1 or more.
        end: Last factor, a finite number from 0 on.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017, without restarts;
    torch's `CosineAnnealingLR`.

    Example:
        >>> [round(cosine(4)(update), 3) for update in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    check_count("cosine", "updates", updates, 1)
    check_number("cosine", "end", end)
    return lambda update: _half_cosine(min(update, updates), updates, end)


@_schedule
def cosine_restarts(updates: int, *, growth: int = 1, end: float = 0.0) -> Callable[[int], float]:
    """Half a cosine from 1 towards `end` again and again, each `growth` times as long as the one before.

    The factor is `end + (1 - end) * (1 + cos(pi * v / n)) / 2`, `v` updates after the last restart, with `n` updates to
    the next. It is 1 at each restart, so at `u = updates` for the first time after 0; `end` itself is not reached.
    There is no end: restarts go on.

    Args:
        updates: Updates to the first restart, 1 or more.
        growth: By how much each stretch is longer than the last, a whole number from 1 on.
        end: Factor that each stretch goes towards, a finite number from 0 on.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017; torch's
    `CosineAnnealingWarmRestarts`.

    Example:
        >>> [round(cosine_restarts(2, growth=2)(update), 3) for update in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """
    check_count("cosine_restarts", "updates", updates, 1)
    check_count("cosine_restarts", "growth", growth, 1)
    check_number("cosine_restarts", "end", end)

    def factor(update: int) -> float:
        length = updates
        if growth == 1:
            update %= length
        while update >= length:
            update, length = update - length, length * growth
        return _half_cosine(update, length, end)

    return factor


def _half_cosine(update: int, updates: int, end: float) -> float:
    return end + (1.0 - end) * (1.0 + math.cos(math.pi * update / updates)) / 2.0


@_schedule
def polynomial(updates: int, *, power: float = 1.0, end: float = 0.0) -> Callable[[int], float]:
    """A power of what is left, from 1 at update 0 to `end` at update `updates`.

    The factor is `end + (1 - end) * (1 - u / updates) ** power`, and `end` from `u = updates` on, inclusive.

    Args:
        updates: Updates from 1 to `end`, 1 or more.
        power: A finite number from 0 on; 0 keeps 1 until the last update, 1 is a straight line.
        end: Last factor, a finite number from 0 on.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: Chen et al., "DeepLab", 2016, with power 0.9; torch's `PolynomialLR`, which ends at 0.

    Example:
        >>> [polynomial(4, power=2)(update) for update in range(6)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """
    check_count("polynomial", "updates", updates, 1)
    check_number("polynomial", "power", power)
    check_number("polynomial", "end", end)

    def factor(update: int) -> float:
        return end if update >= updates else end + (1.0 - end) * (1.0 - update / updates) ** power

    return factor


@_schedule
def warmup(updates: int, then: Callable[[int], float], *, start: float | None = None) -> Callable[[int], float]:
    """A straight line from `start` up to the first factor of another function, which then begins.

    The factor is `(start + (1 - start) * u / updates) * then(0)` before `u = updates`, and `then(u - updates)` from
    there on, inclusive. Warm-up and `then` follow one another: 1,000 updates, 100 of them warm-up, are
    `warmup(100, cosine(900))`.

    Args:
        updates: Updates of warm-up, from 0 on; 0 for none.
        then: The function that follows, its count starting at 0 after the warm-up.
        start: Share of `then(0)` at the first update, a finite number from 0 on. None for `1 / (updates + 1)`: the
            line is that from 0 one update earlier, so no update is made with 0.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: Goyal et al., "Accurate, large minibatch SGD: Training ImageNet in 1 hour", 2017; torch's `LinearLR` and
    `SequentialLR`.

    Example:
        >>> [warmup(3, linear(4))(update) for update in range(6)]
        [0.25, 0.5, 0.75, 1.0, 0.75, 0.5]
    """
    check_count("warmup", "updates", updates, 0)
    check_function("warmup", "then", then, "warmup(100, cosine(900))")
    if start is not None:
        check_number("warmup", "start", start)
    first = 1.0 / (updates + 1) if start is None else start

    def factor(update: int) -> float:
        if update >= updates:
            return then(update - updates)
        return (first + (1.0 - first) * update / updates) * then(0)

    return factor


@_schedule
def warmup_stable_decay(
    updates: int, *, warmup_updates: int, decay_updates: int, end: float = 0.0
) -> Callable[[int], float]:
    """A warm-up as `warmup` makes it, then 1, and a straight line down to `end` over the last `decay_updates`.

    The factor is below 1 before `u = warmup_updates`, 1 from there up to `u = updates - decay_updates`, both inclusive,
    `1 + (end - 1) * v / decay_updates` at `v` updates after that, and `end` from `u = updates` on, inclusive.

    Args:
        updates: Updates in all, not fewer than those of warm-up and decay together.
        warmup_updates: Updates of warm-up, from 0 on.
        decay_updates: Updates from 1 to `end`, 1 or more.
        end: Last factor, a finite number from 0 on.

    Raises:
        HookDefinitionError: if an argument is none of these.

    Source: Hu et al., "MiniCPM: Unveiling the potential of small language models with scalable training strategies",
    2024, with a straight line for the decay.

    Example:
        >>> factor = warmup_stable_decay(8, warmup_updates=3, decay_updates=2)
        >>> [factor(update) for update in range(10)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    check_count("warmup_stable_decay", "warmup_updates", warmup_updates, 0)
    check_count("warmup_stable_decay", "decay_updates", decay_updates, 1)
    check_count("warmup_stable_decay", "updates", updates, warmup_updates + decay_updates)
    check_number("warmup_stable_decay", "end", end)
    stable_updates = updates - warmup_updates - decay_updates
    decay = linear(decay_updates, end=end)
    return warmup(warmup_updates, lambda update: decay(max(update - stable_updates, 0)))
