"""Evaluations over ranks: each item once, with weight one, and one result on all of them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, cast

import pytest
import torch
from attrs import frozen
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import ClasswiseWrapper, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC

from tests.loop.programs import Batch, sgd
from tests.ranks import on_ranks
from tests.run.several import ENGINES, me
from trainhooks import (
    BatchPrediction,
    Evaluation,
    RunDefinitionError,
    StepOutput,
    fsdp,
    supervised,
    train,
)
from trainhooks.data import SeededLoader, first, seeded_loader
from trainhooks.distributed import Parallel
from trainhooks.loop.metrics import check_metrics

BATCH_SIZE = 4


class Seen(NamedTuple):
    """What one rank saw of an evaluation."""

    metrics: dict[str, str]
    """Its values, as exact hexadecimal numbers."""
    items: list[int]
    """The items that hooks heard of."""
    forwards: int


class Correct:
    """A metric of the user's own: counts, and takes in what others counted."""

    def __init__(self) -> None:
        self.hits: list[float] = []

    def update(self, output: Tensor, target: Tensor) -> None:
        self.hits += (output.argmax(1) == target).float().tolist()

    def compute(self) -> float:
        return sum(self.hits) / len(self.hits)

    def reset(self) -> None:
        self.hits = []

    def merge_state(self, others: "Iterable[Correct]") -> None:
        for other in others:
            self.hits += other.hits


@frozen
class Given:
    """Batches that do not say how many they are."""

    batches: Sequence[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Alone:
    """A metric that counts, and cannot be put together."""

    def update(self, output: Tensor, target: Tensor) -> None: ...
    def compute(self) -> float:
        return 0.0

    def reset(self) -> None: ...


def right(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) == target).float().mean()


def items(count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, generator=generator)
    return TensorDataset(torch.cat([x, torch.arange(float(count))[:, None]], 1), (x[:, 0] > 0.1).long())


def loader(count: int) -> SeededLoader[tuple[Any, ...]]:
    return seeded_loader(items(count), batch_size=BATCH_SIZE, seed=3)


