"""Contexts hold what is valid at one moment: they are immutable, and compare by identity."""

from typing import Any, get_type_hints

import pytest
import torch
from attrs import fields
from attrs.exceptions import FrozenInstanceError

from tests.core.places import place
from trainhooks import EVENTS, GradientsReady, HookDefinitionError, MissingValueError, Progress, Rank, Run, Values

FIELDS: dict[str, str] = {
    "Registration": "",
    "ProcessStart": "rank restart_count",
    "TrainBegin": "resumed",
    "EpochBegin": "batches",
    "BatchBegin": "batch closes_window",
    "RatesDue": "optimizer_idx",
    "LossReady": "batch output weight optimizer_idx closes_window",
    "AfterBackward": "loss optimizer_idx closes_window",
    "GradientsReady": "since batches optimizer_idx parameters names gradients untouched _norms _left _quick",
    "OptimizerStepped": "since batches optimizer_idx stepped",
    "BatchEnd": "batch output loss losses weight updated closes_window",
    "EvaluationBegin": "since name",
    "BatchPrediction": "since name index batch y_pred y_test metadata dataset_info",
    "EvaluationEnd": "since name metrics",
    "EpochEnd": "since metrics",
    "Recorded": "since by values _until",
    "CheckpointSaved": "since step tags",
    "TrainEnd": "end",
}


def test_a_context_holds_the_run_its_progress_and_what_is_valid_then() -> None:
    contexts = {spec.context.__name__: spec.context for spec in EVENTS.values()}
    assert {name: " ".join(one.name for one in fields(context)) for name, context in contexts.items()} == {
        name: f"run at {rest}".strip() for name, rest in FIELDS.items()
    }
    for context in contexts.values():
        hints = get_type_hints(context)
        assert (hints["run"], hints["at"]) == (Run, Progress)
        assert all(one.kw_only for one in fields(context) if one.init)


@pytest.mark.parametrize("event", EVENTS)
def test_a_context_cannot_be_changed_and_is_equal_to_itself_alone(event: str) -> None:
    one, other = place(event), place(event)
    context: Any = EVENTS[event].context
    for field in fields(context):
        with pytest.raises(FrozenInstanceError):
            setattr(one, field.name, None)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        one.novel = 1
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2


@pytest.mark.parametrize("event", EVENTS)
def test_a_context_is_final(event: str) -> None:
    assert getattr(EVENTS[event].context, "__final__", False)


def ready(**given: Any) -> GradientsReady:
    made: GradientsReady = place("on_after_gradient_update", **given)
    return made


def test_the_norm_of_the_gradients_is_computed_when_first_read_and_then_kept() -> None:
    gradients = (torch.tensor([3.0]), torch.tensor([[4.0]]))
    ctx = ready(gradients=gradients)
    gradients[0].mul_(2)
    first = ctx.grad_norm
    gradients[0].zero_()
    assert first.item() == pytest.approx(52**0.5)
    assert first.shape == ()
    assert ctx.grad_norm is first
    assert ctx.after_a_transform().grad_norm is first


def test_a_norm_that_was_not_read_before_the_first_transform_is_refused_after_it() -> None:
    later = ready(gradients=(torch.ones(2),)).after_a_transform()
    assert not later.untouched
    with pytest.raises(HookDefinitionError) as caught:
        _ = later.grad_norm
    assert str(caught.value) == (
        "ctx.grad_norm is the norm before any transform, and it was not read then; measure the value that you were "
        "given: torch.nn.utils.get_total_norm(gradients)."
    )


def test_progress_and_rank_are_values_that_start_at_nothing() -> None:
    assert Progress() == Progress(updates=0, batches=0, epochs=0, epoch=0, batch=0)
    assert hash(Progress(updates=1)) == hash(Progress(updates=1))
    assert Progress(updates=1) != Progress(batches=1)
    assert str(Progress(updates=12, batches=30, epoch=2, batch=5)) == "update 12, batch 5 of epoch 2"
    progress: Any = Progress()
    assert Rank() == Rank(index=0, world=1, local_index=0, local_world=1)
    with pytest.raises(FrozenInstanceError):
        progress.updates = 1


def test_values_are_a_mapping_that_knows_how_new_they_are() -> None:
    values = Values({"val/loss": 0.5, "gap": 0.25}, {"val/loss": 3, "gone": 2})
    untyped: Any = values
    assert dict(values) == {"val/loss": 0.5, "gap": 0.25}
    assert (len(values), list(values), "gap" in values, "gone" in values) == (2, ["val/loss", "gap"], True, False)
    assert repr(values) == "{'val/loss': 0.5, 'gap': 0.25}"
    assert values.get("gone") is None
    sentence = r"^There is no value 'gone' here. The names that exist: gap, val/loss\. Of what other hooks recorded"
    with pytest.raises(MissingValueError, match=sentence) as caught:
        _ = values["gone"]
    assert isinstance(caught.value, KeyError)
    assert (caught.value.name, caught.value.known) == ("gone", ("gap", "val/loss"))
    with pytest.raises(MissingValueError, match=r"The names that exist: none\."):
        _ = Values({}, {})["gone"]
    assert [values.recorded(name) for name in ("val/loss", "gap", "gone", "never")] == [3, 1, 2, 0]
    with pytest.raises(FrozenInstanceError):
        untyped.newest = {}
