"""The events are declared once: everything that lists them says the same, in the same order."""

import collections.abc
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Never, get_args, get_origin, get_type_hints

import pytest
from attrs import fields
from torch import Tensor

from trainhooks import (
    EVENTS,
    AfterBackward,
    BatchBegin,
    BatchEnd,
    BatchPrediction,
    CheckpointSaved,
    EndEpoch,
    EpochBegin,
    EpochEnd,
    Evaluate,
    EvaluationBegin,
    EvaluationEnd,
    Gradients,
    GradientsReady,
    HookDict,
    HookObject,
    LossReady,
    OptimizerStepped,
    ProcessStart,
    Rates,
    RatesDue,
    Record,
    Recorded,
    Registration,
    Save,
    SkipBatch,
    SkipUpdate,
    Slots,
    StatefulSlots,
    Stop,
    TrainBegin,
    TrainEnd,
)
from trainhooks.core import Unit
from trainhooks.loop import Heard

STEER = (Stop, EndEpoch, Evaluate, Save, Record)
DECLARED: list[tuple[str, type, tuple[type, ...]]] = [
    ("on_train_loop_registration", Registration, ()),
    ("on_multiprocess_start", ProcessStart, ()),
    ("around_train", TrainBegin, ()),
    ("on_train_begin", TrainBegin, STEER),
    ("around_epoch", EpochBegin, ()),
    ("on_epoch_begin", EpochBegin, STEER),
    ("on_batch_begin", BatchBegin, (*STEER, SkipBatch)),
    ("transform_batch", BatchBegin, ()),
    ("transform_rates", RatesDue, ()),
    ("transform_loss", LossReady, ()),
    ("on_after_backward", AfterBackward, STEER),
    ("on_after_gradient_update", GradientsReady, (*STEER, SkipUpdate)),
    ("transform_gradients", GradientsReady, ()),
    ("on_after_optimizer_step", OptimizerStepped, STEER),
    ("on_batch_end", BatchEnd, STEER),
    ("around_evaluation", EvaluationBegin, ()),
    ("on_evaluation_begin", EvaluationBegin, (Record,)),
    ("on_after_batch_prediction", BatchPrediction, (Record,)),
    ("transform_metrics", EvaluationEnd, ()),
    ("on_evaluation_end", EvaluationEnd, STEER),
    ("on_epoch_end", EpochEnd, STEER),
    ("on_record", Recorded, ()),
    ("on_checkpoint_saved", CheckpointSaved, (Record,)),
    ("on_train_end", TrainEnd, ()),
]
NAMES = [name for name, _, _ in DECLARED]
CONTEXTS = {name: context for name, context, _ in DECLARED}
EPOCHS: frozenset[Unit] = frozenset({"epochs"})
ALL_UNITS: frozenset[Unit] = frozenset({"updates", "batches", "epochs"})


def bare(annotation: Any) -> Any:
    """A context without its type arguments."""
    return get_origin(annotation) or annotation


def members(annotation: Any) -> Iterator[Any]:
    """The parts of a union, looking through aliases."""
    value = getattr(annotation, "__value__", None)
    if isinstance(annotation, type) or (value is None and not hasattr(annotation, "__args__")):
        yield annotation
    else:
        for one in get_args(annotation) or get_args(value):
            yield from members(one)


def test_the_events_are_those_of_the_design_with_their_contexts_and_answers() -> None:
    assert [(spec.name, spec.context, spec.answers) for spec in EVENTS.values()] == DECLARED
    assert list(EVENTS) == NAMES
    assert [spec.kind for spec in EVENTS.values()] == [name.partition("_")[0] for name in NAMES]


def test_the_events_cannot_be_changed() -> None:
    events: Any = EVENTS
    with pytest.raises(TypeError, match="does not support item assignment"):
        events["on_tea"] = EVENTS["on_batch_end"]


