"""What the processes of a run tell each other while it runs, so that all of them do the same.

| when | what | waits |
|---|---|---|
| a window's last backward begins | its weight, who asks, who has news, rank 0's clock | no: read after it |
| a boundary where somebody asked, or that does something anyway | everything that was asked for, and news | yes |
| another boundary where a saver has news | the news | yes |
| a set that may skip was called | whether one of them asked to skip | yes |

So an answer acts on all ranks at one boundary: its own, or the next one. Whether a boundary exchanges is known to every
rank from what all of them know.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, final

import torch
from attrs import define, field, frozen
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from trainhooks.core import Asked, Due, SkipBatch, SkipUpdate, Stop
from trainhooks.distributed import Parallel, Ranks, StopRule, Sums
from trainhooks.errors import RunDefinitionError

from .interrupts import Interrupts
from .means import numbers_of

_CHECKPOINT: Final = "CheckpointFunctionBackward"  # the node of reentrant checkpointing, torch's and those like it

Skip: TypeAlias = type[SkipBatch] | type[SkipUpdate]


@final
@frozen(eq=False)
class WindowSums:
    """The sums of a window over all ranks, on their way."""

    numbers: Sums
    """Weight, how many ranks asked for something, how many have news, rank 0's clock."""
    weight: Sums | None
    """The weight, if it is on a device: then that of the numbers is 0."""


@final
@frozen
class Said:
    """What one rank tells the others at a boundary."""

    asked: tuple[Asked, ...]
    signal: int | None
    """The signal that it received."""
    news: tuple[object, ...]
    """What its saver tells the others'."""


@final
@define(eq=False)
class Together:
    """One rank's end of what the ranks of a run tell each other."""

    ranks: Ranks
    parallel: Parallel
    interrupts: Interrupts = field(factory=Interrupts)
    asked: list[Asked] = field(factory=list[Asked])
    """What the hooks of this rank asked for, and the others do not know yet."""
    news: list[object] = field(factory=list[object])
    """What this rank's saver has to tell, and the others do not know yet."""
    somebody: bool = False
    """Whether one of the ranks asked for something, or received a signal."""
    something: bool = False
    """Whether one of the ranks has news."""
    signal: int | None = None
    """A signal that one of the ranks received, once all know of it."""
    time: float = 0.0
    """Rank 0's clock when it was last told, in seconds."""
    saves: Sequence[Due] = ()
    """Where checkpoints are due, as every rank knows beforehand; each takes what has `since` and `at`."""
    votes: dict[int, tuple[Asked, ...]] = field(factory=dict[int, "tuple[Asked, ...]"])
    """Who asked to stop so far, and how, where all ranks must."""
    wrapped: nn.Module | None = None
    """The model as `parallel` wraps it; None where the loop itself reduces the gradients."""
    always_reduces: bool = False
    """Whether each batch's backward reduces gradients, since any of them may be the window's last."""
    reduced: bool = False
    """Whether the newest backward reduced them."""
    awaited: Sequence[tuple[str, Tensor]] = ()
    """The parameters, by name, that each backward must reach; none once that was looked at."""

    def take(self, asked: Sequence[Asked]) -> bool:
        """Remember answers until the ranks agree; whether a skip is among them, on which they have agreed."""
        skips = [one for one in asked if isinstance(one.answer, SkipBatch | SkipUpdate)]
        self.asked += [one for one in asked if one not in skips]
        return bool(skips)

    def is_saved_at(self, place: object) -> bool:
        """Whether a checkpoint is due at a boundary."""
        due = [one(place) for one in self.saves]  # all are asked: one may keep time
        return any(due)

    def clock(self) -> float:
        """Seconds since some fixed moment, the same on all ranks."""
        return self.time

    def reference_weight(self, weight: float | Tensor) -> tuple[bool, float]:
        """The run's first weight on rank 0: whether it is a tensor, and what others are measured by."""
        on_device = isinstance(weight, Tensor)
        own = weight if not isinstance(weight, Tensor) and 0.0 < weight < float("inf") else 1.0
        return self.ranks.from_first(lambda: (on_device, own))

    def begin_sums(self, weight: float | Tensor) -> WindowSums:
        """Begin to sum a window's weight, and tell whether this rank asks for an exchange."""
        asks = bool(self.asked or self.interrupts.signal is not None)
        now = time.monotonic() if self.ranks.rank.index == 0 else 0.0
        there = self.ranks.sum_later(weight.clone()) if isinstance(weight, Tensor) else None
        numbers = [0.0 if isinstance(weight, Tensor) else weight, float(asks), float(bool(self.news)), now]
        return WindowSums(self.ranks.sum_later(torch.tensor(numbers, dtype=torch.float64)), there)

    def weight_of(self, sums: WindowSums) -> float | Tensor:
        """The weight of a window over all ranks."""
        weight, asking, telling, now = numbers_of(sums.numbers.wait())
        self.somebody = self.somebody or asking > 0.0
        self.something = self.something or telling > 0.0
        self.time = now
        return weight if sums.weight is None else sums.weight.wait()

    def exchange(self) -> tuple[list[Asked], list[tuple[object, ...]]]:
        """Tell everything, and hear everything: what takes effect, in the order of ranks, and each rank's news."""
        said = self.ranks.gather(Said(tuple(self.asked), self.interrupts.signal, tuple(self.news)))
        self.asked.clear()
        self.news.clear()
        self.somebody = self.something = False
        self.signal = next((one.signal for one in said if one.signal is not None), self.signal)
        stops = self._stops([_stops_in(one.asked) for one in said])
        others = [asked for one in said for asked in one.asked if not isinstance(asked.answer, Stop)]
        return list(dict.fromkeys([*stops, *others])), [one.news for one in said]

    def exchange_news(self) -> list[tuple[object, ...]]:
        """Tell and hear the news alone, of each rank: when they come must not decide when answers act."""
        said = self.ranks.gather(tuple(self.news))
        self.news.clear()
        self.something = False
        return said

    def _stops(self, by_rank: Sequence[tuple[Asked, ...]]) -> list[Asked]:
        rule: StopRule = self.parallel.stop
        if rule == "rank0":
            return list(by_rank[0])
        if rule == "all":
            self.votes.update({rank: stops for rank, stops in enumerate(by_rank) if stops})
            by_rank = list(self.votes.values()) if len(self.votes) == len(by_rank) else []
        return [one for stops in by_rank for one in stops]

    def votes_cast(self) -> list[tuple[int, str, str]]:
        """The votes so far, as plain data: rank, who asked to stop, and why."""
        return [
            (rank, one.by, one.answer.reason)
            for rank, stops in self.votes.items()
            for one in stops
            if isinstance(one.answer, Stop)
        ]

    def cast_again(self, votes: Sequence[tuple[int, str, str]]) -> None:
        """Go on from votes that were cast; those of ranks that there are no more are void."""
        for rank, by, reason in votes:
            if rank < self.ranks.rank.world:
                self.votes[rank] = (*self.votes.get(rank, ()), Asked(by, Stop(reason)))

    def skips(self, names: Sequence[str], skip: Skip) -> Callable[[Sequence[Asked]], Sequence[Asked]]:
        """A function that adds to what the hooks of an event asked for that they ask to skip on another rank.

        Args:
            names: Those of the event's sets that may skip, the same on all ranks.
            skip: What the event takes.
        """
        places = {name: place for place, name in enumerate(names, start=1)}

        def agreed(asked: Sequence[Asked]) -> Sequence[Asked]:
            own = [places[one.by] for one in asked if isinstance(one.answer, skip)]
            place = int(self.ranks.most(float(max(own, default=0))))
            return asked if own or not place else [*asked, Asked(names[place - 1], skip("asked for on another rank"))]

        return agreed

    def prepare_backward(self, closes: bool) -> None:
        """Say, before a forward, whether its backward reduces gradients."""
        if self.wrapped is not None:
            self.reduced = self.parallel.reduce_in_backward(self.wrapped, closes or self.always_reduces)

    def finish_reducing(self, gradients: Sequence[Tensor]) -> None:
        """Reduce a window's gradients, if its backward did not."""
        if not self.reduced:
            self.ranks.average(gradients)

    def check_gradients(self, loss: Tensor) -> None:
        """Refuse, on every rank, a parameter that the run's first backward does not reach on one of them.

        Raises:
            RunDefinitionError: if there is one, naming it.
        """
        if not self.awaited:
            return
        reached = leaves_of(loss)
        said = self.ranks.gather([name for name, one in self.awaited if one.requires_grad and id(one) not in reached])
        self.awaited = ()
        if any(said):
            found = [(rank, ", ".join(map(repr, names))) for rank, names in enumerate(said) if names]
            where = "; ".join(f"{names} on rank {rank}" for rank, names in found)
            raise RunDefinitionError(
                f"The first update gives these parameters no gradient: {where}; ddp() waits for that of each. Leave "
                "them out of the model, freeze them by requires_grad_(False), or write "
                "ddp(find_unused_parameters=True)."
            )


