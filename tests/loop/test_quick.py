"""Every short cut gives bit-equal results, and is not taken where somebody would notice."""

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import CodeType, FrameType, MethodType
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from tests.loop.programs import batches, equal, gradients, linear, squares, weights
from trainhooks import train
from trainhooks.loop.quick import AVAILABLE, QUICK_CLIP, Quick, bare_step, clip_factor, scale

Maker = Callable[[nn.Module], Optimizer]
OPTIMIZERS: dict[str, Maker] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), 0.1),
    "fused": lambda model: torch.optim.AdamW(model.parameters(), 0.1, fused=True),
    "foreach": lambda model: torch.optim.Adam(model.parameters(), 0.1, foreach=True),
    "rmsprop": lambda model: torch.optim.RMSprop(model.parameters(), 0.01),
    "differentiable": lambda model: torch.optim.SGD(model.parameters(), 0.1, differentiable=False),
}


def by_hand(model: nn.Module, optimizer: Optimizer, count: int, epochs: int) -> None:
    for _ in range(epochs):
        for batch in batches(count):
            optimizer.zero_grad()
            squares(model, batch).loss.backward()
            optimizer.step()


def ready() -> tuple[nn.Linear, Optimizer, Quick]:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return model, optimizer, Quick(optimizer)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_weights_are_bit_equal_to_a_loop_written_by_hand(make: Maker) -> None:
    """Keeps P58, P71."""
    ours, theirs = linear(), linear()
    train(ours, batches(5), squares, make(ours), epochs=2)
    by_hand(theirs, make(theirs), 5, 2)
    assert equal(weights(ours), weights(theirs))


def test_the_private_names_are_there_in_the_torch_that_is_tested() -> None:
    assert AVAILABLE
    assert all(bare_step(make(linear())) is not None for make in OPTIMIZERS.values())


def test_without_the_private_names_every_call_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainhooks.loop.quick.AVAILABLE", False)
    ours, theirs = linear(), linear()
    train(ours, batches(3), squares, OPTIMIZERS["sgd"](ours), epochs=1)
    by_hand(theirs, OPTIMIZERS["sgd"](theirs), 3, 1)
    assert equal(weights(ours), weights(theirs))
    assert bare_step(OPTIMIZERS["sgd"](ours)) is None


