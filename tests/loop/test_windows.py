"""What the batches of a window weigh: numbers and tensors, nothing and very much, in every precision."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode

from tests.loop.programs import Batch, batches, equal, gradients, linear, mean_loss, sgd, weights
from trainhooks import (
    Evaluation,
    GradientsReady,
    HookDict,
    Objective,
    OptimizerStepped,
    StepOutput,
    train,
)
from trainhooks.loop.means import Mean
from trainhooks.loop.windows import Window

Precision: TypeAlias = Literal["float32", "bf16-mixed", "fp16-mixed"]
Form: TypeAlias = Callable[[float], float | Tensor]

FORMS: Final[Mapping[str, Form]] = {
    "int": int,
    "float": float,
    "float32": torch.tensor,
    "float64": lambda size: torch.tensor(size, dtype=torch.float64),
    "int64": lambda size: torch.tensor(int(size)),
    "needs grad": lambda size: torch.tensor(float(size), requires_grad=True),
}
every_form: Final = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)

forms: Final = st.sampled_from([*FORMS.values()])
sizes: Final = st.lists(st.sampled_from([0.0, 1.0, 3.0, 8.0, 4096.0, 100_000.0]), min_size=1, max_size=9)
windows: Final = st.integers(1, 8)

Sized: TypeAlias = tuple[Batch, float]


def sized(given: Sequence[float]) -> list[Sized]:
    """A batch for each size; what it holds does not depend on it."""
    return list(zip(batches(len(given)), given, strict=True))


def step_of(form: Form) -> Callable[[nn.Module, Sized], StepOutput[None]]:
    """A step that weighs its loss as the batch says; without items the loss is NaN where no tensor says so."""

    def step(model: nn.Module, batch: Sized) -> StepOutput[None]:
        data, size = batch
        weight, loss = form(size), mean_loss(model, data)
        if not size and not isinstance(weight, Tensor):
            loss = loss * math.nan
        return StepOutput(loss, weight=weight)

    return step


def seen_gradients(
    model: nn.Module, given: Sequence[float], form: Form, accumulate: int, precision: Precision = "float32"
) -> list[tuple[list[Tensor], bool]]:
    """The final gradients of each window, and whether it was an update; the weights of the model stay as they are."""
    seen: list[list[Tensor]] = []
    stepped: list[bool] = []

    def look(ctx: GradientsReady) -> None:
        seen.append([one.double() for one in ctx.gradients])

    def note(ctx: OptimizerStepped) -> None:
        stepped.append(ctx.stepped)

    hooks: HookDict = {"on_after_gradient_update": look, "on_after_optimizer_step": note}
    train(
        model, sized(given), step_of(form), SGD(model.parameters(), 0.0), epochs=1, accumulate=accumulate,
        precision=precision, hooks=hooks,
    )  # fmt: skip
    return list(zip(seen, stepped, strict=True))


def by_hand(model: nn.Module, given: Sequence[float], accumulate: int) -> list[list[Tensor]]:
    """The gradient of the mean over all items of each window, in float64; zeros where there are none."""
    data, found = sized(given), list[list[Tensor]]()
    for start in range(0, len(data), accumulate):
        window = data[start : start + accumulate]
        total = sum(size for _, size in window)
        model.zero_grad()
        for (x, y), size in window:
            (mean_loss(model, (x.double(), y.double())) * (size / total if total else 0.0)).backward()
        found.append([one.clone() for one in gradients(model.parameters())])
    return found


@given(given=sizes, form=forms, accumulate=windows)
def test_the_gradient_is_that_of_the_mean_over_all_items_of_the_window(
    given: list[float], form: Form, accumulate: int
) -> None:
    """Keeps P47, P71. The last window may be short; one without items is no update, or has gradients of 0."""
    wanted = by_hand(linear().double(), given, accumulate)
    for (found, stepped), expected in zip(seen_gradients(linear(), given, form, accumulate), wanted, strict=True):
        if stepped or found:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert stepped or not any(one.any() for one in expected)


@given(size=st.sampled_from([1.0, 0.1, 3.0, 7.0, 100_000.0]), form=forms, accumulate=windows, turns=st.integers(1, 2))
def test_equal_weights_of_whole_windows_are_bit_equal_to_dividing_the_loss(
    size: float, form: Form, accumulate: int, turns: int
) -> None:
    """Keeps P71. Whatever the weight is, and in whatever form."""
    size = size if form(0.1) else max(size, 1.0)  # a whole number
    given = [size] * (accumulate * turns)
    ours, theirs = linear(), linear()
    train(ours, sized(given), step_of(form), sgd(ours), epochs=1, accumulate=accumulate)
    optimizer = sgd(theirs)
    for place, (batch, _) in enumerate(sized(given), start=1):
        (mean_loss(theirs, batch) / accumulate).backward()
        if place % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    assert equal(weights(ours), weights(theirs))


@given(given=sizes, form=forms, accumulate=windows, precision=st.sampled_from(["bf16-mixed", "fp16-mixed"]))
def test_mixed_precision_weighs_alike(given: list[float], form: Form, accumulate: int, precision: Precision) -> None:
    wanted = by_hand(linear().double(), given, accumulate)
    seen = seen_gradients(linear(), given, form, accumulate, precision)
    for (found, stepped), expected in zip(seen, wanted, strict=True):
        if stepped:  # in fp16 the first scales are too large
            torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@given(given=sizes, form=forms, accumulate=windows)
def test_a_float16_model_has_finite_gradients_that_weigh_alike(
    given: list[float], form: Form, accumulate: int
) -> None:
    """P88 in one process. The loss is float16, so neither it nor a gradient may be multiplied by a weight."""
    wanted = by_hand(linear().double(), given, accumulate)

    def half(model: nn.Module, batch: Sized) -> StepOutput[None]:
        (x, y), size = batch
        return step_of(form)(model, ((x.half(), y.half()), size))

    seen: list[list[Tensor]] = []

    def look(ctx: GradientsReady) -> None:
        seen.append([one.double() for one in ctx.gradients])

    model = linear().half()
    train(
        model, sized(given), half, SGD(model.parameters(), 0.0), epochs=1, accumulate=accumulate,
        hooks={"on_after_gradient_update": look},
    )  # fmt: skip
    for found, expected in zip(seen, wanted, strict=True):
        if found:
            torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def updates_by_hand(given: Sequence[float], accumulate: int) -> int:
    """Updates that the recipe of mixed precision makes where the share of each batch is known beforehand."""
    model, scaler, made, data = perceptron(), GradScaler("cpu"), 0, sized(given)
    optimizer = SGD(model.parameters(), 0.01)
    for start in range(0, len(data), accumulate):
        window = data[start : start + accumulate]
        total = sum(size for _, size in window)
        for batch, size in window if total else ():
            with torch.autocast("cpu", torch.float16):
                loss = mean_loss(model, batch)
            scaler.scale(loss * (size / total)).backward()
        if total:
            scaler.unscale_(optimizer)
            made += all(bool(one.isfinite().all()) for one in gradients(model.parameters()))
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    return made


@given(given=sizes.map(lambda one: one * 3), form=forms, accumulate=windows)
def test_fp16_loses_no_update_that_a_loop_by_hand_keeps(given: list[float], form: Form, accumulate: int) -> None:
    """P88 in one process."""
    model, stepped = perceptron(), list[bool]()

    def note(ctx: OptimizerStepped) -> None:
        stepped.append(ctx.stepped)

    result = train(
        model, sized(given), step_of(form), SGD(model.parameters(), 0.01), epochs=1, accumulate=accumulate,
        precision="fp16-mixed", hooks={"on_after_optimizer_step": note},
    )  # fmt: skip
    assert result.at.updates == stepped.count(True) >= updates_by_hand(given, accumulate)


@every_form
def test_a_batch_without_items_is_left_out_of_every_mean_whatever_its_loss(form: Form) -> None:
    """Also where the loss is NaN, and in the values and metrics of training and evaluations."""

    def step(model: nn.Module, batch: Sized) -> StepOutput[Tensor]:
        (x, _), size = batch
        shown = size or math.nan
        loss = (model(x) * 0.0).sum() + shown
        values: dict[str, float | Tensor] = {"number": shown, "tensor": torch.tensor(shown)}
        return StepOutput(loss, weight=form(size), output=torch.tensor(shown), values=values)

    def itself(output: Tensor, target: object) -> float:
        return output.item()

    model, data = linear(), sized([4.0, 0.0, 2.0])
    result = train(
        model, data, step, SGD(model.parameters(), 0.0), epochs=1,
        evaluations=[Evaluation("val", data, metrics={"itself": itself})],
    )  # fmt: skip
    mean = (4.0 * 4.0 + 2.0 * 2.0) / 6.0
    for name in ("train/loss", "train/number", "train/tensor", "val/loss", "val/itself"):
        assert result.metrics[name] == pytest.approx(mean), name


def test_a_mean_kept_on_a_device_leaves_out_what_weighs_nothing() -> None:
    """Values that are not on the CPU are summed where they are; those of the CPU stand in for them here."""
    values = [torch.tensor(one) for one in (4.0, math.nan, math.inf, 2.0)]
    mean = Mean([], [], None, values, [torch.tensor(4.0), torch.tensor(0), 0.0, 2.0])
    assert mean.read() == pytest.approx(20.0 / 6.0)


def test_a_number_0_goes_with_weights_that_are_tensors() -> None:
    """A step that knows that a batch is empty says so without a device."""
    model, other = linear(), linear()

    def step(model: nn.Module, batch: Sized) -> StepOutput[None]:
        return StepOutput(mean_loss(model, batch[0]), weight=torch.tensor(batch[1]) if batch[1] else 0)

    train(model, sized([0.0, 2.0, 0.0, 6.0]), step, sgd(model), epochs=1, accumulate=4)
    train(other, sized([0.0, 2.0, 0.0, 6.0]), step_of(torch.tensor), sgd(other), epochs=1, accumulate=4)
    torch.testing.assert_close(weights(model), weights(other), rtol=1e-6, atol=1e-6)


def test_objectives_weigh_each_window_on_their_own() -> None:
    def part(index: int, given: Mapping[int, float]) -> Objective:
        def step(model: nn.Module, batch: tuple[int, Batch]) -> StepOutput[None]:
            return StepOutput(mean_loss(model.get_submodule(str(index)), batch[1]), weight=given[batch[0]])

        return Objective(f"part{index}", step, sgd(model[index]))

    model = nn.ModuleList([linear(), linear()])
    data = list(enumerate(batches(2)))
    result = train(model, data, None, [part(0, {0: 1, 1: 3}), part(1, {0: 3, 1: 1})], epochs=1, accumulate=2)
    assert result.at.updates == 1
    for index, shares in enumerate(((0.25, 0.75), (0.75, 0.25))):
        theirs = linear()
        optimizer = sgd(theirs)
        for (_, batch), share in zip(data, shares, strict=True):
            (mean_loss(theirs, batch) * share).backward()
        optimizer.step()
        torch.testing.assert_close(weights(model[index]), weights(theirs), rtol=1e-6, atol=1e-6)


class NoReads(TorchDispatchMode):
    """Refuses what would wait for a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations

    def __torch_dispatch__(self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("halves", [False, True])
def test_weights_that_are_tensors_are_not_read(halves: bool) -> None:
    shrunk: list[float | Tensor] = []
    window = Window(mean_loss, 3, shrunk.append, halves)
    loss, given = torch.ones(()), [torch.tensor(one) for one in (0.0, 2.0, 8.0, 4.0)]
    with NoReads():
        starts = [window.weigh(loss, one) for one in given]
        factor = window.close()
    assert [float(one or 0.0) for one in starts] == pytest.approx(
        [0.0, 1 / 3, 1 / 3, 0.5 / 3] if halves else [0.0, 1 / 3, 4 / 3, 2 / 3]
    )
    assert [float(one) for one in shrunk] == ([0.0, 0.25, 1.0] if halves else [])
    assert factor is not None
    assert float(factor) == pytest.approx(3 / (1.75 if halves else 7.0))
