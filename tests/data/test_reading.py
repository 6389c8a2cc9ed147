"""The samples that are asked for are read, by whom was asked for, and no other ones."""

import gc
import multiprocessing
import os
import pickle
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from tests.data.datasets import Noisy, Written
from trainhooks import Rank
from trainhooks.data import SeededLoader, first, seeded_loader

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than the machine has cores


@pytest.fixture
def written(tmp_path: Path) -> Written:
    dataset = Written(24, tmp_path / "read.txt")
    dataset.forget()
    return dataset


def flat(batches: list[Tensor]) -> list[int]:
    return [int(index) for batch in batches for index in batch]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_no_sample_before_the_start_is_read(written: Written, workers: int, world: int) -> None:
    """Keeps P18."""
    loader, rank = seeded_loader(written, batch_size=2, seed=3, num_workers=workers), Rank(index=world - 1, world=world)
    whole = list(loader.epoch_batches(1, 0, rank))
    written.forget()
    rest = list(loader.epoch_batches(1, 4, rank))
    assert flat(rest) == flat(whole[4:])
    assert sorted(written.read()) == sorted(flat(rest))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_batches_alone_are_read_also_by_workers_that_read_ahead(written: Written, workers: int) -> None:
    loader = first(seeded_loader(written, batch_size=2, seed=3, num_workers=workers), 3)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    assert sorted(written.read()) == sorted(flat(batches))


def test_a_start_at_the_end_reads_nothing_and_starts_no_process(written: Written) -> None:
    loader = seeded_loader(written, batch_size=2, seed=3, num_workers=2)
    before = multiprocessing.active_children()
    assert list(loader.epoch_batches(0, 12)) == []
    assert multiprocessing.active_children() == before
    assert written.read() == []


def test_workers_stay_from_epoch_to_epoch_also_after_one_that_was_left_early(written: Written) -> None:
    loader = seeded_loader(written, batch_size=2, seed=3, num_workers=2)
    expected = [flat(list(seeded_loader(written, batch_size=2, seed=3).epoch_batches(epoch))) for epoch in range(3)]
    written.forget()
    assert flat(list(loader.epoch_batches(0))) == expected[0]
    for _ in loader.epoch_batches(1):
        break
    assert flat(list(loader.epoch_batches(2))) == expected[2]
    assert len(written.readers()) == 2
    assert os.getpid() not in written.readers()


def test_two_epochs_read_at_once_have_workers_of_their_own(written: Written) -> None:
    loader = seeded_loader(written, batch_size=4, seed=3, num_workers=1)
    both = list(zip(loader.epoch_batches(0), loader.epoch_batches(1), strict=True))
    assert flat([one for one, _ in both]) == flat(list(loader.epoch_batches(0)))
    assert flat([other for _, other in both]) == flat(list(loader.epoch_batches(1)))
    assert len(written.readers()) == 2


def test_workers_leave_with_the_loader(written: Written) -> None:
    before = set(multiprocessing.active_children())
    loader = seeded_loader(written, batch_size=2, seed=3, num_workers=2)
    list(loader)
    assert len(set(multiprocessing.active_children()) - before) == 2
    del loader
    assert set(multiprocessing.active_children()) - before == set()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not leave is waited for for an hour, and not the five seconds of torch."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 3600.0)


@pytest.mark.usefixtures("patient")
def test_workers_leave_at_once_with_a_loader_that_is_in_a_cycle_with_an_epoch_under_way(written: Written) -> None:
    before = set(multiprocessing.active_children())
    loader = seeded_loader(written, batch_size=2, seed=3, num_workers=2)
    batches = loader.epoch_batches(0)
    next(batches)
    cycle: list[object] = [loader, batches]
    cycle.append(cycle)
    assert len(set(multiprocessing.active_children()) - before) == 2
    del loader, batches, cycle
    gc.collect()
    assert set(multiprocessing.active_children()) - before == set()


@pytest.mark.usefixtures("patient")
def test_workers_leave_at_once_when_a_sample_cannot_be_read_and_the_error_is_kept() -> None:
    before = set(multiprocessing.active_children())
    loader = seeded_loader(Noisy(4, refused=[3]), batch_size=2, seed=0, shuffle=False, num_workers=2)
    with pytest.raises(ArithmeticError, match="sample 3 is broken"):
        list(loader)
    assert set(multiprocessing.active_children()) - before == set()


def test_a_loader_with_running_workers_can_be_pickled(written: Written) -> None:
    loader = seeded_loader(written, batch_size=2, seed=3, num_workers=1)
    batches = list(loader)
    other: SeededLoader[Tensor] = pickle.loads(pickle.dumps(loader))
    assert flat(list(other)) == flat(batches)


class Slow(Dataset[Tensor]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        time.sleep(0.05)
        return torch.tensor(index)


def test_a_signal_to_all_processes_leaves_the_workers_reading_and_a_second_sigterm_ends_them() -> None:
    before = set(multiprocessing.active_children())
    loader = seeded_loader(Slow(), batch_size=1, seed=0, shuffle=False, num_workers=2)
    batches = loader.epoch_batches(0)
    read = [int(next(batches))]
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        for worker in workers:
            os.kill(worker.pid or 0, number)
        time.sleep(0.1)
    assert read + [int(batch) for batch in batches] == [0, 1, 2, 3, 4, 5]
    hanging = workers.pop()
    with suppress(RuntimeError):  # torch says that a worker was killed, if it is the first to see it
        os.kill(hanging.pid or 0, signal.SIGTERM)
        hanging.join(5)
    assert hanging.exitcode == -signal.SIGTERM


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_that_raises_stop_iteration_does_not_end_the_epoch_without_a_word(workers: int) -> None:
    """Keeps P65."""

    class RunsOut(Dataset[Tensor]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Tensor:
            return next(iter([torch.tensor(index)][: 2 - index]))

    loader = seeded_loader(RunsOut(), batch_size=2, seed=0, shuffle=False, num_workers=workers)
    batches = loader.epoch_batches(0)
    next(batches)
    with pytest.raises(RuntimeError, match=r"raised StopIteration in batch 1 of epoch 0"):
        next(batches)


@pytest.mark.parametrize("x", [torch.randn(9, 2, 3), torch.randn(9, 2, 3).transpose(1, 2)])
def test_the_rows_of_a_tensor_dataset_are_those_that_stacking_its_samples_gives(x: Tensor) -> None:
    y = torch.arange(9, dtype=torch.int16)
    before = x.clone()
    dataset, seed = TensorDataset(x, y), 5
    indices = list(seeded_loader(list(torch.arange(9)), batch_size=4, seed=seed))
    for (rows, labels), picked in zip(seeded_loader(dataset, batch_size=4, seed=seed), indices, strict=True):
        stacked = list(map(torch.stack, zip(*(dataset[int(index)] for index in picked), strict=True)))
        assert torch.equal(rows, stacked[0])
        assert torch.equal(labels, stacked[1])
        assert (rows.dtype, labels.dtype, rows.stride()) == (x.dtype, y.dtype, stacked[0].stride())
        rows.zero_()  # a copy: the dataset keeps its values
    assert torch.equal(x, before)


def test_a_batch_of_a_tensor_dataset_is_a_tuple() -> None:
    (batch,) = seeded_loader(TensorDataset(torch.zeros(3)), batch_size=3, seed=0)
    assert type(batch) is tuple
