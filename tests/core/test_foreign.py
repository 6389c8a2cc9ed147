"""Whoever comes from another framework, or gives something else for a hook, is told what to write."""

from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

import trainhooks.hooks
from trainhooks import EVENTS, Evaluation, Experiment, HookDefinitionError, HookSet, Stop, compose, every
from trainhooks.core import foreign
from trainhooks.hooks import clip_grad_norm, cosine, early_stopping, warmup

ALL = ", ".join(EVENTS)


def hear(ctx: object) -> None: ...


def rising(update: int) -> float:
    return update / 10


def mine(loud: bool = False) -> HookSet:
    return HookSet(name="mine", on_batch_end=hear)


def of_a_package(package: str, name: str, *methods: str) -> Any:
    """An object of a class as that package has it."""
    base = type("Callback", (), {"__module__": f"{package}.callbacks", "on_train_end": hear, "on_after_backward": hear})
    kind = base if name == "Callback" else type(name, (base,), {"__module__": f"{package}.callbacks"})
    return type("Given", (kind,), {"__module__": "__main__", **dict.fromkeys(methods, hear)})()


def refusal(given: Any) -> str:
    with pytest.raises(HookDefinitionError) as caught:
        compose([given])
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("on_train_start", "here it is 'on_train_begin'."),
        ("on_epoch_start", "here it is 'on_epoch_begin'."),
        ("on_validation_end", "here it is 'on_evaluation_end'."),
        ("on_fit_end", "here it is 'on_train_end'."),
        ("on_step_end", "write 'on_batch_end' for each batch, or 'on_after_optimizer_step' for each update."),
        ("training_step", "it is the step that is given to train(model, data, step, ...)."),
        ("Events.EPOCH_COMPLETED", "here it is 'on_epoch_end'."),
        ("before_batch", "here it is 'on_batch_begin'."),
    ],
)
def test_another_frameworks_name_of_an_event_is_known(name: str, advice: str) -> None:
    """Keeps P06."""
    assert refusal({name: hear}) == f"{name!r} is no event; {advice} The events: {ALL}."


@pytest.mark.parametrize("name", [name for name in foreign.MEANT if name.startswith("on_")])
def test_a_method_with_another_frameworks_name_is_told_of_beside_methods_of_ours(name: str) -> None:
    """Keeps P06."""
    sentence = refusal(type("Mine", (), {"on_batch_end": hear, name: hear})())
    advice = foreign.advice_on(name)
    assert sentence.startswith(f"Mine.{name} is no event and would never be called; {advice}. Rename the method, or")


def test_an_object_with_other_names_alone_is_told_ours() -> None:
    assert refusal(type("Mine", (), {"before_fit": hear, "after_batch": hear, "other": hear})()) == (
        "Mine has no method named like an event; for after_batch, here it is 'on_batch_end'; for before_fit, here it "
        f"is 'on_train_begin'. The events: {ALL}."
    )


