"""Train and eval modes: the user's stay, overrides of `train` act, and whoever leaves others behind is named."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, linear, sgd, squares
from trainhooks import (
    BatchBegin,
    EpochEnd,
    Evaluation,
    EvaluationBegin,
    HookDict,
    HookSet,
    MutationError,
    ProcessStart,
    Registration,
    Slots,
    StepOutput,
    TrainBegin,
    evaluate,
    every,
    predict,
    train,
)
from trainhooks.loop import named_modules

Modes = dict[str, bool]


class Network(nn.Module):
    """A backbone with an adapter within it, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"norm": nn.BatchNorm1d(3), "adapter": nn.Linear(3, 3)})
        self.head = nn.Sequential(nn.Dropout(0.0), nn.Linear(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.backbone["adapter"](self.backbone["norm"](x)))
        return out


def modes(model: nn.Module) -> Modes:
    return {name: module.training for name, module in named_modules(model)}


def in_eval(model: nn.Module) -> set[str]:
    return {name for name, training in modes(model).items() if not training}


def trained(model: nn.Module, hooks: Any = (), **more: Any) -> set[str]:
    """Train, and give the names of the modules that were in eval mode in the last batch."""
    seen = list[set[str]]()

    def look(ctx: BatchBegin) -> None:
        seen.append(in_eval(ctx.run.model))

    looking: HookDict = {"name": "looking", "on_batch_begin": look}
    more = {"epochs": 2, "evaluations": [Evaluation("val", batches(1), when=every(1, "updates"))], **more}
    train(model, batches(2), squares, sgd(model), hooks=[hooks, looking], **more)
    return seen[-1]


def put(*names: str) -> Callable[[nn.Module], object]:
    def change(model: nn.Module) -> None:
        for name in names:
            model.get_submodule(name).eval()

    return change


def backbone_without_its_adapter(model: nn.Module) -> None:
    put("backbone")(model)
    model.get_submodule("backbone.adapter").train()


BACKBONE = {"backbone", "backbone.norm", "backbone.adapter"}
KEPT: list[tuple[Callable[[nn.Module], object], set[str], str]] = [
    (put("backbone"), BACKBONE, "'backbone'"),
    (put("backbone.norm"), {"backbone.norm"}, "'backbone.norm'"),
    (put("backbone.norm", "head.0"), {"backbone.norm", "head.0"}, "'backbone.norm', 'head.0'"),
    (backbone_without_its_adapter, {"backbone", "backbone.norm"}, "'backbone'"),
]


@pytest.mark.parametrize("specialised", [True, False])
@pytest.mark.parametrize(("change", "stay", "named"), KEPT)
def test_modules_that_were_put_in_eval_mode_stay_so_and_the_topmost_are_named(
    change: Callable[[nn.Module], object], stay: set[str], named: str, specialised: bool
) -> None:
    """Keeps P55. The first part of P93."""
    model = Network()
    change(model)
    before, statistics = modes(model), model.get_buffer("backbone.norm.running_mean").clone()
    sentence = rf"stay so: {named}\. from_pretrained gives models in eval; call model\.train\(\) first"
    with pytest.warns(RuntimeWarning, match=sentence):
        assert trained(model, specialised=specialised) == stay
    assert modes(model) == before
    assert torch.equal(statistics, model.get_buffer("backbone.norm.running_mean"))


@pytest.mark.parametrize("names", [[""], ["backbone", "head"], []])
def test_a_model_that_was_in_eval_mode_as_a_whole_trains_as_a_whole(names: list[str]) -> None:
    model = Network()
    put(*names)(model)
    before = modes(model)
    assert trained(model) == set()
    assert modes(model) == before


def test_a_root_in_eval_mode_trains_with_all_that_is_in_it() -> None:
    model = Network().eval()
    model.head.train()
    before = modes(model)
    assert trained(model) == set()
    assert modes(model) == before


def test_many_modules_in_eval_mode_are_counted_beyond_the_first_ten() -> None:
    model = nn.Sequential(nn.Linear(3, 2), *(nn.Dropout(0.0) for _ in range(12)))
    put(*(str(place) for place in range(1, 13)))(model)
    with pytest.warns(RuntimeWarning, match=r"'1', '2', .*'10' and 2 more\. from_pretrained"):
        assert len(trained(model)) == 12


def test_a_module_that_is_there_twice_has_one_mode() -> None:
    shared = nn.Dropout(0.0).eval()
    model = nn.Sequential(shared, nn.Linear(3, 2), shared)
    with pytest.warns(RuntimeWarning, match=r"stay so: '0'\. from"):
        assert trained(model) == {"0"}
    assert modes(model) == {"": True, "0": False, "1": True}


def test_modules_that_a_hook_of_the_start_put_in_eval_mode_stay_so() -> None:
    """The first part of P93."""

    def freeze(ctx: Registration | ProcessStart) -> None:
        ctx.run.model.get_submodule("backbone.norm").eval()

    with pytest.warns(RuntimeWarning, match="'backbone.norm'"):
        assert trained(Network(), {"on_train_loop_registration": freeze}) == {"backbone.norm"}

    def later(ctx: TrainBegin) -> None:
        ctx.run.model.get_submodule("backbone.norm").eval()

    model = Network()
    hooks = HookSet(name="later", writes=frozenset({"modes"}), on_train_begin=later)
    assert trained(model, hooks, guard=True) == {"backbone.norm"}
    assert in_eval(model) == set()


def test_a_module_that_a_hook_adds_keeps_its_mode_over_evaluations() -> None:
    def add(ctx: TrainBegin) -> None:
        ctx.run.model.add_module("extra", nn.Dropout(0.5).eval())

    model = Network()
    assert trained(model, {"on_train_begin": add}) == {"extra"}
    assert in_eval(model) == {"extra"}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_scripted_model_has_modes_too() -> None:
    scripted = cast("nn.Module", torch.jit.script(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))))
    next(scripted.children()).eval()
    with pytest.warns(RuntimeWarning, match=r"stay so: '0'\."):
        assert trained(scripted) == {"0"}
    assert in_eval(scripted) == {"0"}


