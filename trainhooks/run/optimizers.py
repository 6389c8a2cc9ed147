"""Optimizers that were given, or are made of the model: refusing those that cannot train it."""

import ast
import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, getsource, signature, unwrap
from textwrap import dedent
from typing import cast

from torch import Tensor, nn
from torch.optim import Optimizer

from trainhooks.core import name_of, parsing
from trainhooks.errors import RunDefinitionError, shown
from trainhooks.loop import Objective


def check_optimizer(optimizer: object) -> None:
    """Refuse what is neither an optimizer nor a function that makes one."""
    if isinstance(optimizer, Optimizer):
        _refuse_closures(optimizer)
    elif isinstance(optimizer, type) or not callable(optimizer):
        raise RunDefinitionError(
            "optimizer is a torch.optim.Optimizer, or a function of the model that makes one, such as "
            f"lambda model: torch.optim.AdamW(model.parameters()); got {shown(optimizer)}."
        )


def _refuse_closures(optimizer: Optimizer) -> None:
    step: Callable[..., object] = type(optimizer).step
    closure = signature(step).parameters.get("closure")
    if closure is not None and (closure.default is Parameter.empty or _insists_on_closure(step)):
        raise RunDefinitionError(
            f"{type(optimizer).__name__} evaluates the loss several times in a step, by a closure, and an update here "
            "has one forward and one backward for each batch; use an optimizer whose step() needs no closure."
        )


def _insists_on_closure(step: Callable[..., object]) -> bool:
    """Whether a step asserts that it is given a closure, or raises if it is not, as far as its source is at hand."""
    if step.__module__.startswith("torch."):  # its own say so by their parameters
        return False
    try:
        text = dedent(getsource(unwrap(step)))
        tree = parsing(lambda: ast.parse(text))
    except (OSError, TypeError, SyntaxError):
        return False
    for node in ast.walk(tree):
        match node:
            case ast.Assert(test=test) if _compares_closure(test, ast.IsNot):
                return True
            case ast.If(test=test, body=[ast.Raise(), *_]) if _compares_closure(test, ast.Is):
                return True
            case _:
                pass
    return False


def _compares_closure(test: ast.expr, operator: type[ast.cmpop]) -> bool:
    match test:
        case ast.Compare(left=ast.Name(id="closure"), ops=[found], comparators=[ast.Constant(value=None)]):
            return isinstance(found, operator)
        case ast.Name(id="closure"):
            return operator is ast.IsNot
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id="closure")):
            return operator is ast.Is
        case _:
            return False


def made_optimizer(objective: Objective, model: nn.Module) -> Optimizer:
    """The optimizer of an objective, for a model that is where it will be trained.

    Raises:
        RunDefinitionError: if what a function made is no optimizer, or it has no parameter of the model.
    """
    optimizer: object = objective.optimizer
    if not isinstance(optimizer, Optimizer):
        optimizer = cast("object", objective.optimizer(model))  # type: ignore[operator]  # it is no optimizer
        if not isinstance(optimizer, Optimizer):
            maker = name_of(objective.optimizer)
            raise RunDefinitionError(f"{maker!r} should make an optimizer of the model, and made {shown(optimizer)}.")
        _refuse_closures(optimizer)
    check_shares_parameters(optimizer, model)
    return optimizer


def check_shares_parameters(optimizer: Optimizer, model: nn.Module) -> None:
    """Refuse an optimizer without a parameter of the model."""
    parameters = {id(one) for one in model.parameters()}
    if not any(id(one) in parameters for group in optimizer.param_groups for one in group["params"]):
        raise RunDefinitionError(
            f"The {type(optimizer).__name__} has no parameter of the model, so training would change nothing; was it "
            "made for another model, or before the parameters were replaced?"
        )


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """The parameters that an optimizer steps."""
    return [one for group in optimizer.param_groups for one in group["params"]]


def check_owners(objectives: Sequence[str], optimizers: Sequence[Optimizer], names: Mapping[int, str]) -> None:
    """Refuse a parameter that two optimizers step, and warn of those that are not the model's.

    Args:
        objectives: The name of each optimizer's objective.
        optimizers: The optimizers, in the same order.
        names: Names of the model's parameters by `id`.

    Raises:
        RunDefinitionError: if two optimizers have one parameter.
    """
    owners: dict[int, str] = {}
    for objective, optimizer in zip(objectives, optimizers, strict=True):
        parameters = parameters_of(optimizer)
        for one in parameters:
            owner = owners.setdefault(id(one), objective)
            if owner != objective:
                raise RunDefinitionError(
                    f"The optimizers of {owner!r} and {objective!r} both have the parameter "
                    f"{names.get(id(one), '?')!r}; give each its own. Several losses of one optimizer are one "
                    "objective that returns their sum."
                )
        if strangers := [str(tuple(one.shape)) for one in parameters if id(one) not in names]:
            warnings.warn(
                f"The {type(optimizer).__name__} of {objective!r} has parameters that are not the model's, of shapes "
                f"{', '.join(strangers)}: they are trained, but neither moved to the device nor saved with the model.",
                RuntimeWarning,
                stacklevel=2,
            )
