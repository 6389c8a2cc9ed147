"""Recorded values: newest by name, and what waits for `on_record`."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast, final

import torch
from attrs import asdict, define, field
from torch import Tensor

from trainhooks.core import EpochEnd, EvaluationEnd, HookSet, Metrics, Progress, Record, Values
from trainhooks.distributed import Ranks
from trainhooks.errors import HookDefinitionError, RunDefinitionError, shown

from .means import numbers_of, one_number

LOOP = "loop"
_BURST = 64


@final
@define(eq=False)
class Pending:
    """A record that waits to be delivered."""

    by: str
    at: Progress
    since: Progress
    values: dict[str, float | Tensor]
    until: Progress | None = None
    """When the interval ends that the recording event covers; None for `at`."""

    def numbers(self) -> Metrics:
        """Its values; all of them have been read."""
        return cast("Metrics", self.values)


@final
@define(eq=False)
class Records:
    """Every value of a run by name; device tensors stay on the device until a burst is read."""

    own: frozenset[str] = frozenset()
    """Names that only the loop records."""
    keeps: bool = False
    """Whether somebody hears `on_record`."""
    newest: dict[str, float | Tensor] = field(factory=dict[str, float | Tensor])
    owner: dict[str, str] = field(factory=dict[str, str])
    times: dict[str, int] = field(factory=dict[str, int])
    moments: dict[str, Progress] = field(factory=dict[str, Progress])
    """Progress when each name was recorded last."""
    this_epoch: set[str] = field(factory=set[str])
    pending: list[Pending] = field(factory=list[Pending])
    before: dict[str, int] | None = None
    """`times` when the evaluation at hand began; None outside of evaluations."""
    _unread: bool = False

    def begin_evaluation(self) -> None:
        """Note what is recorded from here on as the evaluation's."""
        self.before = dict(self.times)

    def end_evaluation(self) -> list[str]:
        """The names that were recorded since the evaluation began, which is over."""
        before, self.before = self.before or {}, None
        return [name for name, times in self.times.items() if times > before.get(name, 0)]

    def take(self, by: str, record: Record, ctx: Any, since: Progress, until: Progress | None = None) -> None:
        """Take in a hook's answer at once."""
        if not isinstance(record.values, Mapping):
            raise HookDefinitionError(f"{by!r} answered Record({shown(record.values)}); write Record({{name: value}}).")
        if not self.own.isdisjoint(record.values):
            taken = min(self.own & set(record.values))
            raise RunDefinitionError(
                f"{by!r} recorded {taken!r}, which is the loop's own value; give yours another name."
            )
        self.add(by, {name: _scalar(by, name, value) for name, value in record.values.items()}, ctx.at, since, until)

    def add(
        self, by: str, values: Mapping[str, float | Tensor], at: Progress, since: Progress,
        until: Progress | None = None,
    ) -> None:  # fmt: skip
        """Take in values that are known to be scalars."""
        for name, value in values.items():
            if self.owner.setdefault(name, by) != by:
                raise RunDefinitionError(
                    f"{self.owner[name]!r} and {by!r} both record {name!r}; a name has one source. Rename one."
                )
            self.newest[name] = value
            self.times[name] = self.times.get(name, 0) + 1
            self.moments[name] = at
            self._unread = self._unread or type(value) is not float
        self.this_epoch.update(values)
        if self.keeps and values:
            self.pending.append(Pending(by, at, since, dict(values), until))

    def ripe(self) -> bool:
        """Whether a delivery costs nothing, or enough has come together."""
        return bool(self.pending) and (not self._unread or len(self.pending) >= _BURST)

    def drain(self) -> list[Pending]:
        """What waits, all read, in the order recorded."""
        self.read()
        ready, self.pending = self.pending, []
        return ready

    def read(self) -> None:
        """Read every tensor that is still on a device, in one read for each device."""
        if not self._unread:
            return
        holders: list[dict[str, float | Tensor]] = [self.newest, *(one.values for one in self.pending)]
        waiting = [(held, name, value) for held in holders for name, value in held.items() if isinstance(value, Tensor)]
        tensors = {id(value): value for _, _, value in waiting}
        numbers: dict[int, float] = {}
        for device in {value.device for value in tensors.values()}:
            there = [(key, value) for key, value in tensors.items() if value.device == device]
            wide = torch.float32 if device.type == "mps" else torch.float64
            burst = torch.stack([value.reshape(()).to(wide) for _, value in there])
            numbers.update(zip((key for key, _ in there), numbers_of(burst), strict=True))
        for held, name, value in waiting:
            held[name] = numbers[id(value)]
        self._unread = False

    def metrics(self) -> dict[str, float]:
        """The newest value of every name, as numbers."""
        self.read()
        return {name: value for name, value in self.newest.items() if not isinstance(value, Tensor)}

    def recorded_at(self, at: Progress) -> dict[str, float]:
        """The newest values of the names that were recorded when as much was trained as at `at`."""
        there = {
            name for name, one in self.moments.items() if (one.updates, one.batches) == (at.updates, at.batches)
        }
        return {name: value for name, value in self.metrics().items() if name in there}

    def state(self) -> dict[str, Any]:
        """The newest values, and what is known of each name, as plain data; nothing waits."""
        return {
            "newest": self.metrics(),
            "owner": dict(self.owner),
            "times": dict(self.times),
            "moments": {name: asdict(one) for name, one in self.moments.items()},
            "this_epoch": sorted(self.this_epoch),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.newest.update(state["newest"])
        self.owner.update(state["owner"])
        self.times.update(state["times"])
        self.moments.update({name: Progress(**one) for name, one in state["moments"].items()})
        self.this_epoch.update(state["this_epoch"])

    def share(self, ranks: Ranks, names: Iterable[str]) -> None:
        """Give every rank the values of hooks that are read by name: the mean over the ranks that have recorded one.

        All ranks come here, for the same names. Those of the loop are the same everywhere already.
        """
        wanted = sorted(set(names) - self.own - {"*"})
        if not wanted:
            return
        self.read()
        there = self.of_epoch()
        here = [name for name in wanted if name in there]
        said = ranks.gather(
            {name: (there[name], self.times[name], self.owner[name], self.moments[name]) for name in here}
        )
        for name in wanted:
            found = [one[name] for one in said if name in one]
            if found:
                values = [value for value, _, _, _ in found]
                self.newest[name] = values[0] if len(set(values)) == 1 else math.fsum(values) / len(values)
                self.times[name] = max(times for _, times, _, _ in found)
                self.owner[name], self.moments[name] = found[0][2:]
                self.this_epoch.add(name)

    def of_epoch(self, by: str | None = None) -> dict[str, float]:
        """The newest values recorded since the epoch began; of one source, if `by` names it."""
        return {
            name: value
            for name, value in self.metrics().items()
            if name in self.this_epoch and (by is None or self.owner[name] == by)
        }

    def values(self, metrics: Metrics) -> Values:
        """`metrics` as hooks see them."""
        return Values(metrics, dict(self.times), self.before)

    def view(self, ctx: EpochEnd | EvaluationEnd, reader: HookSet) -> Values:
        """The metrics of a context as `reader` sees them: the loop's own, and what it reads of others."""
        if not reader.reads:
            return ctx.metrics
        everything = "*" in reader.reads
        read = {name: value for name, value in self.of_epoch().items() if everything or name in reader.reads}
        return self.values({**read, **ctx.metrics})


def number(by: str, name: str, value: object) -> float:
    """A recorded value as a plain number; reads the device."""
    return float(_scalar(by, name, value))


def _scalar(by: str, name: object, value: object) -> float | Tensor:
    if type(value) is float and type(name) is str:
        return value
    found = one_number(value)
    if found is None or not isinstance(name, str):
        raise HookDefinitionError(
            f"{by!r} recorded {shown(name)} as {shown(value)}; record a number or a 0-d tensor under a name."
        )
    if isinstance(found, Tensor):
        return float(found.item()) if found.is_cpu else found.clone()
    return found
