"""From a batch to gradients: calling the step, weighing its loss, back-propagating it."""

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import is_
from typing import Any, final

import torch
from attrs import define, field, frozen
from torch import Tensor, nn
from torch.optim import Optimizer

from trainhooks.core import Gradients, GradientsReady, Step, StepOutput, name_of, total_norm
from trainhooks.errors import HookDefinitionError, RunDefinitionError

from .forwarding import check_value_name, refuse_shape
from .means import Mean
from .quick import Quick, backward, scale
from .scaling import Scaling
from .together import Together, hides_parameters, zero_of
from .windows import FirstWindow, SharedWindow, Window, explain_backward, refuse_stepping


@final
@frozen(eq=False)
class Objective:
    """A loss and the optimizer that minimises it; several are run in order on each batch."""

    name: str
    """Names its loss: `train/loss/<name>`."""
    step: Step[Any, Any]
    """Its own forward and loss."""
    optimizer: Optimizer | Callable[[nn.Module], Optimizer]
    """An optimizer, or a function of the model, called once the model is on its device."""


@final
@define(eq=False)
class Worker:
    """An objective at work in a run: its optimizer, its open window, and its means of this epoch."""

    objective: Objective
    index: int
    optimizer: Optimizer
    names: Mapping[int, str]
    """Names of the model's parameters by `id`."""
    accumulate: int = 1
    """Batches of a whole window."""
    scaling: Scaling | None = None
    """The scaler of an fp16 run."""
    restricted: bool = False
    """Whether backward is restricted to the optimizer's own parameters."""
    together: Together | None = None
    """What the processes of the run tell each other; None if it has one."""
    sources: dict[str, str] = field(factory=dict[str, str])
    """Which objective gives each value, for all workers of the run."""
    quick: Quick = field(init=False)
    window: Window | SharedWindow = field(init=False)
    """The open one."""
    loss: Mean = field(factory=Mean)
    values: dict[str, Mean] = field(factory=dict[str, Mean])
    everybody: Callable[[], Iterable[Tensor]] = tuple[Tensor, ...]
    """All parameters of the model and of the run's optimizers, where backward is restricted."""
    first: FirstWindow | None = field(init=False)
    """Looks at the first window; None after it."""
    watched: bool = False
    """Whether it was ever refused that others step the optimizer."""
    newest: Tensor | None = None
    """The loss of the newest batch."""
    _named: Sequence[Tensor] = ()
    _their_names: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        self.quick = Quick(self.optimizer)
        step = self.objective.step
        self.first = FirstWindow(step, self.with_gradient)
        if self.together is not None:
            self.window = SharedWindow(step, self.together)
            return
        halves = self.scaling is not None or any(
            one.dtype is torch.float16 for group in self.optimizer.param_groups for one in group["params"]
        )
        self.window = Window(step, self.accumulate, self.shrink, halves)

    def shrink(self, factor: float | Tensor) -> None:
        """Multiply the gradients that the open window has accumulated."""
        scale(self.gradients(self.with_gradient()), factor)

    def backward(self, loss: Tensor, weight: float | Tensor, closes: bool) -> None:
        """Add a batch's share of the window's gradients; `closes` says that it is the last."""
        start = self.window.weigh(loss, weight)
        if start is None:
            return
        if self.together is not None:
            if not isinstance(weight, Tensor) and not weight and not self.together.parallel.sharded:
                loss = zero_of(loss)  # what the step made of no items, NaN perhaps, is not reduced
            if closes and isinstance(self.window, SharedWindow):
                self.window.begin_sums()
        inputs: tuple[Tensor, ...] = ()
        if self.restricted and not (inputs := self.trainable()):
            return  # all of its parameters are frozen now; without inputs, backward would go to everybody's
        if self.together is not None and closes:
            self.together.check_gradients(loss)
        if self.first is not None:
            self.first.before_backward()
        scaled = loss if self.scaling is None else self.scaling.scale(loss)
        try:
            if self.restricted and hides_parameters(loss, inputs):
                with self.others_aside(inputs):
                    backward(scaled, (), start)
            elif not self.quick.backward(scaled, inputs, start):
                if loss.shape or not loss.requires_grad or loss.is_complex():
                    self.refuse(loss)
                backward(scaled, inputs, start)
        except RuntimeError as error:
            explain_backward(self.objective.step, error)
            raise
        if self.first is not None:
            self.first.after_backward(start, None if self.scaling is None else self.scaling.scaler)

    @contextmanager
    def others_aside(self, own: Sequence[Tensor]) -> Generator[None]:
        """Afterwards all parameters but `own` have the gradients that they had."""
        kept = {id(one) for one in own}
        others = [(one, one.grad) for one in self.everybody() if id(one) not in kept]
        for one, _ in others:
            one.grad = None
        try:
            yield
        finally:
            for one, gradient in others:
                one.grad = gradient

    def watch(self) -> None:
        """From now on, until its second step, refuse who else steps the optimizer."""
        if not self.watched:
            self.watched = True
            self.quick.watch(partial(refuse_stepping, self.objective.step, self.optimizer))

    def end_first_window(self) -> None:
        """Warn if none of the parameters that are to be trained got a gradient."""
        self.first = None
        if self.trainable() and not self.with_gradient():
            warnings.warn(
                f"None of the parameters of the {type(self.optimizer).__name__} of {self.objective.name!r} got a "
                "gradient in its first update: does the loss depend on them? Was the optimizer made of other "
                "parameters, or the output detached?",
                RuntimeWarning,
                stacklevel=2,
            )

    def trainable(self) -> tuple[Tensor, ...]:
        """The optimizer's parameters that are not frozen now."""
        return tuple([one for group in self.optimizer.param_groups for one in group["params"] if one.requires_grad])

    def refuse(self, loss: Tensor) -> None:
        """Say why a loss cannot be back-propagated."""
        if loss.shape:
            refuse_shape(self.objective.step, loss)
        name = name_of(self.objective.step)
        if loss.is_complex():
            raise HookDefinitionError(
                f"The loss of the step {name!r} is complex; a loss is a real number, such as its .real or .abs()."
            )
        raise HookDefinitionError(
            f"The loss of the step {name!r} does not require grad; was it detached, there or by a hook on "
            "transform_loss, made with .item() or under torch.no_grad(), or are all parameters frozen?"
        )

    def account(self, loss: Tensor, output: StepOutput[Any]) -> None:
        """Take a batch into the epoch's means."""
        weight = output.weight
        self.newest = loss.detach() if self.restricted else loss  # a part of its graph may still be whole
        self.loss.add(loss, weight)
        if output.values:
            for name, value in output.values.items():
                mean = self.values.get(name) or self._mean_of(name)
                mean.take(value, weight)

    def _mean_of(self, name: str) -> Mean:
        check_value_name(self.objective.step, name, "train")
        first = self.sources.setdefault(name, self.objective.name)
        if first != self.objective.name:
            raise RunDefinitionError(
                f"The steps of the objectives {first!r} and {self.objective.name!r} both gave a value named {name!r}; "
                f"train/{name} has one source. Rename one."
            )
        return self.values.setdefault(name, Mean())

    def begin_epoch(self) -> None:
        """Open the means of a new epoch."""
        self.loss = Mean()
        self.values = {}

    def means(self, *, alone: bool) -> dict[str, Mean]:
        """The epoch's means; that of the loss under this objective's name, unless it is the only one."""
        name = "train/loss" if alone else f"train/loss/{self.objective.name}"
        return {name: self.loss, **{f"train/{name}": mean for name, mean in self.values.items()}}

    def normalise(self) -> bool:
        """Close the window, unscale its gradients and make them those of the mean over all its items.

        False if there is nothing to step with: no items, or an overflow.
        """
        if self.together is not None:
            self.together.finish_reducing(self.gradients(self.with_gradient()))
        factor = self.window.close()
        if self.first is not None and (factor is None or isinstance(factor, Tensor) or factor):
            self.end_first_window()
        if self.scaling is not None and self.with_gradient() and not self.scaling.unscale(self.optimizer):
            return False
        if factor is None:
            return True
        if not isinstance(factor, Tensor) and not factor:
            return False
        scale(self.gradients(self.with_gradient()), factor)
        return True

    def with_gradient(self) -> list[Tensor]:
        """The optimizer's parameters that have a gradient."""
        return [one for group in self.optimizer.param_groups for one in group["params"] if one.grad is not None]

    def gradients(self, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The gradients of parameters that have one."""
        return tuple([one.grad for one in parameters if one.grad is not None])

    def norms(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The norm of the gradients, where measuring it takes every rank; else nobody has read it yet."""
        if self.together is None or not self.together.parallel.sharded:
            return []
        norm: Any = total_norm(self.gradients(parameters))
        return [norm.full_tensor() if parameters else norm]

    def measured_anew(self, ready: GradientsReady, left: Gradients) -> GradientsReady:
        """The context of transforms after hooks left other gradients; a norm that takes every rank stays as it was."""
        sharded = self.together is not None and self.together.parallel.sharded
        return ready if sharded else ready.after_changes(left)

    def names_of(self, parameters: Sequence[Tensor]) -> tuple[str, ...]:
        """The names of parameters in the model; those of an update are mostly those of the one before."""
        if len(parameters) != len(self._named) or not all(map(is_, parameters, self._named)):
            stranger = f"<optimizer {self.index}, not a parameter of the model>"
            self._named = parameters
            self._their_names = tuple([self.names.get(id(one), stranger) for one in parameters])
        return self._their_names
