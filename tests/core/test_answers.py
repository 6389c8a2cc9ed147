"""Many answers become one decision."""

from collections.abc import Callable
from itertools import permutations

import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from trainhooks import Answer, EndEpoch, Evaluate, Record, Save, SkipBatch, SkipUpdate, Stop, Stopped
from trainhooks.core import Asked, Decision, decide


def test_nothing_asked_is_nothing_decided() -> None:
    assert decide([]) == Decision(stop=None, end_epoch=False, evaluate=(), save=None)


def test_the_first_stop_gives_the_reason_and_all_who_asked_are_named_once() -> None:
    stops = [Asked("b", Stop("first")), Asked("c", Stop("second")), Asked("b", Stop("third"))]
    decision = decide([Asked("a", EndEpoch("x")), *stops])
    assert decision.stop == Stopped("first", ("b", "c"))
    assert decision.end_epoch


def test_evaluations_come_once_in_the_order_first_asked() -> None:
    names = ["test", "val", "test", "extra", "val"]
    assert decide([Asked("a", Evaluate(name)) for name in names]).evaluate == ("test", "val", "extra")


def test_all_tags_stand_on_one_save() -> None:
    assert decide([Asked("a", Save()), Asked("b", Save("")), Asked("c", Save())]).save == ()
    tags = [Save("best"), Save(), Save("last"), Save("best")]
    assert decide([Asked("a", save) for save in tags]).save == ("best", "last")


def test_answers_that_act_at_once_decide_nothing() -> None:
    answers: list[Answer] = [SkipBatch("a"), SkipUpdate("b"), Record({"x": 1.0})]
    assert decide([Asked("a", answer) for answer in answers]) == Decision()


def test_answers_of_different_kinds_do_not_depend_on_one_anothers_place() -> None:
    asked = [Asked("a", Stop("s")), Asked("b", EndEpoch("e")), Asked("c", Evaluate("val")), Asked("d", Save("t"))]
    expected = Decision(stop=Stopped("s", ("a",)), end_epoch=True, evaluate=("val",), save=("t",), savers=("d",))
    assert {decide(order) for order in permutations(asked)} == {expected}


ANSWERS = st.one_of(
    st.builds(Stop, st.sampled_from("xy")),
    st.builds(EndEpoch, st.sampled_from("xy")),
    st.builds(Evaluate, st.sampled_from(["val", "test"])),
    st.builds(Save, st.sampled_from(["", "best", "last"])),
    st.builds(SkipBatch, st.just("x")),
)
ASKED = st.lists(st.builds(Asked, st.sampled_from("abc"), ANSWERS), max_size=8)


@given(ASKED)
def test_a_decision_holds_what_was_asked_for_and_nothing_else(asked: list[Asked]) -> None:
    decision = decide(asked)
    stoppers = [(one.by, one.answer.reason) for one in asked if isinstance(one.answer, Stop)]
    assert (decision.stop is None) == (not stoppers)
    if decision.stop is not None:
        assert decision.stop.reason == stoppers[0][1]
        assert sorted(decision.stop.by) == sorted({by for by, _ in stoppers})
        assert decision.stop.by[0] == stoppers[0][0]
    assert decision.end_epoch == any(isinstance(one.answer, EndEpoch) for one in asked)
    assert sorted(decision.evaluate) == sorted({one.answer.name for one in asked if isinstance(one.answer, Evaluate)})
    saves = [one.answer.tag for one in asked if isinstance(one.answer, Save)]
    assert (decision.save is None) == (not saves)
    assert sorted(decision.save or ()) == sorted(set(saves) - {""})
    assert sorted(decision.savers) == sorted({one.by for one in asked if isinstance(one.answer, Save)})


@pytest.mark.parametrize("kind", [Stop, EndEpoch, Evaluate, Save, SkipBatch, SkipUpdate])
def test_answers_are_values_that_cannot_be_changed(kind: Callable[[str], object]) -> None:
    answer = kind("a")
    assert answer == kind("a")
    assert hash(answer) == hash(kind("a"))
    assert answer != kind("b")
    for name in type(answer).__annotations__:
        with pytest.raises(FrozenInstanceError):
            setattr(answer, name, "b")
