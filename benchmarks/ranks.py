"""What the processes of a run say to each other, counted: `python -m benchmarks.ranks`.

Calls and bytes of every collective that the loop makes beside those of torch's own engines. With 2 and 4 ranks the
processes are real, on gloo. With more, one process is rank 0 among others that torch's fake group stands for; each of
them says what rank 0 says. Nothing is timed.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, TypeAlias, cast, final

import torch
import torch.distributed as dist
from attrs import frozen
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils._python_dispatch import TorchDispatchMode

from trainhooks import (
    BatchBegin,
    BatchEnd,
    EpochEnd,
    Evaluation,
    Experiment,
    HookSet,
    Parallel,
    Record,
    Stop,
    ddp,
    every,
    for_rank,
    fsdp,
    launch,
    supervised,
    train,
)
from trainhooks.hooks import checkpoint

from .report import table

REAL: Final = (2, 4)
FAKE: Final = (64, 1024)

PLACES: Final = {
    "allgather_": (1, 0), "gather_": (1, 0), "scatter_": (1, 0), "allreduce_": (0, 0), "broadcast_": (0, 0)
}  # fmt: skip
"""Which arguments of c10d's operators hold what is given, and what is got."""

Kind: TypeAlias = Literal["ddp", "fsdp"]
KINDS: Final[tuple[Kind, ...]] = ("ddp", "fsdp")
Batch: TypeAlias = tuple[Tensor, Tensor]
Run: TypeAlias = Callable[[Kind, int], None]
"""Trains with so many of what is counted."""


@final
@frozen
class Said:
    """Collectives, and the bytes that this rank gave to them and got from them."""

    calls: float = 0.0
    given: float = 0.0
    got: float = 0.0

    def __str__(self) -> str:
        return f"{self.calls:g} calls, {self.given:,.0f} / {self.got:,.0f} B"


class Listening(TorchDispatchMode):
    """Counts the collectives of this process but for those that carry parameters, gradients and buffers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own has no annotations
        self.calls = self.given = self.got = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self.count(func.__name__.partition(".")[0], args)
        return func(*args, **(kwargs or {}))

    def count(self, name: str, args: Sequence[Any]) -> None:
        """Count a collective; `args` are its tensors as c10d's operators take them."""
        where = PLACES.get(name)
        if where is None:
            return  # only torch's engines call the others
        given, got = (list(tensors_in(args[place])) for place in where)
        if all(one.dtype in (torch.float64, torch.int64, torch.uint8) for one in given):
            self.calls += 1
            self.given += sum(one.nbytes for one in given)
            self.got += sum(one.nbytes for one in got)


