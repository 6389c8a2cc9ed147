"""A run whose value is worse than a threshold for long enough ends."""

import math
from typing import Any, cast

import pytest

from tests.hooks.scripted import run, scores, scripted
from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import Evaluation, MissingValueError, Stopped, every, train
from trainhooks.errors import HookDefinitionError
from trainhooks.hooks.stopping import Streak, threshold_stopping

NAN = math.nan


@pytest.mark.parametrize(
    ("values", "patience", "epochs"),
    [
        ([1, 2, 3, 3, 3], 1, 5),  # a value equal to the threshold is good enough
        ([1, 2, 4, 3, 3], 1, 3),
        ([1, 2, 4, 3, 3], 0, 3),  # patience 0 means 1
        ([4, 4, 3, 4, 4, 4, 4], 3, 6),  # a good value starts the count anew
        ([NAN, 1, NAN, NAN, 1], 2, 4),  # NaN is worse than any threshold
        ([-math.inf, math.inf, 1], 1, 2),
        ([4, None, None, 4, 4], 2, 4),  # an epoch without a value does not count
        ([4, None, None, 1, 4], 2, 5),
    ],
)
def test_it_stops_at_so_many_values_in_a_row_that_are_worse(
    values: list[float | None], patience: int, epochs: int
) -> None:
    greater = [None if value is None else -value for value in values]
    smaller_is_better = threshold_stopping("score", mode="min", divergence_threshold=3, patience=patience)
    greater_is_better = threshold_stopping("score", mode="max", divergence_threshold=-3, patience=patience)
    assert run([scripted(values), smaller_is_better], len(values)).at.epochs == epochs
    assert run([scripted(greater), greater_is_better], len(values)).at.epochs == epochs


def test_the_end_says_which_value_was_worse_than_what() -> None:
    hook = threshold_stopping("score", mode="min", divergence_threshold=3.5, patience=2)
    result = run([scripted([1, 4, 4.25]), hook])
    reason = "score is 4.25, worse than the threshold 3.5 for 2 values"
    assert result.end == Stopped(reason, ("threshold_stopping",))
    assert result.hook_states["threshold_stopping"] == Streak(failures=2, judged=3)
    result = run([scripted([NAN]), threshold_stopping("score", mode="max", divergence_threshold=0.5)])
    assert result.end == Stopped("score is nan, worse than the threshold 0.5 for 1 value", ("threshold_stopping",))


def test_a_value_of_an_evaluation_is_judged_once_also_in_a_run_without_epochs() -> None:
    evaluation = Evaluation("val", batches(1), metrics=scores(9, 9, 1, 9, 9, 9), when=every(3, "updates"))
    model = linear()
    result = train(
        model, batches(3), squares, sgd(model), max_updates=90, evaluations=[evaluation],
        hooks=threshold_stopping("val/score", mode="min", divergence_threshold=2.0, patience=3),
    )  # fmt: skip
    assert result.at.updates == 18
    assert isinstance(result.end, Stopped)


def test_a_set_of_hooks_is_as_new_in_a_second_run() -> None:
    """Keeps P12."""
    hook = threshold_stopping("score", mode="min", divergence_threshold=2.0, patience=2)
    assert [run([scripted([5, 1, 5, 5, 5]), hook]).at.epochs for _ in range(2)] == [4, 4]


def test_a_value_that_nothing_provides_is_refused() -> None:
    """Keeps P03."""
    with pytest.raises(MissingValueError, match=r"'threshold_stopping' reads 'val/acc'"):
        run([threshold_stopping("val/acc", mode="max", divergence_threshold=0.5)])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"mode": "auto"}, r"threshold_stopping\('score'\) takes mode='min' if smaller is better, .*got 'auto'"),
        ({"patience": -1}, "threshold_stopping takes patience as a whole number from 0 on, got -1"),
        ({"divergence_threshold": NAN}, "takes divergence_threshold as a finite number, got nan"),
        ({"divergence_threshold": math.inf}, "takes divergence_threshold as a finite number, got inf"),
        ({"divergence_threshold": True}, "takes divergence_threshold as a finite number, got True"),
        ({"monitor": ""}, "threshold_stopping watches one value by its name, such as 'val/loss', got ''"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HookDefinitionError, match=sentence):
        cast("Any", threshold_stopping)(**{"monitor": "score", "mode": "min", "divergence_threshold": 1.0, **arguments})
