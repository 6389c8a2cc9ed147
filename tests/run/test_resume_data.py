"""Where a run goes on depends on what its data can do."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from tests.loop.programs import batches, linear
from tests.run.saved import experiment, loader, run, state_of
from trainhooks import BatchBegin, EndEpoch, ResumeError, TrainResult, at_points, every_seconds, named
from trainhooks.checkpoint import Start, find_start, manifests_of, runs_of
from trainhooks.checkpoint.resume import place_of
from trainhooks.data import first
from trainhooks.hooks import checkpoint
from trainhooks.store import open_store

Make = Callable[[], Iterable[Any]]


def dataset() -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(20, 3, generator=generator), torch.randn(20, 2, generator=generator))


def shuffled() -> Iterable[Any]:
    """Its order comes from torch's global stream."""
    return DataLoader(dataset(), 4, shuffle=True)


def shuffled_by_its_own() -> Iterable[Any]:
    return DataLoader(dataset(), 4, shuffle=True, generator=torch.Generator().manual_seed(4))


def stateful(workers: int = 0) -> Iterable[Any]:
    loader: Iterable[Any] = StatefulDataLoader(
        dataset(), 4, shuffle=True, num_workers=workers, generator=torch.Generator()
    )
    return loader


def stateful_of_the_global_stream() -> Iterable[Any]:
    torch.manual_seed(8)
    loader: Iterable[Any] = StatefulDataLoader(dataset(), 4, shuffle=True)
    return loader


def stateful_with_workers() -> Iterable[Any]:
    return stateful(2)


def trained(
    folder: Path, make: Make, updates: int, *, save: int | None = None, resume: Any = "never",
    seen: list[Any] | None = None, accumulate: int = 1, hooks: Any = (),
) -> tuple[TrainResult, dict[str, list[Any]]]:  # fmt: skip
    """Train a fresh model; from other random streams each time, unless the run seeds or restores them."""
    model = linear()
    seen = [] if seen is None else seen

    def note(ctx: BatchBegin) -> None:
        seen.append((ctx.batch[0].tolist(), float(torch.rand(()))))

    when = every_seconds(1e9) if save is None else at_points([save], "updates")
    result = run(
        folder, [checkpoint(when=when), {"name": "note", "on_batch_begin": note}, hooks], model=model, data=make(),
        updates=updates, seed=5, resume=resume, accumulate=accumulate,
    )  # fmt: skip
    return result, state_of(model)


pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # by torchdata


EXACT: list[Make] = [
    loader, lambda: loader(workers=2), lambda: first(loader(), 5), stateful, stateful_of_the_global_stream,
    stateful_with_workers,
]  # fmt: skip


@pytest.mark.parametrize("make", EXACT)
@pytest.mark.parametrize("stop", [2, 5, 7])
def test_data_that_knows_its_place_goes_on_within_an_epoch(tmp_path: Path, make: Make, stop: int) -> None:
    """Keeps P18 and P19."""
    whole, before, after = list[Any](), list[Any](), list[Any]()
    _, expected = trained(tmp_path / "whole", make, 12, seen=whole)
    trained(tmp_path / "parts", make, stop, save=stop, seen=before)
    torch.manual_seed(77)
    result, weights = trained(tmp_path / "parts", make, 12, resume="must", seen=after)
    assert before + after == whole
    assert weights == expected
    assert result.at.updates == 12


def test_a_loader_that_was_left_within_an_epoch_that_was_ended_begins_the_next_one_anew(tmp_path: Path) -> None:
    def end(ctx: BatchBegin) -> EndEpoch | None:
        return EndEpoch("short") if ctx.at.epoch == 0 and ctx.at.batch == 1 else None

    hooks = {"name": "end", "on_batch_begin": end}
    whole, before, after = list[Any](), list[Any](), list[Any]()
    _, expected = trained(tmp_path / "whole", stateful, 9, seen=whole, hooks=hooks)
    trained(tmp_path / "parts", stateful, 2, save=2, seen=before, hooks=hooks)
    _, weights = trained(tmp_path / "parts", stateful, 9, resume="must", seen=after, hooks=hooks)
    assert before + after == whole
    assert weights == expected


@pytest.mark.parametrize("make", [shuffled, shuffled_by_its_own, lambda: batches(5)])
def test_other_data_goes_on_where_an_epoch_ended(tmp_path: Path, make: Make) -> None:
    whole, before, after = list[Any](), list[Any](), list[Any]()
    _, expected = trained(tmp_path / "whole", make, 15, seen=whole)
    trained(tmp_path / "parts", make, 5, save=5, seen=before)
    torch.manual_seed(77)
    _, weights = trained(tmp_path / "parts", make, 15, resume="auto", seen=after)
    assert before + after == whole
    assert weights == expected