def tensors_in(nested: object) -> Iterator[Tensor]:
    """The tensors in lists of lists."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, list | tuple):
        for one in cast("Sequence[object]", nested):
            yield from tensors_in(one)


def parallel_of(kind: Kind) -> Parallel:
    """How the model is shared; a run ends only where all ask, so that asking costs an exchange and nothing else."""
    return ddp(stop="all") if kind == "ddp" else fsdp(stop="all")


def train_on(kind: Kind, data: Iterable[Batch], *, epochs: int = 1, **further: Any) -> None:
    torch.manual_seed(0)
    train(
        nn.Linear(3, 2), data, supervised(mse_loss), lambda model: torch.optim.SGD(model.parameters(), 0.0),
        epochs=epochs, parallel=parallel_of(kind), **further,
    )  # fmt: skip


def batches(count: int) -> list[Batch]:
    return [(torch.ones(4, 3), torch.ones(4, 2))] * count


@final
@frozen
class Unsized:
    """Data that does not know how many batches it has."""

    count: int

    def __iter__(self) -> Iterator[Batch]:
        return iter(batches(self.count))


def updates(kind: Kind, count: int) -> None:
    train_on(kind, batches(count))


def windows(kind: Kind, count: int) -> None:
    train_on(kind, batches(4 * count), accumulate=4)


def unsized(kind: Kind, count: int) -> None:
    train_on(kind, Unsized(count))


def skipping(kind: Kind, count: int) -> None:
    def never(ctx: BatchBegin) -> None: ...

    train_on(kind, batches(count), hooks=HookSet(name="never", may_skip=True, on_batch_begin=never))


def pairs(kind: Kind, count: int) -> None:
    train_on(kind, batches(2 * count))


def asking(kind: Kind, count: int) -> None:
    def stop(ctx: BatchEnd) -> Stop | None:
        return Stop("I would") if ctx.at.updates % 2 else None  # all hear of it at the next boundary

    train_on(kind, batches(2 * count), hooks=for_rank(0, {"on_batch_end": stop}))


def evaluations(kind: Kind, count: int) -> None:
    val = Evaluation("val", batches(1), when=every(1, "updates"))
    train_on(kind, batches(count), evaluations=[val])


def evaluated(kind: Kind, count: int) -> None:
    train_on(kind, batches(1), evaluations=[Evaluation("val", batches(count))])


def epochs(kind: Kind, count: int) -> None:
    train_on(kind, batches(1), epochs=count)


def reading(kind: Kind, count: int) -> None:
    def write(ctx: EpochEnd) -> Record:
        return Record({"here": 1.0})

    def read(ctx: EpochEnd) -> None: ...

    writer = HookSet(name="writer", provides=frozenset({"here"}), on_epoch_end=write)
    train_on(
        kind, batches(1), epochs=count, hooks=[writer, HookSet(reads=frozenset({"here"}), on_epoch_end=read)]
    )  # fmt: skip


def saves(kind: Kind, count: int) -> None:
    with TemporaryDirectory() as root:
        saving = checkpoint(when=every(2, "updates"), background=False)  # each is durable before the next begins
        train_on(
            kind, batches(2 * count), hooks=saving, experiment=Experiment(project="ranks", name="counted", root=root)
        )  # fmt: skip


@final
@frozen
class Row:
    """Something that happens in a run, and how to have it more or less often."""

    what: str
    run: Run
    without: Run | None = None
    """What happens beside it, which is subtracted."""
    faked: bool = True
    """Whether it means something where all say what rank 0 says."""


ROWS: Final = (
    Row("an update", updates),
    Row("an update of 4 batches", windows),
    Row("a batch of data without a length", unsized, updates),
    Row("a batch with a set that may skip it", skipping, updates),
    Row("a boundary at which a rank asked for something", asking, pairs, faked=False),
    Row("an evaluation of one batch", evaluations, updates),
    Row("a further batch of an evaluation", evaluated),
    Row("an epoch's end", epochs, updates),
    Row("a value of a hook that an epoch's end reads", reading, epochs),
    Row("a checkpoint", saves, pairs, faked=False),
)


def listened(run: Run, kind: Kind, count: int) -> Said:
    with Listening() as mode:
        run(kind, count)
    return Said(mode.calls, mode.given, mode.got)


def cost(run: Run, kind: Kind) -> Said:
    """What one more costs: the difference between eight and four, so that what is said once does not count."""
    few, many = listened(run, kind, 4), listened(run, kind, 8)
    return Said((many.calls - few.calls) / 4, (many.given - few.given) / 4, (many.got - few.got) / 4)


def costs(kind: Kind) -> list[Said]:
    """The cost of each row in this process, which is one of several."""
    found: list[Said] = []
    faked = dist.is_initialized()
    for row in ROWS:
        if faked and not row.faked:
            found.append(Said())
            continue
        whole = cost(row.run, kind)
        base = Said() if row.without is None else cost(row.without, kind)
        found.append(Said(whole.calls - base.calls, whole.given - base.given, whole.got - base.got))
    return found


def faked(kind: Kind, world: int) -> list[Said]:
    """The cost of each row on rank 0 of many."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    found = costs(kind)
    dist.destroy_process_group()
    return found


def show(title: str, columns: Mapping[int, list[Said]]) -> None:
    """Print a table: a row for each thing that happens, a column for each count of ranks."""
    header = ("what", *(f"{world:,} ranks" for world in columns))
    rows = [
        (row.what, *(str(found[place]) if found[place].calls else "" for found in columns.values()))
        for place, row in enumerate(ROWS)
    ]
    print(f"\n## {title}\n\n{table(header, rows)}", flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    print("Calls, and bytes that rank 0 gave and got. Parameters, gradients and buffers are not in them.")
    for kind in KINDS:
        columns = {world: launch(costs, kind, processes=world)[0] for world in REAL}
        if kind == "fsdp":  # torch's DDP does not work with its fake group
            columns |= {world: launch(faked, kind, world, processes=1)[0] for world in FAKE}
        show(kind, columns)


if __name__ == "__main__":
    main()