def test_the_slots_are_the_events() -> None:
    hints = get_type_hints(Slots)
    assert list(hints) == NAMES
    assert not Slots.__required_keys__
    for name, hint in hints.items():
        if name.startswith("on_"):
            context, answers = get_args(hint)
            taken = tuple(one for one in members(answers) if one is not Never)
            assert taken == EVENTS[name].answers, name
        else:
            (function,) = get_args(hint)
            parameters, returned = get_args(function)
            context = parameters[0]
            values = parameters[1:]
            assert values == [] if EVENTS[name].kind == "around" else values == [returned], name
        assert bare(context) is CONTEXTS[name], name


def test_a_dict_of_hooks_has_every_slot_and_the_keys_of_a_set() -> None:
    keys = {
        "name", "order", "before", "after", "reads", "provides", "writes", "ranks", "devices", "may_skip", "collective",
        "governs", "when", "quarantined", "timed", "settings",
    }  # fmt: skip
    assert set(get_type_hints(HookDict)) == {*NAMES, *keys}


def test_the_slots_with_a_state_are_the_slots() -> None:
    hints, plain = get_type_hints(StatefulSlots), get_type_hints(Slots)
    assert list(hints) == NAMES
    for name, hint in hints.items():
        if name.startswith("on_"):
            _, context, answers = get_args(hint)
            assert (context, answers) == get_args(plain[name]), name
        else:
            function, nothing = get_args(hint)
            parameters, returned = get_args(function)
            of_plain, value = get_args(get_args(plain[name])[0])
            assert nothing is type(None), name
            assert parameters[:-1] == of_plain, name
            if EVENTS[name].kind == "around":
                assert returned == value, name
            else:
                assert get_args(returned) == (parameters[-1], value), name


def test_there_is_one_protocol_for_each_event() -> None:
    plain = get_type_hints(Slots)
    protocols = [bare(one) for one in get_args(HookObject.__value__)]
    methods = [name for one in protocols for name in EVENTS if name in vars(one)]
    assert methods == NAMES
    for protocol, name in zip(protocols, methods, strict=True):
        assert protocol.__name__ == "".join(word.capitalize() for word in name.split("_"))
        context, *values = list(get_type_hints(getattr(protocol, name)).values())
        assert bare(context) is CONTEXTS[name], name
        match EVENTS[name].kind:
            case "on":
                (answers,) = values
                assert get_args(answers) == (get_args(plain[name])[1],), name
            case "around":
                assert values == [AbstractContextManager[object]], name
            case "transform":
                value, returned = values
                assert value == returned, name


HEARD_TRANSFORMS = {
    "transform_batch": Any,
    "transform_rates": Rates,
    "transform_loss": Tensor,
    "transform_gradients": Gradients,
    "transform_metrics": Mapping[str, float],
}


def test_what_a_run_hears_are_the_events() -> None:
    hints = get_type_hints(Heard)
    assert [one.name for one in fields(Heard)] == NAMES
    for name, hint in hints.items():
        function, nothing = get_args(hint)
        parameters, returned = get_args(function)
        assert nothing is type(None), name
        assert get_origin(function) is collections.abc.Callable, name
        assert bare(parameters[0]) is CONTEXTS[name], name
        if EVENTS[name].kind == "transform":
            assert parameters[1:] == [returned] == [HEARD_TRANSFORMS[name]], name


NEVER_GATED = {Registration, ProcessStart, TrainBegin, TrainEnd}


@pytest.mark.parametrize("name", NAMES)
def test_a_trigger_gates_all_but_the_run_itself_and_an_epochs_begin_by_epochs_alone(name: str) -> None:
    """Keeps P85."""
    context = CONTEXTS[name]
    expected = frozenset[Unit]() if context in NEVER_GATED else EPOCHS if context is EpochBegin else ALL_UNITS
    assert EVENTS[name].gated_by == expected


def test_contexts_of_one_moment_have_one_class() -> None:
    by_context: dict[type, list[str]] = {}
    for name, context in CONTEXTS.items():
        by_context.setdefault(context, []).append(name)
    shared = [names for names in by_context.values() if len(names) > 1]
    assert shared == [
        ["around_train", "on_train_begin"],
        ["around_epoch", "on_epoch_begin"],
        ["on_batch_begin", "transform_batch"],
        ["on_after_gradient_update", "transform_gradients"],
        ["around_evaluation", "on_evaluation_begin"],
        ["transform_metrics", "on_evaluation_end"],
    ]


