"""Statistics of final gradients equal those computed by hand, and pictures show those of an epoch's last update."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, Unsized, batches, equal, linear, sgd, squares, weights
from trainhooks import (
    BatchEnd,
    EndEpoch,
    GradientsReady,
    HookDict,
    HookSet,
    Objective,
    TrainResult,
    every,
    train,
    when,
)
from trainhooks.errors import HookDefinitionError, RunDefinitionError
from trainhooks.hooks import History, early_stopping, history
from trainhooks.hooks.gradient_stats import grad_histogram, grad_stats, histograms
from trainhooks.hooks.gradients import clip_grad_norm
from trainhooks.hooks.pictures import Histogram, histogram_drawer

NAMES = ("weight", "bias")


def gradients_by_hand(count: int) -> list[dict[str, Tensor]]:
    """The gradients of each update of a loop written by hand."""
    model = linear()
    optimizer = sgd(model)
    found: list[dict[str, Tensor]] = []
    for batch in batches(count):
        optimizer.zero_grad()
        squares(model, batch).loss.backward()
        found.append({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})
        optimizer.step()
    return found


def run(*hooks: HookSet | HookDict, count: int = 4, epochs: int = 1) -> TrainResult:
    model = linear()
    return train(model, batches(count), squares, sgd(model), epochs=epochs, hooks=[*hooks, history()])


def series(result: TrainResult, name: str) -> list[tuple[int, float]]:
    kept = result.hook_states["history"]
    assert isinstance(kept, History)
    return kept.series(name)


def recorded(result: TrainResult) -> list[str]:
    kept = result.hook_states["history"]
    assert isinstance(kept, History)
    return [name for name in kept.names if name.startswith("grad")]


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda one: one.sum() / one.numel(),
    "std": lambda one: (one - one.mean()).square().mean().sqrt(),
    "zero_ratio": lambda one: torch.count_nonzero(one == 0) / one.numel(),
    "norm": lambda one: one.square().sum().sqrt(),
}


@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_of_each_parameter_are_those_of_a_loop_written_by_hand(statistic: str) -> None:
    result = run(grad_stats())
    for name in NAMES:
        wanted = [float(STATISTICS[statistic](one[name])) for one in gradients_by_hand(4)]
        found = series(result, f"grad/{name}/{statistic}")
        assert [update for update, _ in found] == [0, 1, 2, 3]  # recorded before the update is counted
        assert [value for _, value in found] == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def test_the_norm_is_that_of_all_gradients_together_before_any_clipping() -> None:
    wanted = [float(nn.utils.get_total_norm(list(one.values()))) for one in gradients_by_hand(4)]
    assert [value for _, value in series(run(grad_stats()), "grad_norm")] == wanted
    first = series(run(clip_grad_norm(0.01), grad_stats()), "grad_norm")[0]
    assert first == (0, wanted[0])


def test_zeros_are_counted_and_a_single_element_has_no_deviation() -> None:
    model = nn.Linear(4, 1)

    def first_two(model: nn.Module, batch: Tensor) -> Tensor:
        weight, bias = model.parameters()
        return weight[0, :2].sum() + bias.sum()

    result = train(model, [torch.zeros(1)], first_two, sgd(model), max_updates=1, hooks=grad_stats())
    assert {name: value for name, value in result.metrics.items() if "bias" in name} == {
        "grad/bias/mean": 1.0, "grad/bias/std": 0.0, "grad/bias/zero_ratio": 0.0, "grad/bias/norm": 1.0
    }  # fmt: skip
    assert (result.metrics["grad/weight/zero_ratio"], result.metrics["grad/weight/std"]) == (0.5, 0.5)


def test_a_trigger_says_how_often() -> None:
    result = run(*when(every(3, "updates"), grad_stats()), count=8)
    assert [update for update, _ in series(result, "grad/weight/norm")] == [2, 5]
    assert [update for update, _ in series(result, "grad_norm")] == [2, 5]


def test_patterns_choose_parameters_and_the_norm_stays_that_of_all() -> None:
    everything = [f"grad/{name}/{statistic}" for name in NAMES for statistic in STATISTICS]
    assert recorded(run(grad_stats())) == ["grad_norm", *everything]
    chosen = run(grad_stats("b*"))
    assert recorded(chosen) == ["grad_norm", *everything[4:]]
    assert recorded(run(grad_stats("b*", "*ght"))) == ["grad_norm", *everything]
    assert series(chosen, "grad_norm") == series(run(grad_stats()), "grad_norm")


def test_the_norm_can_be_watched_by_another_hook() -> None:
    result = run(grad_stats(), early_stopping("grad_norm", mode="min", patience=1), epochs=9)
    assert result.at.epochs < 9


def half(index: int, model: nn.ModuleList) -> Objective:
    def step(model: nn.Module, batch: Batch) -> Tensor:
        return squares(model.get_submodule(str(index)), batch).loss

    return Objective(f"half{index}", step, sgd(model[index]))


def test_optimizers_have_norms_of_their_own() -> None:
    model = nn.ModuleList([linear(0), linear(1)])
    result = train(model, batches(1), None, [half(0, model), half(1, model)], epochs=1, hooks=grad_stats("*.weight"))
    norms = {name: value for name, value in result.metrics.items() if name.startswith("grad_norm")}
    assert list(norms) == ["grad_norm/0", "grad_norm/1"]
    assert norms["grad_norm/0"] == float(nn.utils.get_total_norm(list(gradients_by_hand(1)[0].values())))
    assert norms["grad_norm/1"] != norms["grad_norm/0"]
    assert "grad/0.weight/mean" in result.metrics
    assert "grad/1.weight/mean" in result.metrics


def test_looking_changes_nothing() -> None:
    """Keeps P08."""
    trained: list[list[Tensor]] = []
    for hooks in ([], [grad_stats()]):
        model = linear()
        train(model, batches(5), squares, sgd(model), epochs=1, hooks=hooks)
        trained.append(weights(model))
    assert equal(*trained)


def drawn(path: Path, gradients: dict[str, Tensor], title: str, bins: int = 50) -> bytes:
    """The picture that belongs to these gradients."""
    histogram_drawer()(path, title, histograms(gradients, bins))
    return path.read_bytes()


def test_each_epoch_has_a_picture_of_its_last_updates_gradients(tmp_path: Path) -> None:
    sources: Sequence[list[Batch] | Unsized] = (batches(3), Unsized(batches(3)))
    for place, source in enumerate(sources):
        folder = tmp_path / str(place) / "pictures"
        seen: list[dict[str, Tensor]] = []

        def keep(ctx: GradientsReady, seen: list[dict[str, Tensor]] = seen) -> None:
            seen.append({name: one.clone() for name, one in zip(ctx.names, ctx.gradients, strict=True)})

        hooks: list[HookSet | HookDict] = [
            {"on_after_gradient_update": keep},
            grad_histogram(folder),
            clip_grad_norm(0.01),
        ]
        model = linear()
        train(model, source, squares, sgd(model), epochs=2, hooks=hooks)
        pictures = sorted(folder.iterdir())
        assert [one.name for one in pictures] == ["epoch-0000.png", "epoch-0001.png"]
        for epoch, picture in enumerate(pictures):
            title = f"gradients of update {3 * epoch + 3}, epoch {epoch}"
            assert picture.read_bytes() == drawn(tmp_path / "wanted.png", seen[3 * epoch + 2], title)
            assert picture.read_bytes() != drawn(tmp_path / "other.png", seen[3 * epoch + 1], title)


def test_a_picture_holds_the_chosen_parameters_of_all_optimizers(tmp_path: Path) -> None:
    model = nn.ModuleList([linear(0), linear(1)])
    seen: list[dict[str, Tensor]] = []

    def keep(ctx: GradientsReady) -> None:
        seen.append({name: one.clone() for name, one in zip(ctx.names, ctx.gradients, strict=True)})

    hooks: list[HookSet | HookDict] = [
        {"on_after_gradient_update": keep},
        grad_histogram(tmp_path, "*.weight", bins=7),
    ]
    train(model, batches(2), None, [half(0, model), half(1, model)], epochs=1, hooks=hooks)
    chosen = {"0.weight": seen[2]["0.weight"], "1.weight": seen[3]["1.weight"]}
    wanted = drawn(tmp_path / "wanted.png", chosen, "gradients of update 2, epoch 0", 7)
    assert (tmp_path / "epoch-0000.png").read_bytes() == wanted


def test_an_epoch_that_ends_early_has_a_picture_only_where_the_data_has_no_length(tmp_path: Path) -> None:
    def enough(ctx: BatchEnd) -> EndEpoch | None:
        return EndEpoch("enough") if ctx.at.batch == 1 else None

    sources: Sequence[list[Batch] | Unsized] = (batches(3), Unsized(batches(3)))
    for place, source in enumerate(sources):
        model = linear()
        hooks: list[HookSet | HookDict] = [{"on_batch_end": enough}, grad_histogram(tmp_path / str(place))]
        train(model, source, squares, sgd(model), epochs=1, hooks=hooks)
    assert list((tmp_path / "0").iterdir()) == []
    assert [one.name for one in (tmp_path / "1").iterdir()] == ["epoch-0000.png"]


def test_counts_are_those_of_torch() -> None:
    for gradient in [*gradients_by_hand(1)[0].values(), torch.randn(1000, generator=torch.Generator().manual_seed(0))]:
        (found,) = histograms({"one": gradient}, 10)
        assert found.counts == torch.histc(gradient.double(), 10).tolist()
        assert (found.low, found.high) == (float(gradient.min()), float(gradient.max()))
        assert found.title == "one"


def test_what_is_not_finite_is_counted_apart_and_equal_elements_stand_in_the_middle() -> None:
    tensors = {
        "some": torch.tensor([math.nan, 0.0, 1.0, math.inf, 4.0, -math.inf]),
        "zeros": torch.zeros(5),
        "none": torch.tensor([math.nan, math.inf]),
        "half": torch.tensor([0.0, 3.0], dtype=torch.bfloat16),
    }
    some, zeros, none, half_precision = histograms(tensors, 4)
    assert some == Histogram(title="some: 3 of 6 not finite", counts=[1.0, 1.0, 0.0, 1.0], low=0.0, high=4.0)
    assert zeros == Histogram(title="zeros", counts=[0.0, 0.0, 5.0, 0.0], low=-1.0, high=1.0)
    assert (none.title, none.counts) == ("none: 2 of 2 not finite", [0.0, 0.0, 0.0, 0.0])
    assert half_precision.counts == [1.0, 0.0, 0.0, 1.0]


def test_both_parts_of_complex_elements_count_and_the_zeros_of_sparse_gradients() -> None:
    turned = torch.tensor([0 + 3j, 1 + 2j])
    table = nn.Embedding(3, 2, sparse=True)
    (table(torch.tensor([1, 1])) * torch.tensor([[2.0, 4.0], [1.0, 1.0]])).sum().backward()
    rows = table.weight.grad  # not coalesced: the row comes twice
    assert rows is not None
    both, sparse = histograms({"turned": turned, "rows": rows}, 4)
    assert both == Histogram(title="turned", counts=[1.0, 1.0, 1.0, 1.0], low=0.0, high=3.0)
    assert sparse == Histogram(title="rows", counts=[4.0, 0.0, 1.0, 1.0], low=0.0, high=5.0)


def test_gradients_that_are_no_numbers_are_drawn_as_an_empty_panel(tmp_path: Path) -> None:
    found = histograms({"none": torch.tensor([math.nan]), "one": torch.ones(3)}, 4)
    histogram_drawer()(tmp_path / "picture.svg", "title", found)
    assert "<svg" in (tmp_path / "picture.svg").read_text()


def test_without_matplotlib_the_error_is_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'trainhooks\[plot\]'"):
        grad_histogram("anywhere")


def test_a_folder_that_cannot_be_made_is_refused_before_the_first_batch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    seen: list[BatchEnd] = []
    with pytest.raises(OSError, match="file"):
        run({"on_batch_end": seen.append}, grad_histogram(tmp_path / "file"))
    assert seen == []


def test_a_pattern_that_fits_no_parameter_is_refused(tmp_path: Path) -> None:
    sentence = r"grad_stats was given 'conv\*', which fits no parameter of the model: weight, bias\."
    with pytest.raises(RunDefinitionError, match=sentence):
        run(grad_stats("bias", "conv*"))
    with pytest.raises(RunDefinitionError, match="grad_histogram was given 'conv"):
        run(grad_histogram(tmp_path, "conv*"))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: cast("Any", grad_stats)(3),
            r"grad_stats takes names of parameters, such as 'encoder\.\*', got \(3,\)",
        ),
        (lambda: grad_histogram("x", bins=0), "grad_histogram takes bins as a whole number from 1 on, got 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        make()


def test_complex_and_sparse_gradients_have_statistics() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn = nn.Parameter(torch.tensor([1 + 2j, 0.5 - 1j]))
            self.words = nn.Embedding(3, 2, sparse=True)

    def step(model: nn.Module, batch: Batch) -> Tensor:
        words: Tensor = model.get_submodule("words")(torch.tensor([1, 1]))
        return (model.get_parameter("turn") * batch[0][:2, 0]).abs().square().sum() + words.sum() * 3

    model = Both()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    result = train(model, batches(1), step, optimizer, epochs=1, hooks=[grad_stats(), history()])
    gradient = 2 * batches(1)[0][0][:2, 0].square() * torch.tensor([1 + 2j, 0.5 - 1j])
    parts = torch.view_as_real(gradient)
    wanted: dict[str, Tensor | float] = {
        "grad/turn/mean": parts.mean(), "grad/turn/std": parts.std(correction=0),
        "grad/turn/norm": gradient.abs().square().sum().sqrt(), "grad/words.weight/mean": 2.0,
        "grad/words.weight/zero_ratio": 2 / 3, "grad_norm": (parts.square().sum() + 72).sqrt(),
    }  # fmt: skip
    for name, value in wanted.items():
        assert [found for _, found in series(result, name)] == pytest.approx([float(value)], rel=1e-5), name
