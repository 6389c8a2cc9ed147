"""`load_weights` gives the weights that are asked for: those that were trained, or those that an evaluation judged."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest
import torch
from attrs import evolve
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from tests.hooks.averages import average_of, everything, with_buffers
from tests.loop.programs import batches, equal, linear, squares
from tests.run.saved import experiment
from trainhooks import (
    CheckpointError,
    Evaluation,
    EvaluationBegin,
    EvaluationEnd,
    HookDefinitionError,
    HookDict,
    HookSet,
    Swapped,
    TrainResult,
    evaluate,
    every,
    load_weights,
    named,
    quarantine,
    timed,
    train,
    when,
)
from trainhooks.hooks import checkpoint, early_stopping, ema, swa

Some: TypeAlias = Sequence[HookSet | HookDict]
HELD_OUT = batches(2, seed=9)
BY_LOSS = checkpoint(keep_last=None, keep_best=("val/loss", "min"))


def trained(folder: Path, hooks: Some, model: nn.Module | None = None, epochs: int = 4, **more: Any) -> TrainResult:
    """A run that gets worse from some epoch on, three updates an epoch."""
    model = with_buffers() if model is None else model
    return train(
        model, batches(3), squares, torch.optim.SGD(model.parameters(), 0.6), epochs=epochs, hooks=hooks,
        evaluations=[Evaluation("val", HELD_OUT)], experiment=experiment(folder), **more,
    )  # fmt: skip


def measured(model: nn.Module) -> float:
    return evaluate(model, HELD_OUT, squares, name="val")["val/loss"]


@contextlib.contextmanager
def halved(ctx: EvaluationBegin, names: Sequence[str] | None = None) -> Generator[Swapped]:
    """Puts weights of half the size into the model, in its own memory."""
    own = {name: one for name, one in ctx.run.model.named_parameters() if names is None or name in names}
    before = {name: one.detach().clone() for name, one in own.items()}
    with torch.no_grad():
        for one in own.values():
            one.mul_(0.5)
    yield Swapped(own)
    with torch.no_grad():
        for name, one in own.items():
            one.copy_(before[name])


def halving(name: str = "halving", names: Sequence[str] | None = None) -> HookSet:
    return HookSet(
        name=name, writes=frozenset({"parameters"}), around_evaluation=lambda ctx: halved(ctx, names)
    )  # fmt: skip


RESTORING = early_stopping("val/loss", mode="min", patience=99, restore_best=True)
JUDGED: dict[str, Some] = {
    "none": [],
    "ema": [ema(0.7)],
    "ema with its buffers": [ema(0.7, buffers="average")],
    "swa": [swa(start=2)],
    "swa that begins later, within ema": [ema(0.7), swa(start=99)],
    "ema within swa": [swa(start=2), ema(0.7)],
    "not in this evaluation": [ema(0.7, evaluations=())],
    "restored, after": [ema(0.7), RESTORING],
    "restored, before": [RESTORING, ema(0.7)],
    "left in the model": [ema(0.7, apply_at_end=True)],
    "of rare updates": [ema(0.5, every=2)],
    "under wrappers": [*timed(*quarantine(named("a.b/c", ema(0.7))))],
    "a hook's own": [halving()],
    "a hook's own, of a part, within ema": [ema(0.7), halving(names=["0.bias"])],
    "ema within a hook's own": [halving(names=["0.bias"]), ema(0.7)],
}


@pytest.mark.parametrize("specialised", [True, False])
@pytest.mark.parametrize("hooks", JUDGED.values(), ids=JUDGED)
def test_the_best_is_what_was_judged(hooks: Some, specialised: bool, tmp_path: Path) -> None:
    """Keeps P84."""
    model = with_buffers()
    result = trained(tmp_path, [*hooks, BY_LOSS], model, specialised=specialised)
    best = with_buffers()
    manifest = load_weights(best, experiment(tmp_path), which="best")
    assert manifest.metrics["val/loss"] == min(row["val/loss"] for row in result.history)
    assert measured(best) == pytest.approx(manifest.metrics["val/loss"], rel=1e-6)
    if RESTORING in hooks:
        assert equal(everything(model), everything(best))


@pytest.mark.parametrize("hooks", JUDGED.values(), ids=JUDGED)
def test_a_swap_leaves_no_trace_in_training(hooks: Some, tmp_path: Path) -> None:
    """Keeps P99."""
    if any("final" in cast("HookSet", one).writes for one in hooks):
        pytest.skip("leaves other weights, and says so")
    model, plain = with_buffers(), with_buffers()
    trained(tmp_path / "swapped", [*hooks, BY_LOSS], model)
    trained(tmp_path / "plain", [BY_LOSS], plain)
    assert equal(everything(model), everything(plain))
    live = with_buffers()
    load_weights(live, experiment(tmp_path / "swapped"))
    assert equal(everything(live), everything(plain))


def test_whose_weights_are_given_can_be_said(tmp_path: Path) -> None:
    model = with_buffers()
    result = trained(tmp_path, [ema(0.7), BY_LOSS], model)
    live, average, best = with_buffers(), with_buffers(), with_buffers()
    assert load_weights(live, experiment(tmp_path), average=False).step == 12
    assert equal(everything(live), everything(model))
    load_weights(average, experiment(tmp_path), average="ema")
    assert equal(everything(average), list(average_of(result, "ema").weights.values()))
    manifest = load_weights(best, experiment(tmp_path), which="best", average=False)
    assert measured(best) != pytest.approx(manifest.metrics["val/loss"], rel=1e-3)


def test_an_average_that_no_evaluation_looked_at_is_given_from_the_states(tmp_path: Path) -> None:
    model = with_buffers()
    result = trained(tmp_path, [ema(0.7), swa(start=2, evaluations=()), checkpoint(when=every(5, "updates"))], model)
    assert [one.step for one in result.checkpoints] == [5, 10]
    for name in ("ema", "swa"):
        average = with_buffers()
        load_weights(average, experiment(tmp_path), 10, average=name)
        assert not equal(everything(average), everything(model))
    sentence = r"The checkpoint of step 10 .* holds no average of a hook set 'emma'"
    with pytest.raises(CheckpointError, match=sentence):
        load_weights(with_buffers(), experiment(tmp_path), average="emma")


def folder_of(result: TrainResult, tmp_path: Path) -> Path:
    (data,) = (path.parent for path in tmp_path.rglob("average-*.safetensors"))
    return data


def test_an_average_is_a_file_of_its_own_that_is_not_stored_twice(tmp_path: Path) -> None:
    """Keeps P15."""
    hooks = [named("ema.9", ema(0.7)), ema(0.5), checkpoint(when=every(4, "epochs"))]
    result = trained(tmp_path, hooks)
    (manifest,) = result.checkpoints
    names = {one.name for one in manifest.files}
    assert {"model.safetensors", "average-ema.safetensors"} < names
    assert manifest.extra["judged"] == {"val": {"average": "ema", "writers": [], "values": ["val/loss"]}}
    folder = folder_of(result, tmp_path)
    found = load_file(folder / "average-ema.safetensors")
    average = average_of(result, "ema").weights
    assert found.keys() == average.keys()
    assert all(torch.equal(found[name], one) for name, one in average.items())
    others = load_file(folder / "state.safetensors")
    assert [name for name in others if name.startswith("hooks.ema.p")] == []
    assert len([name for name in others if name.startswith("hooks.ema.9.parameters.")]) == 4


def test_a_run_goes_on_with_the_average_that_its_checkpoint_refers_to(tmp_path: Path) -> None:
    hooks: Some = [ema(0.7), swa(start=2), checkpoint(when=every(1, "epochs"), keep_last=None)]
    whole, halves = with_buffers(), with_buffers()
    expected = trained(tmp_path / "whole", hooks, whole, seed=5)
    trained(tmp_path / "halves", hooks, with_buffers(), epochs=2, seed=5)
    found = trained(tmp_path / "halves", hooks, halves, seed=5, resume="must")
    assert equal(everything(halves), everything(whole))
    assert found.metrics == expected.metrics
    for name in ("ema", "swa"):
        one, other = (average_of(result, name) for result in (found, expected))
        assert one.count == other.count
        assert equal(list(one.weights.values()), list(other.weights.values()))


def test_a_value_of_the_epoch_judges_the_weights_that_were_trained(tmp_path: Path) -> None:
    seen: dict[int, list[Tensor]] = {}
    model = with_buffers()
    note: HookDict = {"on_batch_end": lambda ctx: seen.update({ctx.at.updates: everything(model)})}
    trained(tmp_path, [ema(0.7), note, checkpoint(keep_last=None, keep_best=("train/loss", "min"))], model)
    best = with_buffers()
    manifest = load_weights(best, experiment(tmp_path), which="best")
    assert equal(everything(best), seen[manifest.step])


def test_a_value_that_a_hook_derives_in_the_evaluation_judges_what_that_looked_at(tmp_path: Path) -> None:
    def derive(ctx: EvaluationEnd, metrics: Mapping[str, float]) -> Mapping[str, float]:
        return {**metrics, "error": metrics["val/loss"] * 2}

    derives: HookDict = {"transform_metrics": derive, "provides": frozenset({"error"})}
    trained(tmp_path, [ema(0.7), derives, checkpoint(keep_last=None, keep_best=("error", "min"))])
    best = with_buffers()
    manifest = load_weights(best, experiment(tmp_path), which="best")
    assert measured(best) == pytest.approx(manifest.metrics["error"] / 2, rel=1e-6)


def shifts(ctx: EvaluationBegin) -> None:
    ctx.run.model.get_buffer("1.running_mean").add_(1.0)


@pytest.mark.parametrize("nonsense", [["val"], {"val": 3}, {"val": {"values": ["val/loss"]}}])
def test_a_manifest_that_does_not_say_it_in_our_form_is_refused_as_damaged(nonsense: object, tmp_path: Path) -> None:
    (manifest,) = trained(tmp_path, [ema(0.7), BY_LOSS], epochs=1).checkpoints
    (path,) = tmp_path.rglob("manifests/*.json")
    path.write_bytes(evolve(manifest, extra={**manifest.extra, "judged": nonsense}).to_json())
    with pytest.raises(CheckpointError, match="does not say what its evaluations looked at"):
        load_weights(with_buffers(), experiment(tmp_path), which="best")


@contextlib.contextmanager
def shifted(ctx: EvaluationBegin) -> Generator[None]:
    shifts(ctx)
    yield


@pytest.mark.parametrize("slot", [{"on_evaluation_begin": shifts}, {"around_evaluation": shifted}])
def test_who_else_writes_around_an_evaluation_is_named(slot: dict[str, Any], tmp_path: Path) -> None:
    writer = HookSet(name="recalibrates", writes=frozenset({"buffers"}), **slot)
    result = trained(tmp_path, [ema(0.7), writer, BY_LOSS])
    judged = cast("Any", result.checkpoints[-1].extra["judged"])
    assert judged["val"]["writers"] == ["recalibrates"]
    sentence = "'recalibrates' may have written to the model around the evaluation that recorded 'val/loss'"
    with pytest.warns(RuntimeWarning, match=sentence):
        load_weights(with_buffers(), experiment(tmp_path), which="best")
    load_weights(with_buffers(), experiment(tmp_path))


def test_a_set_that_is_not_due_has_swapped_nothing(tmp_path: Path) -> None:
    (rare,) = when(every(2, "epochs"), halving())
    result = trained(tmp_path, [rare, BY_LOSS])
    judged = [cast("Any", one.extra["judged"]) for one in result.checkpoints]
    assert [one["val"]["average"] if one else None for one in judged] == [None, "halving", None, "halving"]


class Tied(nn.Module):
    """One parameter under two names, and a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return cast("Tensor", self.second(self.first(x)))[:, :2]

    def get_extra_state(self) -> int:
        return self.calls

    def set_extra_state(self, state: int) -> None:
        self.calls = state