def test_torch_schedulers_see_a_step_that_their_wrapper_was_left_out_of() -> None:
    model, optimizer, quick = ready()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    assert "step" in optimizer.__dict__
    squares(model, batches(1)[0]).loss.backward()
    decorated = torch.optim.SGD.step.__code__
    assert decorated in entered(optimizer.step)
    assert decorated not in entered(quick.step)
    scheduler.step()  # warns, and warnings are errors, if it did not see the step
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_a_step_put_on_the_instance_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps P58."""
    _, optimizer, quick = ready()
    calls: list[str] = []

    def step(self: Optimizer) -> None:
        calls.append("step")

    monkeypatch.setattr(optimizer, "step", MethodType(step, optimizer))
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # puts its own around it
    quick.step()
    assert calls == ["step"]


def test_a_step_put_on_the_class_within_a_run_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    _, optimizer, quick = ready()
    calls: list[Optimizer] = []

    def step(self: Optimizer) -> None:
        calls.append(self)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    quick.step()
    assert calls == [optimizer]


def noting(seen: list[Any], note: object) -> Callable[..., None]:
    def hook(*given: object) -> None:
        seen.append(note)

    return hook


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
def test_a_step_hook_on_the_optimizer_is_seen(register: str) -> None:
    """Keeps P58."""
    _, optimizer, quick = ready()
    seen: list[str] = []
    add: Callable[[Callable[..., None]], RemovableHandle] = getattr(optimizer, register)
    handle = add(noting(seen, register))
    quick.step()
    handle.remove()
    quick.step()
    assert seen == [register]


@pytest.mark.parametrize("register", [register_optimizer_step_pre_hook, register_optimizer_step_post_hook])
def test_a_global_step_hook_is_seen(register: Callable[[Any], RemovableHandle]) -> None:
    """Keeps P58."""
    _, _, quick = ready()
    seen: list[object] = []
    handle = register(noting(seen, register))
    try:
        quick.step()
    finally:
        handle.remove()
    quick.step()
    assert seen == [register]


def test_a_profiler_sees_step_and_zero_grad() -> None:
    """Keeps P58."""
    model = linear()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train(model, batches(2), squares, torch.optim.SGD(model.parameters(), 0.1), epochs=1)
    names = {cast("str", event.key) for event in cast("list[Any]", profile.key_averages())}
    assert {"Optimizer.step#SGD.step", "Optimizer.zero_grad#SGD.zero_grad"} <= names


def test_an_optimizer_that_is_not_decorated_in_the_known_way_keeps_its_own_step() -> None:
    """Keeps P58."""
    calls: list[str] = []

    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            calls.append("step")

        def zero_grad(self, set_to_none: bool = True) -> None:
            calls.append("zero")
            super().zero_grad(set_to_none)

    model = linear()
    optimizer = Counting(model.parameters(), 0.1)
    quick = Quick(optimizer)
    assert bare_step(optimizer) is None
    quick.step()
    quick.zero()
    assert calls == ["step", "zero"]


def test_a_zero_grad_put_on_the_instance_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    _, optimizer, quick = ready()
    calls: list[str] = []

    def zero_grad(set_to_none: bool = True) -> None:
        calls.append("zero")

    monkeypatch.setattr(optimizer, "zero_grad", zero_grad)
    quick.zero()
    assert calls == ["zero"]


def test_a_differentiable_optimizer_steps_with_gradients_on() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, differentiable=True)
    assert bare_step(optimizer) is None


def test_the_grad_mode_is_what_it_was_also_if_the_step_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer, quick = ready()
    squares(model, batches(1)[0]).loss.backward()
    optimizer.param_groups[0]["lr"] = "fast"
    assert torch.is_grad_enabled()
    with pytest.raises(Exception, match=r"."):
        quick.step()
    assert torch.is_grad_enabled()


def test_the_engine_is_called_directly_for_a_plain_loss() -> None:
    model, _, quick = ready()
    assert quick.backward(squares(model, batches(1)[0]).loss)
    theirs = linear()
    squares(theirs, batches(1)[0]).loss.backward()
    assert equal(gradients(list(model.parameters())), gradients(list(theirs.parameters())))


@contextmanager
def debugging() -> Generator[None]:
    logger = logging.getLogger("torch.autograd.graph")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)


class Subclass(Tensor):
    pass


@pytest.mark.parametrize(
    "loss",
    [
        torch.ones((), dtype=torch.float64, requires_grad=True) * 2,
        torch.ones(1, requires_grad=True) * 2,
        torch.ones(()),
        torch.ones((), requires_grad=True).as_subclass(Subclass) * 2,
        torch.ones((), requires_grad=True, device="meta") * 2,
    ],
    ids=["float64", "not 0-d", "no grad", "subclass", "other device"],
)
def test_another_loss_takes_the_plain_backward(loss: Tensor) -> None:
    assert not ready()[2].backward(loss)


def test_a_torch_function_mode_takes_the_plain_backward() -> None:
    model, _, quick = ready()
    loss = squares(model, batches(1)[0]).loss
    seen: list[str] = []

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            seen.append(func.__name__)
            return func(*args, **(kwargs or {}))

    with Mode():
        assert not quick.backward(loss)
        train(model, batches(1), squares, torch.optim.SGD(model.parameters(), 0.1), epochs=1)
    assert "backward" in seen


def test_a_functorch_transform_takes_the_plain_backward() -> None:
    _, _, quick = ready()
    asked: list[bool] = []

    def inside(x: Tensor) -> Tensor:
        asked.append(quick.backward((x * 2).sum()))
        return (x * 2).sum()

    torch.func.grad(inside)(torch.ones(3))
    assert asked == [False]


def test_the_log_of_autograd_takes_the_plain_backward() -> None:
    model, _, quick = ready()
    with debugging():
        assert not quick.backward(squares(model, batches(1)[0]).loss)


@pytest.mark.parametrize("start", [1.0, 0.5, torch.tensor(0.5)], ids=str)
@pytest.mark.parametrize("counted", [True, False])
def test_what_is_done_to_a_gradient_that_is_the_start_itself_is_not_seen_by_the_next_backward(
    counted: bool, start: float | Tensor
) -> None:
    """A parameter that is the loss up to a view is given what backward started from as its gradient."""
    loss = nn.Parameter(torch.ones(()))
    quick = Quick(torch.optim.SGD([loss], 0.1))
    for _ in range(2):
        assert quick.backward(loss.view(()), (), start)
        assert [one.item() for one in gradients([loss])] == [float(start)]
        gradient = gradients([loss])[0]
        (gradient if counted else gradient.data).mul_(3.0)
        loss.grad = None


def test_a_restricted_backward_touches_its_own_parameters_alone() -> None:
    model, other = linear(), linear(5)
    quick = Quick(torch.optim.SGD(model.parameters(), 0.1))
    x, y = batches(1)[0]
    loss = nn.functional.mse_loss(model(x) + other(x), y)
    assert quick.backward(loss, tuple(model.parameters()))
    assert all(one.grad is not None for one in model.parameters())
    assert all(one.grad is None for one in other.parameters())


def test_scale_multiplies_all_by_a_number_or_a_tensor() -> None:
    tensors = [torch.ones(2), torch.ones(3)]
    scale(tensors, 2.0)
    scale(tensors, torch.tensor(3.0))
    scale([], 5.0)
    assert [one.tolist() for one in tensors] == [[6.0, 6.0], [6.0, 6.0, 6.0]]


def entered(function: Callable[[], object]) -> list[CodeType]:
    """The code of every Python call that `function` makes."""
    codes: list[CodeType] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            codes.append(frame.f_code)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return codes


def test_a_step_without_hooks_makes_fewer_python_calls_than_one_written_by_hand() -> None:
    """Keeps P58."""
    model = linear()
    optimizer = OPTIMIZERS["sgd"](model)
    by_hand(model, optimizer, 1, 1)  # what torch imports late is there
    extra = 50
    hand = len(entered(lambda: by_hand(model, optimizer, extra, 1))) / extra
    short, long = batches(1), batches(1 + extra)
    train(model, short, squares, optimizer, epochs=1)
    ours = [len(entered(partial(train, model, data, squares, optimizer, epochs=1))) for data in (short, long)]
    assert (ours[1] - ours[0]) / extra < hand


finite = st.floats(-1e4, 1e4, width=32)
norms = st.floats(0, width=32) | st.sampled_from([0.0, 1e-30, float("inf"), float("nan")])
bounds = st.floats(1e-8, 1e8) | st.sampled_from([0.1, 0.5, 1.0, 1e39, float("inf")])


@given(gradients=st.lists(st.lists(finite, min_size=1, max_size=9), min_size=1, max_size=4), max_norm=bounds)
def test_clipping_directly_is_bit_equal_to_torchs_functions(gradients: list[list[float]], max_norm: float) -> None:
    ours = [torch.tensor(one) for one in gradients]
    parameters = [torch.nn.Parameter(torch.zeros(len(one))) for one in gradients]
    for parameter, one in zip(parameters, ours, strict=True):
        parameter.grad = one.clone()
    norm = QUICK_CLIP.norm(ours)
    theirs = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    assert norm is not None
    assert torch.equal(norm, theirs)
    assert QUICK_CLIP.clip(ours, max_norm, norm)
    assert equal(ours, [parameter.grad for parameter in parameters if parameter.grad is not None])


@given(norm=norms, max_norm=bounds)
def test_the_factor_of_a_clip_is_torchs_to_the_last_bit(norm: float, max_norm: float) -> None:
    expected = max_norm / (torch.tensor(norm) + 1e-6)
    found = torch.tensor(clip_factor(max_norm, norm))
    assert torch.equal(found, expected) or (found.isnan() and expected.isnan())


@pytest.mark.parametrize(
    "other",
    [
        torch.ones(2, dtype=torch.float64),
        torch.ones(2, device="meta"),
        torch.ones(2, requires_grad=True),
        nn.Parameter(torch.ones(2), requires_grad=False),
    ],
)
def test_gradients_that_are_not_plain_are_left_to_torch(other: Tensor) -> None:
    ones = torch.ones(3)
    assert QUICK_CLIP.norm([ones, other]) is None
    assert not QUICK_CLIP.clip([ones, other], 1.0, torch.tensor(2.0))
    assert torch.equal(ones, torch.ones(3))


@pytest.mark.parametrize("norm", [torch.tensor(2.0).double(), torch.tensor([2.0]), nn.Parameter(torch.tensor(2.0))])
def test_a_norm_that_is_not_plain_is_left_to_torch(norm: Tensor) -> None:
    assert not QUICK_CLIP.clip([torch.ones(3)], 1.0, norm)


def test_without_the_private_names_clipping_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainhooks.loop.quick.AVAILABLE", False)
    assert QUICK_CLIP.norm([torch.ones(3)]) is None
    assert not QUICK_CLIP.clip([torch.ones(3)], 1.0, torch.tensor(2.0))
