"""A batch has the form of its samples, and the same values as torch's own collate gives."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, assert_type, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from trainhooks import BatchEnd, supervised, train
from trainhooks.data import Cursor, SeededLoader, first, seeded_loader
from trainhooks.data.collating import Carried, pinned

Pair = tuple[Tensor, Tensor]


class Named(NamedTuple):
    x: Tensor
    label: int


def one_batch(samples: list[Any], collate: Callable[[list[Any]], object] | None = None) -> object:
    options: dict[str, Any] = {"batch_size": len(samples), "seed": 0, "shuffle": False, "collate_fn": collate}
    (batch,) = seeded_loader(samples, **options)
    return batch


def form(value: object) -> object:
    """The value with its tensors as lists, so that it can be compared, and with the types of what holds them."""
    if isinstance(value, Tensor):
        return str(value.dtype), cast("object", value.tolist())
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return cast("object", type(fields)), {key: form(part) for key, part in fields.items()}
    if isinstance(value, tuple | list):
        return type(cast("object", value)), [form(part) for part in cast("list[object]", value)]
    return value


def test_tuples_and_named_tuples_stay_what_they_are_at_any_depth() -> None:
    samples = [{"a": (Named(torch.tensor([i]), i), [float(i)]), "b": f"s{i}"} for i in range(2)]
    assert form(one_batch(samples)) == (dict, {
        "a": (tuple, [
            (Named, [("torch.int64", [[0], [1]]), ("torch.int64", [0, 1])]),
            (list, [("torch.float64", [0.0, 1.0])]),
        ]),
        "b": (list, ["s0", "s1"]),
    })  # fmt: skip


PLAIN: list[list[Any]] = [
    [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])],
    [np.array([1, 2]), np.array([3, 4])],
    [np.float32(1), np.float32(2)],
    [1, 2],
    [True, False],
    [1.5, 2.5],
    ["a", "b"],
    [{"x": torch.ones(2), "y": [1, 2.0]}, {"y": [3, 4.0], "x": torch.zeros(2)}],
    [OrderedDict(x=1), OrderedDict(x=2)],
]


@pytest.mark.parametrize("samples", PLAIN, ids=lambda samples: type(samples[0]).__name__)
def test_anything_but_a_tuple_is_collated_as_a_plain_loader_does_it(samples: list[Any]) -> None:
    (plain,) = DataLoader(cast("Dataset[object]", samples), batch_size=2)
    assert form(one_batch(samples)) == form(plain)


def test_samples_of_different_lengths_are_refused_with_what_to_write() -> None:
    with pytest.raises(RuntimeError, match="sequences of different lengths; give seeded_loader collate_fn="):
        one_batch([(1, 2), (1,)])


def test_a_collate_gets_the_list_of_the_samples_and_its_batch_is_passed_on_as_it_is() -> None:
    assert one_batch([3, 1, 2], collate=lambda samples: (type(samples), *samples)) == (list, 3, 1, 2)


class Asked:
    def __init__(self) -> None:
        self.pinned = 0

    def pin_memory(self) -> "Asked":
        self.pinned += 1
        return self


def test_a_carried_batch_keeps_its_form_and_objects_that_can_pin_themselves_are_asked() -> None:
    asked, other = Asked(), Asked()
    batch = {"a": (asked, Named(torch.zeros(0, device="meta"), 3)[1:], "b"), "c": [asked, other]}
    assert Carried(batch).pin_memory().batch == batch
    assert (asked.pinned, other.pinned) == (1, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_in_pinned_memory_and_tuples_still(workers: int) -> None:
    samples: list[Any] = [Named(torch.tensor([i]), i) for i in range(4)]
    for batch in seeded_loader(samples, batch_size=2, seed=0, num_workers=workers):
        assert type(batch) is Named
        assert batch.x.is_pinned()
    for pair in seeded_loader(TensorDataset(torch.zeros(4)), batch_size=2, seed=0, num_workers=workers):
        assert type(pair) is tuple
        assert pair[0].is_pinned()
    assert form(pinned((torch.ones(1),))) == (tuple, [("torch.float32", [1.0])])


class Pairs(Dataset[Pair]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Pair:
        return torch.full((3,), float(index)), torch.zeros(1)


class Digits(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((3,), float(index)), index % 2


class Untyped(Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(3), index


def of_xs(samples: list[Pair]) -> Tensor:
    return torch.stack([x for x, _ in samples])


def test_the_type_of_the_batches_is_visible() -> None:
    """Keeps P07."""
    pairs = seeded_loader(Pairs(), batch_size=2, seed=0)
    assert_type(pairs, SeededLoader[Pair])
    assert_type(first(pairs, 1), SeededLoader[Pair])
    assert_type(seeded_loader(Pairs(), batch_size=2, seed=0, collate_fn=of_xs), SeededLoader[Tensor])
    digits = seeded_loader(Digits(), batch_size=2, seed=0)
    assert_type(digits, SeededLoader[Pair])
    assert_type(seeded_loader(Untyped(), batch_size=2, seed=0), SeededLoader[Any])
    rows = TensorDataset(torch.zeros(4, 3), torch.zeros(4, 1))
    assert_type(seeded_loader(rows, batch_size=2, seed=0), SeededLoader[tuple[Any, ...]])
    assert_type(seeded_loader(random_split(rows, [2, 2])[0], batch_size=2, seed=0), SeededLoader[tuple[Any, ...]])
    cursor: Cursor[Pair] = pairs
    for batch in (*pairs, *cursor.epoch_batches(0), *digits):
        assert type(batch) is tuple
        assert [type(part) for part in batch] == [Tensor, Tensor]


def test_train_takes_every_one_of_them_and_its_hooks_know_the_batch() -> None:
    """Keeps P07."""
    seen: list[int] = []

    def on_batch_end(ctx: BatchEnd[Pair, Tensor]) -> None:
        x, _ = ctx.batch
        seen.append(len(x))

    def on_another_batch(ctx: BatchEnd[Tensor, Tensor]) -> None:
        seen.append(len(ctx.batch))

    model, rows = nn.Linear(3, 1), TensorDataset(torch.zeros(4, 3), torch.zeros(4, 1))
    sgd, step = torch.optim.SGD(model.parameters()), supervised(F.mse_loss)
    pairs = seeded_loader(Pairs(), batch_size=3, seed=0)
    train(model, pairs, step, sgd, epochs=1, hooks={"on_batch_end": on_batch_end})
    train(model, seeded_loader(rows, batch_size=3, seed=0), step, sgd, epochs=1, hooks={"on_batch_end": on_batch_end})
    train(model, first(pairs, 1), step, sgd, epochs=1, hooks={"on_batch_end": on_batch_end})
    assert seen == [3, 1, 3, 1, 3]
    train(
        model, pairs, step, sgd, epochs=1,
        hooks={"on_batch_end": on_another_batch},  # type: ignore[arg-type]  # rejected: the batch is a pair
    )  # fmt: skip
    assert seen[5:] == [2, 2]