def test_a_compiled_model_is_judged_by_the_module_in_it() -> None:
    model = torch.compile(Network(), backend="eager")
    assert isinstance(model, nn.Module)
    put("_orig_mod.backbone", "_orig_mod.head")(model)
    assert trained(model) == set(), "all in it was in eval mode"
    model.get_submodule("_orig_mod.head").train()
    with pytest.warns(RuntimeWarning, match=r"stay so: 'backbone'\. from"):
        assert trained(model) == {f"_orig_mod.{name}" for name in BACKBONE}


class Overriding(Network):
    """The well-known way to keep batch norm fixed."""

    def train(self, mode: bool = True) -> "Overriding":
        super().train(mode)
        self.backbone["norm"].eval()
        return self


class Frozen(Overriding):
    """One whose `train` gives nothing back."""

    def train(self, mode: bool = True) -> Any:
        super().train(mode)


class NeverTrains(Network):
    def train(self, mode: bool = True) -> "NeverTrains":
        super().train(False)
        return self


@pytest.mark.parametrize("make", [Overriding, Frozen])
def test_an_override_of_train_acts_and_is_left_alone(make: Callable[[], Network]) -> None:
    """The first part of P93: nothing is said, as the model itself decides."""
    fresh, begun = make(), make()
    assert in_eval(fresh) == set()
    assert trained(fresh) == {"backbone.norm"}
    begun.train()
    assert trained(begun) == {"backbone.norm"}
    assert in_eval(begun) == {"backbone.norm"}
    assert trained(NeverTrains()) == set(modes(Network()))