def test_each_name_of_another_framework_leads_to_an_event_or_to_a_sentence_about_one() -> None:
    for name, meant in foreign.MEANT.items():
        assert name not in EVENTS
        assert name == name.lower()
        assert meant in EVENTS or " " in meant, name


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (clip_grad_norm, "got the function clip_grad_norm; call it: clip_grad_norm(...)."),
        (early_stopping, "got the function early_stopping; call it: early_stopping(...)."),
        (mine, "got the function mine; call it: mine(...)."),
        (cosine, "got the function cosine; call it, and wrap it in a hook: lr_schedule(cosine(...))."),
        (rising, "got the function rising; wrap it in a hook: lr_schedule(rising)."),
        (hear, "got the function hear; say when: {'on_batch_end': hear}."),
        (
            cosine(10),
            "got no hook: cosine(updates=10) is a schedule; wrap it in a hook: lr_schedule(cosine(updates=10)).",
        ),
        (every(2, "epochs"), "got no hook: every(2, 'epochs') is a trigger; say what is due then: when(every(2, "),
        (Stop("enough"), "got no hook: Stop is an answer; return it from a hook: {'on_epoch_end': lambda ctx: Stop("),
        (nn.Linear(1, 1), "got no hook: Linear is a module; give the model to train(model, data, ...)."),
        (
            SGD([nn.Parameter(torch.zeros(1))], 0.1),
            "SGD is an optimizer; give it to train(model, data, step, optimizer",
        ),
        (
            DataLoader(TensorDataset(torch.zeros(1))),
            "DataLoader is data; give it to train(model, data, ...), or to an Evaluation(name, data).",
        ),
        (Experiment(project="p", name="n"), "Experiment goes into train(..., experiment=...)."),
        (Evaluation("val", [1]), "Evaluation goes into train(..., evaluations=[...])."),
        ({clip_grad_norm(1.0)}, "set is no sequence; give its hooks as a list."),
        (iter([clip_grad_norm(1.0)]), "list_iterator is no sequence; give its hooks as a list."),
        ({"clip": clip_grad_norm(1.0)}.values(), "dict_values is no sequence; give its hooks as a list."),
        (TensorDataset(torch.zeros(1)), "TensorDataset is data; give it to train"),
        (type("SummaryWriter", (), {})(), "SummaryWriter has no method of ours; write to it in a hook on 'on_record'"),
    ],
)
def test_what_is_no_hook_is_told_where_it_goes(given: Any, advice: str) -> None:
    assert refusal(given).startswith("hooks= got")
    assert advice in refusal(given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            clip_grad_norm(1.0),
            "the hook set clip_grad_norm(max_norm=1.0), which has its own events; put it into hooks=.",
        ),
        (clip_grad_norm, "clip_grad_norm, which makes a hook set; put clip_grad_norm(...) into hooks=."),
        (cosine(10), "the schedule cosine(updates=10); put lr_schedule(cosine(updates=10)) into hooks=."),
    ],
)
def test_a_hook_set_in_the_place_of_a_function_is_told_where_it_goes(given: Any, sentence: str) -> None:
    """Keeps P06."""
    for hooks in (given, [hear, given]):
        assert refusal({"on_batch_end": hooks}) == f"on_batch_end got {sentence}"


OPTIMIZER = SGD([nn.Parameter(torch.zeros(1))], 0.1)


@pytest.mark.parametrize("scheduler", [StepLR(OPTIMIZER, 3), ReduceLROnPlateau(OPTIMIZER)])
def test_a_scheduler_of_pytorch_is_told_to_be_made_by_a_function(scheduler: LRScheduler) -> None:
    name = type(scheduler).__name__
    wanted = f"{name} is made for one optimizer; write torch_scheduler(lambda optimizer: {name}(optimizer, ...))."
    assert refusal(scheduler) == f"hooks= got no hook: {wanted}"


@pytest.mark.parametrize(
    ("package", "framework"),
    [
        ("pytorch_lightning", "Lightning"),
        ("lightning.pytorch", "Lightning"),
        ("keras.src", "Keras"),
        ("transformers", "Transformers"),
        ("ignite.handlers", "Ignite"),
        ("fastai", "fastai"),
        ("composer", "Composer"),
    ],
)
def test_a_callback_of_another_framework_is_told_the_hook_for_the_same(package: str, framework: str) -> None:
    begin = f"hooks= got Given, which is written for {framework} and would be called in another way here; "
    assert refusal(of_a_package(package, "EarlyStopping")) == f"{begin}write trainhooks.hooks.early_stopping(...)."
    assert refusal(of_a_package(package, "Callback", "on_train_batch_end", "on_step_end")) == (
        f"{begin}for on_train_batch_end, here it is 'on_batch_end'; for on_step_end, write 'on_batch_end' for each "
        "batch, or 'on_after_optimizer_step' for each update."
    )
    assert refusal(of_a_package(package, "Callback")) == f"{begin}write it for our events."


def test_the_hooks_that_replace_other_callbacks_are_there() -> None:
    ours = set(cast("dict[str, str]", vars(foreign)["_OURS"]).values())
    assert ours <= set(trainhooks.hooks.__all__)


def test_a_metric_goes_into_an_evaluation() -> None:
    metric = type("Accuracy", (nn.Module,), {"__module__": "torchmetrics.classification"})()
    assert "Accuracy is a metric; give it to an Evaluation(name, data, metrics={'name': metric})." in refusal(metric)


def test_a_module_may_be_a_hook_object() -> None:
    class Model(nn.Linear):
        def on_epoch_end(self, ctx: object) -> None: ...

    assert [one.name for one in compose(Model(1, 1))] == [Model.__qualname__]
    assert warmup(1, rising)(0) == 0.0
