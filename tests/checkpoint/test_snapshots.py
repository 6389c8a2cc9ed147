"""A snapshot is a copy in a bounded number of buffers: what happens to the state afterwards does not reach it."""

import threading

import pytest
import torch

from trainhooks.checkpoint.snapshots import Snapshot, SnapshotPool
from trainhooks.checkpoint.tensors import read_tensors
from trainhooks.errors import CheckpointError


def held(snapshot: Snapshot | None) -> dict[str, dict[str, list[float]]]:
    """The tensors in a snapshot, by file and name."""
    assert snapshot is not None
    files = {file.name: read_tensors([file.data], len(file.data)) for file in snapshot.files()}
    return {file: {name: one.tolist() for name, one in found.items()} for file, found in files.items()}


def test_a_state_that_changes_right_after_a_snapshot_does_not_change_it() -> None:
    """Keeps P28."""
    weight, moment = torch.tensor([1.0, 2.0]), torch.tensor([3.0])
    snapshot = SnapshotPool().take({"model": {"w": weight}, "optimizers": [{"m": moment}], "step": 4})
    weight.fill_(9)
    moment.fill_(9)
    assert held(snapshot) == {
        "model.safetensors": {"w": [1.0, 2.0]},
        "optimizers.safetensors": {"0.m": [3.0]},
    }


def test_a_group_without_tensors_has_no_file() -> None:
    assert held(SnapshotPool().take({"model": {}, "optimizers": [{"lr": 1}], "step": 4})) == {}


def test_there_are_never_more_snapshots_than_slots() -> None:
    """Keeps P31."""
    pool = SnapshotPool(slots=2)
    first = pool.take({"w": torch.ones(1)}, wait=False)
    second = pool.take({"w": torch.zeros(1)}, wait=False)
    assert first is not None
    assert second is not None
    assert pool.take({"w": torch.ones(1)}, wait=False) is None
    first.release()
    first.release()  # a second time gives nothing back
    third = pool.take({"w": torch.full((1,), 3.0)}, wait=False)
    assert pool.take({"w": torch.ones(1)}, wait=False) is None
    assert held(second) == {"state.safetensors": {"w": [0.0]}}
    assert held(third) == {"state.safetensors": {"w": [3.0]}}


def test_who_waits_for_a_slot_goes_on_when_one_is_given_back() -> None:
    pool = SnapshotPool(slots=1)
    first = pool.take({"w": torch.ones(1)})
    assert first is not None
    got: list[Snapshot | None] = []
    waiting = threading.Thread(target=lambda: got.append(pool.take({"w": torch.full((1,), 5.0)})), daemon=True)
    waiting.start()
    waiting.join(timeout=0.1)
    assert waiting.is_alive()
    first.release()
    waiting.join(timeout=300)
    assert [held(one) for one in got] == [{"state.safetensors": {"w": [5.0]}}]


def test_a_buffer_is_used_again_and_grows_only_when_it_must() -> None:
    pool = SnapshotPool(slots=1)
    places: list[int] = []
    for size in (100, 100, 50, 1000, 100):
        snapshot = pool.take({"w": torch.ones(size)})
        assert snapshot is not None
        places.append(torch.frombuffer(snapshot.files()[0].data, dtype=torch.uint8).data_ptr())
        snapshot.release()
    assert places[0] == places[1] == places[2]
    assert places[3] == places[4]


def test_a_state_that_cannot_be_saved_gives_its_slot_back() -> None:
    pool = SnapshotPool(slots=1)
    with pytest.raises(CheckpointError, match=r"builtins.object at hooks.mine"):
        pool.take({"hooks": {"mine": object()}})
    assert pool.take({"w": torch.ones(1)}, wait=False) is not None


@pytest.mark.gpu
def test_a_snapshot_of_a_gpu_is_pinned_and_holds_what_was_there_when_it_was_asked_for() -> None:
    pool = SnapshotPool(slots=1)
    weight = torch.full((1 << 24,), 1.0, device="cuda")
    snapshot = pool.take({"model": {"w": weight}})
    weight.fill_(9)
    assert snapshot is not None
    assert torch.frombuffer(snapshot.files()[0].data, dtype=torch.uint8).is_pinned()
    found = read_tensors([snapshot.files()[0].data], len(snapshot.files()[0].data))
    assert found["w"].eq(1).all().item() is True
    snapshot.release()
    pool.empty()