class Merging(nn.Linear):
    """As low-rank adapters do: in eval mode its weight holds what it adds in train mode."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.merged = False

    def train(self, mode: bool = True) -> "Merging":
        self.merged = not mode
        return super().train(mode)

    def forward(self, input: Tensor) -> Tensor:
        assert self.merged is not self.training
        return super().forward(input)


def test_an_override_in_the_model_acts_around_evaluations_too() -> None:
    model = nn.Sequential(nn.Dropout(0.0), Merging())
    assert trained(model) == set()
    evaluate(model, batches(1), squares)
    for _ in predict(model, batches(1), lambda model, batch: (model(batch[0]), batch[1], None)):
        assert not model[1].merged  # between two batches it is the caller's
    assert not model[1].merged
    model[1].eval()
    with pytest.warns(RuntimeWarning, match="'1'"):
        assert trained(model) == {"1"}
    assert model[1].merged


def test_modes_come_back_though_an_override_fails() -> None:
    class Failing(nn.Linear):
        def train(self, mode: bool = True) -> "Failing":
            if mode:
                raise ValueError("cannot")
            return super().train(mode)

    model = nn.Sequential(nn.Dropout(0.0), Failing(3, 2))
    with pytest.raises(ValueError, match="cannot"):
        evaluate(model, batches(1), squares)
    assert in_eval(model) == set()


def leave(name: str = "") -> Callable[[Any], None]:
    def meddle(ctx: Any) -> None:
        module = cast("nn.Module", ctx.run.model).get_submodule(name)
        module.train(not module.training)

    return meddle


EVENTS = [
    "on_train_loop_registration", "on_train_begin", "on_epoch_begin", "on_batch_begin", "on_after_backward",
    "on_after_optimizer_step", "on_batch_end", "on_evaluation_begin", "on_after_batch_prediction", "on_evaluation_end",
    "on_epoch_end", "on_train_end",
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
def test_in_guard_mode_a_hook_that_leaves_another_mode_is_named(event: str) -> None:
    """Keeps P68."""
    meddler = {"name": "meddler", event: leave("head.0")}
    cure = r"declare it, writes=frozenset\(\{'modes'\}\), or leave it as it is"
    sentence = rf"'meddler' changed the mode \(train or eval\) of 'head\.0' in place on {event}, .*; {cure}"
    with pytest.raises(MutationError, match=sentence):
        trained(Network(), meddler, guard=True)


def test_in_guard_mode_a_hook_may_look_in_eval_mode_and_put_it_back_or_declare_that_it_does_not() -> None:
    """Keeps P68."""

    def look(ctx: EpochEnd) -> None:
        ctx.run.model.eval()
        ctx.run.model(batches(1)[0][0])
        ctx.run.model.train()

    assert trained(linear(), {"on_epoch_end": look}, guard=True) == set()
    declared = HookSet(name="x", writes=frozenset({"modes"}), **cast("Slots", {"on_epoch_end": leave("head.0")}))
    assert trained(Network(), declared, guard=True) == {"head.0"}

    @contextmanager
    def around(ctx: EvaluationBegin) -> Generator[None]:
        ctx.run.model.train()  # as for dropout at prediction time
        yield
        ctx.run.model.eval()

    with pytest.raises(MutationError, match=r"'around' changed the mode .* of the model in place on around_evaluation"):
        trained(Network(), {"name": "around", "around_evaluation": around}, guard=True)
    assert trained(Network(), {"around_evaluation": around, "writes": frozenset({"modes"})}, guard=True) == set()


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_end"])
def test_an_epoch_that_begins_in_eval_mode_is_told_once(event: str) -> None:
    def forget(ctx: TrainBegin | EpochEnd) -> None:
        ctx.run.model.eval()

    epoch = 0 if event == "on_train_begin" else 1
    sentence = rf"in eval mode as epoch {epoch} begins.*guard=True\) names a hook"
    with pytest.warns(RuntimeWarning, match=sentence) as told:
        trained(Network(), {event: forget}, epochs=4)
    assert len(told) == 1


def test_a_step_that_leaves_eval_mode_is_told_too() -> None:
    def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
        model.eval()
        return squares(model, batch)

    model = linear()
    with pytest.warns(RuntimeWarning, match="in eval mode as epoch 1 begins"):
        train(model, batches(2), step, sgd(model), epochs=2)
    assert model.training
