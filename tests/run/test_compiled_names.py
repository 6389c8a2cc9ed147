"""What names a part of a model names it as it is without `torch.compile`, which puts a module of its own around it."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import batches, sgd, squares
from trainhooks import (
    EpochEnd,
    Evaluation,
    EvaluationBegin,
    Experiment,
    GradientsReady,
    HookDict,
    HookSet,
    MutationError,
    RunDefinitionError,
    Swapped,
    load_weights,
    train,
)
from trainhooks.core import bare_name
from trainhooks.hooks import checkpoint, ema, freeze, grad_histogram, grad_stats

pytestmark = pytest.mark.filterwarnings(  # torch's own, where it compiles a module within another
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)

NAMES = ("0.weight", "0.bias", "1.weight", "1.bias")


def bare() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def compiled_whole() -> nn.Module:
    return cast("nn.Module", torch.compile(bare(), backend="eager"))


def compiled_within() -> nn.Module:
    model = bare()
    model[1] = cast("nn.Module", torch.compile(model[1], backend="eager"))
    return model


each_way = pytest.mark.parametrize("make", [compiled_whole, compiled_within])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("weight", "weight"),
        ("_orig_mod.weight", "weight"),
        ("encoder._orig_mod.0._orig_mod.bias", "encoder.0.bias"),
        ("my_orig_mod.weight", "my_orig_mod.weight"),
    ],
)
def test_a_bare_name_lacks_the_module_of_the_compiler_alone(name: str, expected: str) -> None:
    assert bare_name(name) == expected


@each_way
def test_patterns_match_bare_names(make: Any) -> None:
    model, seen = make(), list[tuple[str, ...]]()

    def look(ctx: GradientsReady) -> None:
        seen.append(ctx.names)

    before = [one.clone() for one in model.parameters()]
    looking: HookDict = {"on_after_gradient_update": look}
    hooks: list[HookSet | HookDict] = [freeze("1.*"), looking, grad_stats("0.weight")]
    result = train(model, batches(2), squares, sgd(model), epochs=1, hooks=hooks)
    assert seen == [NAMES[:2]] * 2
    assert "grad/0.weight/norm" in result.metrics
    after = list(model.parameters())
    assert [bool(torch.equal(one, other)) for one, other in zip(before, after, strict=True)] == [False] * 2 + [True] * 2
    assert all(one.requires_grad for one in after)


@each_way
def test_a_pattern_that_matches_nothing_is_told_with_bare_names(make: Any) -> None:
    for hooks in (freeze("_orig_mod.*"), grad_stats("_orig_mod.*")):
        model = make()
        with pytest.raises(RunDefinitionError, match=r"model.*: 0\.weight, 0\.bias, 1\.weight, 1\.bias\."):
            train(model, batches(1), squares, sgd(model), epochs=1, hooks=hooks)


@each_way
def test_guard_mode_names_bare_parameters(make: Any) -> None:
    def change(ctx: EpochEnd) -> None:
        with torch.no_grad():
            list(ctx.run.model.parameters())[2].zero_()

    model = make()
    with pytest.raises(MutationError, match=r"changed the parameter '1\.weight' in place"):
        train(model, batches(1), squares, sgd(model), epochs=1, hooks={"on_epoch_end": change}, guard=True)


@each_way
def test_averages_have_bare_names_in_states_and_checkpoints(make: Any, tmp_path: Path) -> None:
    place = Experiment(project="p", name="n", root=tmp_path)
    model = make()
    hooks = [ema(0.5), checkpoint(keep_best=("val/loss", "min"))]
    run = train(
        model, batches(2), squares, sgd(model), epochs=1, hooks=hooks, experiment=place,
        evaluations=[Evaluation("val", batches(1))],
    )  # fmt: skip
    average: Any = run.hook_states["ema"]
    assert tuple(average.parameters) == NAMES
    other = bare()
    load_weights(other, place, "best")
    assert all(torch.equal(one, average.parameters[name]) for name, one in other.named_parameters())
    again = bare()  # another way to compile, or none, goes on with the same states
    result = train(
        again, batches(2), squares, sgd(again), epochs=2, hooks=hooks, experiment=place, resume="must",
        evaluations=[Evaluation("val", batches(1))],
    )  # fmt: skip
    assert result.at.epochs == 2


@each_way
@pytest.mark.parametrize("named_as", ["the model names them", "bare"])
def test_a_manager_may_name_what_it_swaps_either_way(make: Any, named_as: str, tmp_path: Path) -> None:
    class Doubled:
        """A manager that gives other weights."""

        def __init__(self, model: nn.Module) -> None:
            self.model = model

        def __enter__(self) -> Swapped:
            with torch.no_grad():
                for one in self.model.parameters():
                    one.mul_(2.0)
            named: dict[str, Tensor] = dict(self.model.named_parameters())
            return Swapped({bare_name(key) if named_as == "bare" else key: one for key, one in named.items()})

        def __exit__(self, *raised: object) -> None:
            with torch.no_grad():
                for one in self.model.parameters():
                    one.mul_(0.5)

    def swap(ctx: EvaluationBegin) -> Doubled:
        return Doubled(ctx.run.model)

    place = Experiment(project="p", name="n", root=tmp_path)
    model = make()
    doubled: HookDict = {"name": "doubled", "around_evaluation": swap, "writes": frozenset({"parameters"})}
    train(
        model, batches(2), squares, sgd(model), epochs=1, experiment=place,
        hooks=[doubled, checkpoint(keep_best=("val/loss", "min"))], evaluations=[Evaluation("val", batches(1))],
    )  # fmt: skip
    other = bare()
    load_weights(other, place, "best")
    for one, trained in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, trained * 2.0)


def test_pictures_of_gradients_take_patterns_of_bare_names(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model = compiled_whole()
    train(model, batches(2), squares, sgd(model), epochs=1, hooks=grad_histogram(tmp_path, "1.*"))
    assert [one.name for one in tmp_path.iterdir()] == ["epoch-0000.png"]
