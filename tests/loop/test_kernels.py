"""The steps that call torch's kernels themselves give torch's bits, and leave to torch what they do not know."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeAlias, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from tests.loop.programs import batches, equal, linear, squares, weights
from trainhooks import train
from trainhooks.loop import kernels
from trainhooks.loop.kernels import kernel_step, only_notes_the_call, step_adam, step_sgd

Options: TypeAlias = Mapping[str, Any]
Make: TypeAlias = Callable[..., Optimizer]

rates = st.sampled_from([0.0, 1e-3, 0.1, 1])
shares = st.sampled_from([0, 0.0, 0.1, 0.9])
betas = st.sampled_from([0.0, 0.9, 0.999])
sgd_options = st.fixed_dictionaries(
    {"lr": rates, "weight_decay": shares, "momentum": st.just(0), "dampening": st.just(0)}
) | st.fixed_dictionaries(
    {"lr": rates, "weight_decay": shares, "momentum": st.just(0.9), "dampening": shares}
) | st.fixed_dictionaries(
    {"lr": rates, "weight_decay": shares, "momentum": st.just(0.9), "nesterov": st.just(True)}
)
adam_options = st.fixed_dictionaries(
    {
        "lr": rates,
        "weight_decay": shares,
        "betas": st.tuples(betas, betas),
        "eps": st.sampled_from([1e-8, 1e-3]),
    }
)
numbers = st.floats(-1e3, 1e3, width=32)
steps_of_gradients = st.lists(
    st.lists(st.none() | st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=2), min_size=1, max_size=4
)


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=dtype)) for _ in range(2)]


def give(to: list[nn.Parameter], gradients: list[list[float] | None]) -> None:
    for parameter, one in zip(to, gradients, strict=True):
        parameter.grad = None if one is None else torch.tensor(one, dtype=parameter.dtype)


def states_of(optimizer: Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if value is not None]


def check_against_torch(make: Make, options: Options, gradients: list[list[list[float] | None]]) -> None:
    """Step twins, one by torch alone and one by the kernels wherever they agree to."""
    ours, theirs = parameters(), parameters()
    first: Options = {**options, "lr": options["lr"] / 2}
    groups = [[{"params": one[:1], **first}, {"params": one[1:]}] for one in (ours, theirs)]
    quick, plain = (make(one, **options) for one in groups)
    step = kernel_step(quick)
    assert step is not None
    for one in gradients:
        give(ours, one)
        give(theirs, one)
        with torch.no_grad():
            if not step(quick):
                quick.step()
        plain.step()
        for parameter in (*ours, *theirs):
            if parameter.grad is not None:
                parameter.grad.zero_()  # what an optimizer keeps is its own
        assert equal(ours, theirs)
        assert equal(states_of(quick), states_of(plain))


@given(options=sgd_options, gradients=steps_of_gradients)
def test_steps_of_sgd_are_torchs_to_the_last_bit(options: Options, gradients: list[list[list[float] | None]]) -> None:
    """Keeps P58."""
    check_against_torch(SGD, options, gradients)


@given(make=st.sampled_from([Adam, AdamW]), options=adam_options, gradients=steps_of_gradients)
def test_steps_of_adam_are_torchs_to_the_last_bit(
    make: Make, options: Options, gradients: list[list[list[float] | None]]
) -> None:
    """Keeps P58."""
    check_against_torch(make, options, gradients)


UNKNOWN: dict[str, tuple[Make, Options]] = {
    "sgd, a tensor as rate": (SGD, {"lr": torch.tensor(0.1)}),
    "sgd, a decay with a graph": (SGD, {"weight_decay": torch.tensor(0.1, requires_grad=True)}),
    "sgd, a tensor as decay": (SGD, {"weight_decay": torch.tensor(0.1)}),
    "sgd, a tensor as momentum": (SGD, {"momentum": torch.tensor(0.9)}),
    "sgd, a tensor as dampening": (SGD, {"momentum": 0.9, "dampening": torch.tensor(0.1)}),
    "sgd, maximize": (SGD, {"maximize": True}),
    "sgd, foreach": (SGD, {"foreach": True}),
    "sgd, fused": (SGD, {"fused": True}),
    "sgd, differentiable": (SGD, {"differentiable": True}),
    "adam, a tensor as rate": (Adam, {"lr": torch.tensor(0.1)}),
    "adam, tensors as betas": (Adam, {"betas": (torch.tensor(0.9), torch.tensor(0.99))}),
    "adam, a decay with a graph": (AdamW, {"weight_decay": torch.tensor(0.1, requires_grad=True)}),
    "adam, a tensor as decay": (Adam, {"weight_decay": torch.tensor(0.1)}),
    "adam, a tensor as eps": (Adam, {"eps": torch.tensor(1e-8)}),
    "adam, maximize": (Adam, {"maximize": True}),
    "adam, capturable": (Adam, {"capturable": True}),
    "adam, amsgrad": (AdamW, {"amsgrad": True}),
    "adam, foreach": (AdamW, {"foreach": True}),
    "adam, fused": (AdamW, {"fused": True}),
    "adam, differentiable": (Adam, {"differentiable": True}),
}


def stepped_once(make: Make) -> tuple[list[nn.Parameter], Optimizer]:
    """An optimizer that has its state, and gradients for a second step."""
    trained = parameters()
    optimizer = make(trained, lr=0.1)
    give(trained, [[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]])
    optimizer.step()
    return trained, optimizer


@pytest.mark.parametrize(("make", "options"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_option_that_is_not_computed_here_is_left_to_torch(make: Make, options: Options) -> None:
    """Keeps P58."""
    trained, optimizer = stepped_once(make)
    step = kernel_step(optimizer)
    assert step is not None
    with torch.no_grad():
        assert step(optimizer)
        before = [one.detach().clone() for one in trained]
        last = nn.Parameter(torch.ones(1))
        last.grad = torch.ones(1)
        optimizer.add_param_group({"params": [last], **options})
        state = optimizer.state[trained[0]]
        optimizer.state[last] = {name: one[:1].clone() if one.shape else one.clone() for name, one in state.items()}
        assert not step(optimizer)
    assert equal(trained, before)


@pytest.mark.parametrize("make", [SGD, AdamW])
@pytest.mark.parametrize("graph", [False, True], ids=["plain", "graph"])
def test_options_that_are_tensors_train_as_torch_does(make: Make, graph: bool) -> None:
    """Keeps P58. Of those that torch takes as tensors."""
    options: Options = {"weight_decay": torch.tensor(0.1, requires_grad=graph)}
    ours, theirs = linear(), linear()
    train(ours, batches(3), squares, make(ours.parameters(), lr=0.1, **options), epochs=1)
    optimizer = make(theirs.parameters(), lr=0.1, **options)
    for batch in batches(3):
        optimizer.zero_grad()
        squares(theirs, batch).loss.backward()
        optimizer.step()
    assert equal(weights(ours), weights(theirs))


def test_gradients_that_adam_refuses_or_sees_as_pairs_are_left_to_torch() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    sparse = Adam(table.parameters())
    sparse.state[table.weight]["step"] = torch.tensor(1.0)  # as if it had one
    assert not step_adam(sparse)
    with pytest.raises(RuntimeError, match="sparse"):
        train(table, [torch.tensor([1])], lambda model, batch: model(batch).sum(), Adam(table.parameters()), epochs=1)
    pair = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer = Adam([pair])
    for _ in range(2):
        pair.grad = torch.ones_like(pair)
        assert not step_adam(optimizer)
        optimizer.step()


def test_sparse_gradients_are_stepped_by_sgd_as_torch_does() -> None:
    ours, theirs = (nn.Embedding(4, 2, sparse=True) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    for table in (ours, theirs):
        table(torch.tensor([1, 1, 2])).sum().backward()
    with torch.no_grad():
        assert step_sgd(SGD(ours.parameters(), 0.1))
    SGD(theirs.parameters(), 0.1).step()
    assert equal(weights(ours), weights(theirs))


def test_what_is_not_on_the_cpu_is_left_to_torch() -> None:
    elsewhere = nn.Parameter(torch.ones(2, device="meta"))
    elsewhere.grad = torch.ones_like(elsewhere)
    assert not step_sgd(SGD([elsewhere], 0.1))
    adam = Adam([elsewhere])
    adam.state[elsewhere]["step"] = torch.tensor(1.0)  # as if it had one
    assert not step_adam(adam)


class Own(SGD):
    pass


def test_optimizers_of_others_and_other_releases_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps P58."""
    known = SGD(parameters(), 0.1)
    assert kernel_step(known) is step_sgd
    assert kernel_step(Own(parameters(), 0.1)) is None
    assert kernel_step(torch.optim.RMSprop(parameters())) is None
    torch.optim.lr_scheduler.StepLR(known, 1)
    assert only_notes_the_call(known.step, known)
    monkeypatch.setattr(torch, "__version__", "9.13.0")
    assert kernel_step(known) is None
    assert not only_notes_the_call(known.step, known)


def test_a_wrapper_that_looks_like_that_of_a_scheduler_is_called() -> None:
    """Keeps P58."""
    optimizer = SGD(parameters(), 0.1)

    @wraps(cast("Callable[..., None]", SGD.step))
    def step(*given: object) -> None: ...

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    assert not only_notes_the_call(step, optimizer)


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_another_release_trains_the_same_weights(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps P58."""
    ours, theirs = linear(), linear()
    train(ours, batches(4), squares, make(ours.parameters(), lr=0.1), epochs=1)
    monkeypatch.setattr(kernels, "RELEASES", ())
    train(theirs, batches(4), squares, make(theirs.parameters(), lr=0.1), epochs=1)
    assert equal(weights(ours), weights(theirs))


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_the_kernels_are_those_that_a_run_steps_with(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear()
    optimizer = make(model.parameters(), lr=0.1)
    steps: list[bool] = []
    own = kernel_step(optimizer)
    assert own is not None

    def noting(which: Optimizer) -> bool:
        steps.append(own(which))
        return steps[-1]

    monkeypatch.setattr(kernels, "_STEPS", {type(optimizer): noting})
    train(model, batches(3), squares, optimizer, epochs=1)
    assert steps == [isinstance(optimizer, SGD), True, True]