def test_what_is_lost_within_an_epoch_is_said_and_must_refuses_it(tmp_path: Path) -> None:
    """Keeps P19."""
    _, expected = trained(tmp_path / "whole", shuffled, 12)
    second = named("second", checkpoint(when=at_points([8], "updates")))
    trained(tmp_path / "parts", shuffled, 8, save=5, hooks=second)
    with pytest.raises(ResumeError, match=r"update 8 was made within an epoch, .*seeded_loader"):
        trained(tmp_path / "parts", shuffled, 12, resume="must")
    with pytest.warns(RuntimeWarning, match=r"goes on from update 5, so 3 updates are trained again"):
        result, weights = trained(tmp_path / "parts", shuffled, 12, resume="auto")
    assert weights == expected
    assert result.at.updates == 12


NO_OTHER = (
    r"The checkpoint of update 3 was made within an epoch, and this data cannot go on there: .*\. .* has no other that "
    "it could go on from; write resume='never' to begin afresh beside it"
)


def left_within_an_epoch(folder: Path, updates: int = 3) -> None:
    run(folder, checkpoint(when=at_points([updates], "updates")), data=shuffled(), updates=updates, seed=5)


def test_a_run_never_begins_afresh_over_a_checkpoint_that_it_cannot_go_on_from(tmp_path: Path) -> None:
    """The first part of P82."""
    left_within_an_epoch(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ResumeError, match=NO_OTHER):
        trained(tmp_path, shuffled, 4, resume="auto")
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"
    assert trained(tmp_path, shuffled, 4, resume="never")[0].at.updates == 4


def test_a_run_begins_afresh_over_what_is_damaged_here_or_for_another_rank(tmp_path: Path) -> None:
    """The first part of P82: a checkpoint that is not whole is none."""
    left_within_an_epoch(tmp_path)
    (weights,) = tmp_path.rglob("model.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.warns(RuntimeWarning, match="is damaged and passed over"):
        assert trained(tmp_path, shuffled, 1, resume="auto")[0].at.updates == 1
    weights.write_bytes(whole)
    store = open_store(experiment(tmp_path))
    places = {place_of(run_id, one) for folder, run_id in runs_of(store) for one in manifests_of(folder)}

    def start(passed: set[str]) -> Start:
        return find_start(store, "auto", lambda manifest: "It cannot.", lambda folder, manifest: {}, passed)

    with pytest.raises(ResumeError, match=r"^It cannot\. "):
        start(set())
    assert start(places).manifest is None


def test_where_a_newer_run_cannot_go_on_an_earlier_one_does_and_says_so(tmp_path: Path) -> None:
    trained(tmp_path, shuffled, 5, save=5)
    left_within_an_epoch(tmp_path)
    sentence = r"update 3 was made .* began before, goes on from update 5 instead\."
    with pytest.warns(RuntimeWarning, match=sentence) as told:
        result, _ = trained(tmp_path, shuffled, 6, resume="auto")
    assert len(told) == 1
    assert result.at.updates == 6
    assert len(list(runs_of(open_store(experiment(tmp_path))))) == 2, "no run was begun"


def test_a_loader_without_length_that_is_read_ahead_goes_on_where_an_epoch_ended(tmp_path: Path) -> None:
    class Unsized(StatefulDataLoader):  # type: ignore[misc, unused-ignore]  # torchdata has no annotations
        def __len__(self) -> int:
            raise TypeError("unknown")

    def make() -> Iterable[Any]:
        return cast("Iterable[Any]", Unsized(dataset(), 4))

    trained(tmp_path, make, 2, save=2, accumulate=2)
    with pytest.raises(ResumeError, match="was made within an epoch"):
        trained(tmp_path, make, 4, resume="must", accumulate=2)


def test_batches_of_another_size_begin_at_the_sample_where_the_last_ended(tmp_path: Path) -> None:
    """Keeps P18. Data of 24 samples, left within an epoch after two batches of 4."""
    whole, before, after = list[Any](), list[Any](), list[Any]()
    trained(tmp_path / "whole", loader, 6, seen=whole)
    trained(tmp_path / "parts", loader, 2, save=2, seen=before)
    trained(tmp_path / "parts", lambda: loader(batch_size=8), 4, resume="must", seen=after)
    samples = [[sample for batch, _ in seen for sample in batch] for seen in (whole, before, after)]
    assert samples[1] + samples[2] == samples[0]


def test_batches_of_another_size_that_would_begin_within_one_are_refused(tmp_path: Path) -> None:
    trained(tmp_path, loader, 3, save=3)
    sentence = "by 1 process with batches of 4, at a place where 1 process with batches of 8 cannot go on"
    with pytest.raises(ResumeError, match=sentence):
        trained(tmp_path, lambda: loader(batch_size=8), 6, resume="must")
