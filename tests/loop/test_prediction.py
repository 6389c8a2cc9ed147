"""Predictions come batch by batch, and between two of them everything is the caller's."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.loop.programs import Batch, Dice, batches, deep, equal, linear, squares
from trainhooks import (
    BatchPrediction,
    HookDefinitionError,
    HookDict,
    RunDefinitionError,
    predict,
)


def predicting(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, int]]:
    return cast("Tensor", model(batch[0])), batch[1], {"size": len(batch[1])}


def test_predict_hands_out_each_batch_with_its_place() -> None:
    model, heard = linear(), list[BatchPrediction]()
    hooks: HookDict = {"on_after_batch_prediction": heard.append}
    found = list(predict(model, batches(3), predicting, dataset_info="test set", hooks=hooks))
    assert found == heard
    assert [one.index for one in found] == [0, 1, 2]
    first = found[0]
    x, y = batches(1)[0]
    assert first.y_pred.equal(model(x))
    assert first.y_test is not None
    assert cast("Tensor", first.y_test).equal(y)
    assert (first.metadata, first.dataset_info, first.name) == ({"size": 4}, "test set", "prediction")
    assert not first.y_pred.requires_grad


def test_between_two_predictions_everything_is_the_callers() -> None:
    model = deep()
    model.train()
    torch.manual_seed(0)
    expected = [torch.rand(1).item() for _ in range(3)]
    torch.manual_seed(0)
    drawn: list[float] = []
    for _ in predict(model, Dice(), predicting):
        assert model.training
        assert torch.is_grad_enabled()
        drawn.append(torch.rand(1).item())
    assert drawn == expected[:2]


def test_the_random_streams_of_a_prediction_go_on_from_batch_to_batch() -> None:
    class Lazy:
        def __iter__(self) -> Iterator[Batch]:
            return ((torch.randn(1, 3), torch.randn(1, 2)) for _ in range(3))

    model = linear()
    torch.manual_seed(0)
    drawn = [one.batch[0] for one in predict(model, Lazy(), predicting)]
    torch.manual_seed(0)
    expected = [batch[0] for batch in Lazy()]
    assert equal(drawn, expected)


def test_a_predict_step_of_another_form_is_refused() -> None:
    with pytest.raises(HookDefinitionError, match=r"returns \(y_pred, y_test, metadata\), but '.*squares' returned"):
        list(predict(linear(), batches(1), cast("Any", squares)))


def test_predict_checks_its_arguments_when_called() -> None:
    with pytest.raises(RunDefinitionError, match="length 0"):
        predict(linear(), [], predicting)
    with pytest.raises(HookDefinitionError, match="'on_predict' is no event"):
        predict(linear(), batches(1), predicting, hooks=cast("Any", {"on_predict": print}))
