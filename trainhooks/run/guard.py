"""Guard mode: which hook changes in place what it did not declare, or draws from a global random stream.

Before and after each call of a hook, everything that it can reach through its context is looked at: the model's
parameters, buffers, gradients and modes, the optimizers, the tensors of the context, the random streams. A tensor
counts as changed if it is another object, lies elsewhere in memory, has another version, or holds other numbers; the
last finds fused kernels, which do not count versions. This costs a copy of all of it for each call, so it is for
finding faults.

Not seen: what a hook changes later, in a thread or at another moment than its call; what it changes and changes back;
objects in a batch that are no tensors; streams of libraries other than python, numpy and torch. What another thread
draws from a global stream during a call counts as that hook's.
"""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, final

import torch
from attrs import AttrsInstance, evolve, fields, frozen
from torch import Tensor

from trainhooks.core import WRITABLE, Bound, Entered, HookSet, Run, named_buffers, named_parameters, tensors_in
from trainhooks.errors import MutationError
from trainhooks.loop import MODEL, Streams, devices_of, named_modules, version_of

Facts: TypeAlias = dict[str, tuple[str, object]]
"""By what it is, in words: the kind of write that changing it is, and how it stands."""

_RANDOM = "a global random stream"
_MODE = "the mode (train or eval) of the model"
_OF_CONTEXT = frozenset({"run", "at", "since", "parameters", "_norms", "_left"})
"""Fields of contexts that are looked at elsewhere, or hold no tensors."""


def guarded(hooks: Mapping[str, tuple[Bound, ...]]) -> dict[str, tuple[Bound, ...]]:
    """The same hooks, each of which is looked at when it is called, and a context manager when it is left, too."""
    return {event: tuple(_watched(event, one) for one in bound) for event, bound in hooks.items()}


def _watched(event: str, one: Bound) -> Bound:
    def call(ctx: Any, *value: Any) -> Any:
        before = _look(event, ctx, *value)
        made = one.call(ctx, *value)
        try:
            _refuse_changes(one.owner, event, before, _look(event, ctx, *value))
        except MutationError as error:
            if isinstance(made, Entered) and one.leave is not None:
                one.leave(ctx, made, type(error), error, error.__traceback__)
            raise
        return made

    def leave(ctx: Any, entered: Entered, *raised: Any) -> bool | None:
        assert one.leave is not None
        before = _look(event, ctx)
        swallows = one.leave(ctx, entered, *raised)
        _refuse_changes(one.owner, event, before, _look(event, ctx))
        return swallows

    return evolve(one, call=call, leave=None if one.leave is None else leave)


def _refuse_changes(owner: HookSet, event: str, before: Facts, after: Facts) -> None:
    for what in dict.fromkeys([*before, *after]):
        kind = (before.get(what) or after[what])[0]
        if kind in owner.writes and event == "on_train_end" and kind in MODEL:
            kind = "final"  # weights that stay in the model
        if kind in owner.writes or _same(before.get(what), after.get(what)):
            continue
        if kind == _RANDOM:
            raise MutationError(
                f"{owner.name!r} drew from {what} on {event}, which changes what everybody else draws; use "
                "ctx.generator(name)."
            )
        cure = "return a changed copy from a transform, or leave it as it is"
        if kind in WRITABLE:
            cure = f"declare it, writes=frozenset({{{kind!r}}}), or leave it as it is"
        raise MutationError(f"{owner.name!r} changed {what} in place on {event}, and its writes do not say so; {cure}.")


def _same(one: tuple[str, object] | None, other: tuple[str, object] | None) -> bool:
    if one is None or other is None:
        return one is other
    first, second = one[1], other[1]
    if isinstance(first, _Tensor) and isinstance(second, _Tensor):
        return first.is_as(second)
    return first == second


@final
@frozen(eq=False)
class _Tensor:
    """How a tensor stands at a moment."""

    identity: tuple[int, ...]
    """The object, its version, and where its data lies."""
    data: tuple[Tensor, ...]
    """Copies of what it is made of."""

    @staticmethod
    def of(tensor: Tensor) -> "_Tensor":
        parts = _dense_parts(tensor.detach())
        places = [one.data_ptr() for one in parts]
        return _Tensor((id(tensor), version_of(tensor), *places), tuple([one.clone() for one in parts]))

    def is_as(self, other: "_Tensor") -> bool:
        return self.identity == other.identity and all(map(_equal, self.data, other.data))


def _dense_parts(tensor: Tensor) -> Sequence[Tensor]:
    """The dense tensors that a tensor is made of; of a dense one itself."""
    if tensor.is_nested:
        return tensor.unbind()
    match tensor.layout:
        case torch.sparse_coo:
            return tensor._indices(), tensor._values()
        case torch.sparse_csr | torch.sparse_bsr:
            return tensor.crow_indices(), tensor.col_indices(), tensor.values()
        case torch.sparse_csc | torch.sparse_bsc:
            return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
        case _:
            return (tensor,)


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return one.is_meta or bool(torch.where(one == one, one == other, other != other).all())


def _look(event: str, ctx: Any, value: object = None) -> Facts:
    """How everything stands that a hook with this context can reach."""
    run: Run = ctx.run
    facts: Facts = {}
    for name, parameter in named_parameters(run.model):
        facts[f"the parameter {name!r}"] = ("parameters", _Tensor.of(parameter))
        facts[f"requires_grad of {name!r}"] = ("requires_grad", parameter.requires_grad)
        gradient = None if parameter.grad is None else _Tensor.of(parameter.grad)
        facts[f"the gradient of {name!r}"] = ("gradients", gradient)
    for name, buffer in named_buffers(run.model):
        facts[f"the buffer {name!r}"] = ("buffers", _Tensor.of(buffer))
    for name, module in named_modules(run.model):
        facts[f"the mode (train or eval) of {name!r}" if name else _MODE] = ("modes", module.training)
    facts.update(_of_optimizers(run))
    given = event.removeprefix("transform_")
    for what, tensor in tensors_in(value, given):
        facts[f"the {what}"] = (given, _Tensor.of(tensor))
    context: AttrsInstance = ctx
    for field in fields(type(context)):
        if field.name not in _OF_CONTEXT:
            for what, tensor in tensors_in(getattr(ctx, field.name), field.name):
                facts[f"ctx.{what}"] = (field.name, _Tensor.of(tensor))
    facts.update(_of_streams(run))
    return facts


def _of_optimizers(run: Run) -> Iterator[tuple[str, tuple[str, object]]]:
    for number, optimizer in enumerate(run.optimizers):
        for place, group in enumerate(optimizer.param_groups):
            for key, value in group.items():
                stands = [id(one) for one in value] if key == "params" else _plain(value)
                yield f"{key!r} of group {place} of optimizer {number}", ("optimizer", stands)
        for place, state in enumerate(optimizer.state.values()):
            for key, value in state.items():
                yield f"the state {key!r} of parameter {place} of optimizer {number}", ("optimizer", _plain(value))


def _plain(value: object) -> object:
    return _Tensor.of(value) if isinstance(value, Tensor) else value


def _of_streams(run: Run) -> Iterator[tuple[str, tuple[str, object]]]:
    streams = Streams.now(devices_of(run.model, run.device))
    yield "python's global random stream", (_RANDOM, streams.python)
    yield "torch's global random stream", (_RANDOM, streams.torch_cpu.tolist())
    for device, stands in zip(streams.devices, streams.torch_devices, strict=True):
        yield f"torch's global random stream on {device}", (_RANDOM, stands.tolist())
    if streams.numpy is not None:
        yield "numpy's global random stream", (_RANDOM, pickle.dumps(streams.numpy))
