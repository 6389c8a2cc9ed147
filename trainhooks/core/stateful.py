"""Hook sets that keep a state: it lives in the run, under the set's name, and is threaded through the hooks."""

import inspect
from collections.abc import Callable, Collection
from typing import Any, cast, final

from attrs import frozen
from typing_extensions import TypeVar, Unpack

from trainhooks.errors import HookDefinitionError, shown

from .binding import Itself
from .contexts import TrainBegin
from .definitions import check_hook, definition_of, parsing
from .hookset import KEYS, HookSet, Part, changed, spec_of
from .slots import Names, Slots, StatefulSlots

B = TypeVar("B", default=Any)
O = TypeVar("O", default=Any)
S = TypeVar("S")

_EARLIER_THAN_TRAIN_BEGIN = ("on_train_loop_registration", "on_multiprocess_start")


def stateful(
    name: str,
    init: Callable[[], S] | Callable[[TrainBegin], S],
    *,
    order: int = 0,
    before: Names = (),
    after: Names = (),
    reads: Names = (),
    provides: Names = (),
    writes: Names = (),
    ranks: Collection[int] | None = None,
    may_skip: bool = False,
    collective: bool = False,
    governs: Names | None = None,
    **slots: Unpack[StatefulSlots[S, B, O]],
) -> HookSet[B, O]:
    """A hook set whose hooks share a state of type `S`.

    `on_*` hooks are `(ctx, state) -> (state, answer)`, transforms `(ctx, value, state) -> (state, value)`, and
    `around_*` hooks `(ctx, state) -> context manager`.

    Args:
        name: Names the set and its state; unique among the stateful sets of a run.
        init: Makes the first state, once per run: takes nothing, or the `TrainBegin`; then the set can have no
            hooks on earlier events. A frozen record of plain data and tensors, or an object with
            `state_dict`/`load_state_dict`.
        order: See `HookSet`, as for all the other keys.
        before: Sets that this one precedes.
        after: Sets that this one follows.
        reads: Values that it looks at.
        provides: Values that it records.
        writes: What it changes in place.
        ranks: Global ranks on which it is called.
        may_skip: Whether over ranks its skips are taken.
        collective: Whether it runs collectives itself.
        governs: Events that a trigger of `when` gates.
        **slots: One hook per event; None for none.

    Raises:
        HookDefinitionError: as for `HookSet`, and for an `init` that fits neither form.

    Example:
        >>> counter = stateful("counter", lambda: 0, on_batch_end=lambda ctx, seen: (seen + 1, None))
        >>> counter.name
        'counter'
    """
    if not name:
        raise HookDefinitionError("stateful wants a name first: the state is saved under it.")
    takes_begin = _takes_begin(init)
    if takes_begin and (early := [event for event in _EARLIER_THAN_TRAIN_BEGIN if event in slots]):
        raise HookDefinitionError(
            f"The init of {name!r} takes the TrainBegin, so it has no state yet at {early[0]}; make it of nothing."
        )
    given = [(spec_of(event, KEYS), hook) for event, hook in slots.items()]
    threaded = {
        spec.name: Part(check_hook(hook, spec, keeps_state=True), keeps_state=True)
        for spec, hook in given
        if hook is not None
    }
    keeper: HookSet[B, O] = HookSet(
        name=name, order=order, before=before, after=after, reads=reads, provides=provides, writes=writes, ranks=ranks,
        may_skip=may_skip, collective=collective, governs=governs, **cast("Slots[B, O]", threaded),
    )  # fmt: skip
    return changed(keeper, init=init if takes_begin else _Plain(init))


@final
@frozen
class _Plain:
    """An init that takes nothing, as one that takes the `TrainBegin`."""

    make: Callable[..., object]

    def __call__(self, begin: TrainBegin) -> object:
        return self.make()


def needs_begin(hook_set: HookSet) -> bool:
    """Whether the state of `hook_set` can only be made once the `TrainBegin` is there."""
    return hook_set.init is not None and not isinstance(hook_set.init, _Plain | Itself)


def _takes_begin(init: object) -> bool:
    if not callable(init):
        raise HookDefinitionError(f"init is a function of nothing, or of the TrainBegin, got {shown(init)}.")
    try:
        signature = parsing(lambda: inspect.signature(init))
    except (TypeError, ValueError):
        return False
    for arguments in ((), (None,)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return bool(arguments)
    raise HookDefinitionError(f"init takes nothing or the TrainBegin, but {definition_of(init)} takes neither.")