def model_of_rank(normalised: bool = False) -> nn.Module:
    """The same parameters on each rank; with batch norm, whose statistics become a rank's own."""
    torch.manual_seed(1)
    begin = nn.BatchNorm1d(3) if normalised else nn.Identity()
    return nn.Sequential(begin, nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def evaluated(data: Iterable[Any], parallel: Parallel, *, model: nn.Module | None = None, **metrics: Any) -> Seen:
    """One rank's view of the evaluation of an untrained model."""
    seen, forwards = list[int](), 0

    def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        nonlocal forwards
        forwards += not torch.is_grad_enabled()
        x, y = batch
        output = cast("Tensor", model(x[:, :3]))
        loss = nn.functional.cross_entropy(output, y)
        return StepOutput(loss, weight=float(len(y)), output=output.softmax(1), target=y)

    def look(ctx: BatchPrediction[Batch]) -> None:
        assert ctx.index * BATCH_SIZE == len(seen)
        seen.extend(int(one) for one in ctx.batch[0][:, 3])

    generator = torch.Generator().manual_seed(me())
    trained_on = [(torch.randn(4, 4, generator=generator), torch.tensor([0, 1, 1, 0]))]
    result = train(
        model or model_of_rank(), trained_on, step, lambda model: torch.optim.SGD(model.parameters(), 0.0), epochs=1,
        hooks={"on_after_batch_prediction": look}, parallel=parallel,
        evaluations=[Evaluation("val", data, metrics=metrics)],
    )  # fmt: skip
    values = {name: value.hex() for name, value in result.metrics.items() if name.startswith("val/")}
    return Seen(values, seen, forwards)


def collection() -> MetricCollection:
    return MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro"), "auroc": MulticlassAUROC(2)})


def with_a_cursor(engine: str, count: int) -> Seen:
    metrics: dict[str, Any] = {
        "right": right, "counted": Correct(), "accuracy": MulticlassAccuracy(2, average="micro"),
        "auroc": MulticlassAUROC(2), "both": collection(), "class": ClasswiseWrapper(MulticlassAUROC(2, average=None)),
    }  # fmt: skip
    return evaluated(loader(count), ENGINES[engine](), **metrics)


@pytest.mark.parametrize("count", [17, 5])
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_metrics_are_bit_equal_in_worlds_of_one_two_and_three(engine: str, count: int) -> None:
    """Keeps P45."""
    (alone,) = on_ranks(1, with_a_cursor, engine, count)
    assert len(alone.metrics) == 9
    assert sorted(alone.items) == list(range(count))
    for world in (2, 3):
        found = on_ranks(world, with_a_cursor, engine, count)
        assert [one.metrics for one in found] == [alone.metrics] * world
        assert sorted(item for one in found for item in one.items) == list(range(count))


def test_a_rank_without_further_batches_takes_part_in_the_forwards_of_a_sharded_model() -> None:
    assert [one.forwards for one in on_ranks(3, with_a_cursor, "fsdp", 17)] == [2, 2, 2]
    assert [one.forwards for one in on_ranks(3, with_a_cursor, "ddp", 17)] == [2, 2, 1]
    found = on_ranks(3, with_a_cursor, "fsdp", 5)
    assert [(one.forwards, len(one.items)) for one in found] == [(1, 4), (1, 1), (1, 0)]


def with_the_first(count: int) -> Seen:
    return evaluated(first(loader(17), count), ENGINES["ddp"]())


def test_the_first_batches_are_those_of_each_rank() -> None:
    assert [len(one.items) for one in on_ranks(2, with_the_first, 2)] == [8, 8]
    assert [len(one.items) for one in on_ranks(2, with_the_first, 9)] == [9, 8]


def with_data_of_its_own(engine: str, counts: tuple[int, ...]) -> Seen:
    begin = sum(counts[: me()])
    whole: list[Any] = list(DataLoader(items(sum(counts)), batch_size=1, generator=torch.Generator()))
    own = whole[begin : begin + counts[me()]]
    data = [tuple(torch.cat(parts) for parts in zip(*own, strict=True))] if own else []
    metrics: dict[str, Any] = {"right": right, "counted": Correct(), "auroc": MulticlassAUROC(2), "both": collection()}
    return evaluated(Given(data), ENGINES[engine](), **metrics)


@pytest.mark.parametrize("counts", [(1, 4), (0, 5), (4, 1, 0)])
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_other_data_is_that_of_each_rank_and_counts_by_its_weight(engine: str, counts: tuple[int, ...]) -> None:
    """Keeps P45."""
    found = on_ranks(len(counts), with_data_of_its_own, engine, counts)
    assert [len(one.items) for one in found] == list(counts)
    assert all(one.metrics == found[0].metrics for one in found)
    (alone,) = on_ranks(1, with_data_of_its_own, engine, (5,))
    values, expected = ({name: float.fromhex(one) for name, one in seen.metrics.items()} for seen in (found[0], alone))
    assert values == pytest.approx(expected, rel=1e-6)  # the batches are others
    for name in ("val/auroc", "val/both/auroc"):
        assert found[0].metrics[name] == alone.metrics[name]


def refused_without_a_batch(engine: str) -> str:
    with pytest.raises(RunDefinitionError) as refused:
        evaluated(Given([]), ENGINES[engine]())
    return str(refused.value)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_an_evaluation_that_is_empty_everywhere_is_refused_on_every_rank(engine: str) -> None:
    assert on_ranks(2, refused_without_a_batch, engine) == ["The data of the evaluation 'val' gave no batch."] * 2


def running_mean(model: nn.Module) -> Tensor:
    return next(one.clone() for name, one in model.named_buffers() if name == "0.running_mean")


def with_statistics_of_its_own(engine: str, fails: bool) -> tuple[Tensor, Tensor, Tensor, bool]:
    """The mean that batch norm has measured before, in and after an evaluation, and whether parameters are shards."""
    model, means = model_of_rank(normalised=True), list[Tensor]()
    data = [(torch.full((4, 3), float(me())) + torch.eye(4, 3), torch.tensor([0, 1, 1, 0]))] * 2

    def note(ctx: object) -> None:
        means.append(running_mean(model))

    def fail(ctx: object) -> None:
        note(ctx)
        raise ValueError("no")

    parallel = fsdp(reshard_after_forward=False) if engine == "fsdp" else ENGINES[engine]()
    ended = pytest.raises(ValueError, match="no") if fails else nullcontext()
    with ended:
        train(
            model, data, supervised(nn.functional.cross_entropy), sgd, epochs=1, parallel=parallel,
            hooks={"on_batch_end": note, "on_after_batch_prediction": fail if fails else note},
            evaluations=[Evaluation("val", data[:1])],
        )  # fmt: skip
    shards = [isinstance(one, DTensor) for one in model.parameters()]
    return means[-2], means[-1], running_mean(model), all(shards) if engine == "fsdp" else not any(shards)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_every_rank_evaluates_the_model_of_rank_0_and_has_its_own_back(engine: str, fails: bool) -> None:
    """Keeps P45."""
    (before, inside, after, right_form), (before_1, inside_1, after_1, right_form_1) = on_ranks(
        2, with_statistics_of_its_own, engine, fails
    )
    assert not torch.equal(before, before_1)
    assert torch.equal(inside, before)
    assert torch.equal(inside_1, before)
    assert torch.equal(after, before)
    assert torch.equal(after_1, before_1)
    assert right_form
    assert right_form_1


def failing_on_rank_1(engine: str) -> str:
    def step(model: nn.Module, batch: Batch) -> Tensor:
        if me() == 1 and not torch.is_grad_enabled():
            raise ValueError("rank 1 cannot")
        return cast("Tensor", model(batch[0][:, :3])).square().mean()

    data = [(torch.ones(4, 4), torch.tensor([0, 1, 1, 0]))]
    try:
        train(
            model_of_rank(), data, step, sgd, epochs=1, evaluations=[Evaluation("val", data)],
            parallel=ENGINES[engine](),
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "ended"


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_an_error_on_one_rank_is_raised_there_and_ends_the_others(engine: str) -> None:
    other, failed = on_ranks(2, failing_on_rank_1, engine)
    assert failed == "ValueError: rank 1 cannot"
    assert other.startswith("RuntimeError")


def test_an_object_that_ranks_cannot_put_together_is_refused() -> None:
    evaluations = [Evaluation("val", [], metrics={"right": right, "alone": Alone()})]
    check_metrics(evaluations, 1)
    with pytest.raises(RunDefinitionError) as refused:
        check_metrics(evaluations, 2)
    assert str(refused.value) == (
        "The metric 'alone' of the evaluation 'val' counts by itself, and 2 processes cannot put together what their "
        "Alone objects have counted. Give it a method merge_state(others), take a metric of torchmetrics with "
        "sync_on_compute=True, or write a function of a batch's output and target, whose values are averaged by weight."
    )
    check_metrics([Evaluation("val", [], metrics={"a": Correct(), "b": MulticlassAUROC(2), "c": collection()})], 2)
    silent = MulticlassAUROC(2, sync_on_compute=False)
    for metric in (silent, MetricCollection([MulticlassAccuracy(2), silent])):
        with pytest.raises(RunDefinitionError, match="The metric 'b' of the evaluation 'val'"):
            check_metrics([Evaluation("val", [], metrics={"b": metric})], 2)