def test_tied_names_and_extra_state_are_loaded_too(tmp_path: Path) -> None:
    trained(tmp_path, [ema(0.7), BY_LOSS], Tied())
    best, untied = Tied(), Tied()
    untied.second.weight = nn.Parameter(torch.zeros(3, 3))
    for model in (best, untied):
        manifest = load_weights(model, experiment(tmp_path), which="best")
        assert measured(model) == pytest.approx(manifest.metrics["val/loss"], rel=1e-6)
        assert model.calls == manifest.step


def test_a_model_with_a_compiled_part_and_one_without_take_the_same_names(tmp_path: Path) -> None:
    model = nn.Sequential(cast("nn.Module", torch.compile(linear(), backend="eager")))
    trained(tmp_path, [ema(0.7), BY_LOSS], model)
    best = nn.Sequential(linear())
    manifest = load_weights(best, experiment(tmp_path), which="best")
    assert measured(best) == pytest.approx(manifest.metrics["val/loss"], rel=1e-6)


class Cached(nn.Module):
    """One whose cache, which is not saved, grows with its input."""

    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()
        self.register_buffer("cache", torch.zeros(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > len(self.cache):
            self.cache = torch.arange(len(x), dtype=x.dtype)
        return cast("Tensor", self.inner(x)) + self.cache[: len(x), None]


def test_a_cache_that_is_no_part_of_the_state_need_not_fit(tmp_path: Path) -> None:
    trained(tmp_path, [ema(0.7), BY_LOSS], Cached())
    best = Cached()
    manifest = load_weights(best, experiment(tmp_path), which="best")
    assert measured(best) == pytest.approx(manifest.metrics["val/loss"], rel=1e-6)


def test_swapped_weights_that_the_model_has_not_are_refused(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def wrong(ctx: EvaluationBegin) -> Generator[Swapped]:
        yield Swapped({name: torch.zeros(7) for name in names})

    wrongs: list[tuple[list[str], str]] = [(["0.wight"], "has no tensor"), (["0.bias"], r"has one of shape \(2,\)")]
    for names, there in wrongs:
        hook = HookSet(name="wrong", writes=frozenset({"parameters"}), around_evaluation=wrong)
        with pytest.raises(HookDefinitionError, match=rf"'wrong' gave Swapped .* for '{names[0]}', where .* {there}"):
            trained(tmp_path, [hook, BY_LOSS])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([torch.zeros(1)], "Swapped takes tensors by name, a mapping, got "),
        ({"0.bias": 3.0}, "Swapped takes tensors by name, got 3.0 for '0.bias'; write the names of"),
        ({0: torch.zeros(1)}, "for 0; write the names of named_parameters and named_buffers."),
    ],
)
def test_what_are_no_weights_by_name_cannot_be_swapped(given: Any, sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence.replace(".", r"\.")):
        Swapped(given)


def with_a_new_head() -> nn.Module:
    model = with_buffers()
    cast("Any", model)[0] = nn.Linear(3, 4)
    model.register_buffer("added", torch.zeros(2))
    return model


@pytest.mark.parametrize("average", [None, "ema"])
def test_what_fits_is_loaded_if_asked_for_and_the_rest_is_told(average: str | None, tmp_path: Path) -> None:
    result = trained(tmp_path, [ema(0.7), BY_LOSS])
    model = with_a_new_head()
    with pytest.raises(CheckpointError, match="The checkpoint is of another model"):
        load_weights(model, experiment(tmp_path), average=average)
    rest = load_weights(model, experiment(tmp_path), average=average, strict=False)
    assert rest == ("0.bias", "0.weight", "added")
    if average is not None:
        assert torch.equal(model.get_buffer("1.running_mean"), average_of(result, "ema").weights["1.running_mean"])
    same = with_buffers()
    assert load_weights(same, experiment(tmp_path), strict=False) == ()
