"""No event takes a hook whose context is another's, in a hook set or with a state."""

# mypy: disable-error-code=empty-body

from typing import Any

from trainhooks import HookSet, stateful


class Another:
    """The context of no event."""


def hears(ctx: Another) -> None: ...
def replaces(ctx: Another, value: Any) -> Any: ...
def wraps(ctx: Another) -> Any: ...
def hears_with(ctx: Another, state: int) -> tuple[int, None]: ...
def replaces_with(ctx: Another, value: Any, state: int) -> tuple[int, Any]: ...
def wraps_with(ctx: Another, state: int) -> Any: ...


HookSet(on_train_loop_registration=hears)  # E: arg-type | reportArgumentType
HookSet(on_multiprocess_start=hears)  # E: arg-type | reportArgumentType
HookSet(around_train=wraps)  # E: arg-type | reportArgumentType
HookSet(on_train_begin=hears)  # E: arg-type | reportArgumentType
HookSet(around_epoch=wraps)  # E: arg-type | reportArgumentType
HookSet(on_epoch_begin=hears)  # E: arg-type | reportArgumentType
HookSet(on_batch_begin=hears)  # E: arg-type | reportArgumentType
HookSet(transform_batch=replaces)  # E: arg-type | reportArgumentType
HookSet(transform_rates=replaces)  # E: arg-type | reportArgumentType
HookSet(transform_loss=replaces)  # E: arg-type | reportArgumentType
HookSet(on_after_backward=hears)  # E: arg-type | reportArgumentType
HookSet(on_after_gradient_update=hears)  # E: arg-type | reportArgumentType
HookSet(transform_gradients=replaces)  # E: arg-type | reportArgumentType
HookSet(on_after_optimizer_step=hears)  # E: arg-type | reportArgumentType
HookSet(on_batch_end=hears)  # E: arg-type | reportArgumentType
HookSet(around_evaluation=wraps)  # E: arg-type | reportArgumentType
HookSet(on_evaluation_begin=hears)  # E: arg-type | reportArgumentType
HookSet(on_after_batch_prediction=hears)  # E: arg-type | reportArgumentType
HookSet(transform_metrics=replaces)  # E: arg-type | reportArgumentType
HookSet(on_evaluation_end=hears)  # E: arg-type | reportArgumentType
HookSet(on_epoch_end=hears)  # E: arg-type | reportArgumentType
HookSet(on_record=hears)  # E: arg-type | reportArgumentType
HookSet(on_checkpoint_saved=hears)  # E: arg-type | reportArgumentType
HookSet(on_train_end=hears)  # E: arg-type | reportArgumentType

stateful("a", int, on_train_loop_registration=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_multiprocess_start=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, around_train=wraps_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_train_begin=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, around_epoch=wraps_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_epoch_begin=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_batch_begin=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, transform_batch=replaces_with)  # E: arg-type | reportArgumentType
stateful("a", int, transform_rates=replaces_with)  # E: arg-type | reportArgumentType
stateful("a", int, transform_loss=replaces_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_after_backward=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_after_gradient_update=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, transform_gradients=replaces_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_after_optimizer_step=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_batch_end=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, around_evaluation=wraps_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_evaluation_begin=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_after_batch_prediction=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, transform_metrics=replaces_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_evaluation_end=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_epoch_end=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_record=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_checkpoint_saved=hears_with)  # E: arg-type | reportArgumentType
stateful("a", int, on_train_end=hears_with)  # E: arg-type | reportArgumentType