def _stops_in(asked: Sequence[Asked]) -> tuple[Asked, ...]:
    return tuple(one for one in asked if isinstance(one.answer, Stop))


def nodes_of(loss: Tensor) -> Iterator[Node]:
    """The nodes of a graph that a backward from `loss` goes through, each once."""
    seen = set[Node]()
    open_ = [loss.grad_fn]
    while open_:
        node = open_.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        open_ += [following for following, _ in node.next_functions]


def leaves_of(loss: Tensor) -> dict[int, Tensor]:
    """Each leaf whose gradient a backward from `loss` would add to, by its `id`."""
    leaves: Iterator[Tensor | None] = (getattr(node, "variable", None) for node in nodes_of(loss))
    return {id(leaf): leaf for leaf in leaves if leaf is not None}


def zero_of(loss: Tensor) -> Tensor:
    """A loss of 0 that reaches the same leaves, with gradients of 0, whatever was computed in between.

    The loss itself where its graph does not show which those are.
    """
    if hides_parameters(loss, ()):
        return loss
    zero = torch.zeros_like(loss)
    for leaf in leaves_of(loss).values():
        zero = zero + leaf.reshape(-1)[:0].sum().to(loss)
    return zero


def hides_parameters(loss: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether a backward from `loss` reaches some of these parameters, but does not know it beforehand.

    So do functions in Python that call backward within their backward, such as reentrant checkpointing: what they were
    given their graph shows, and not what they use. Backward restricted to `inputs` leaves such parameters out.
    """
    nodes: Iterator[object] = nodes_of(loss)
    functions = [node for node in nodes if isinstance(node, BackwardCFunction)]
    if not functions:
        return False
    if any(type(one).__name__ == _CHECKPOINT for one in functions):
        return True
    leaves = leaves_of(loss)
    return any(id(one) not in leaves for one in parameters)
