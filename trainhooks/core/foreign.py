"""What other frameworks call our events, and what to write instead of an object that is no hook here."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Set, ValuesView
from typing import cast, get_origin

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from trainhooks.errors import HookDefinitionError, shown

from .answers import Answer
from .settings import ComparedByEquality, Settings
from .triggers import Trigger

_BATCH_OR_UPDATE = "write 'on_batch_end' for each batch, or 'on_after_optimizer_step' for each update"
_STEP = "it is the step that is given to train(model, data, step, ...)"
_EVALUATION_STEP = "it is the step of an Evaluation(name, data, step)"
_GRADIENTS = "write 'on_after_gradient_update' to look at gradients, 'transform_gradients' to change them"

MEANT: Mapping[str, str] = {
    # Lightning, and what most others share with it
    "setup": "on_train_loop_registration",
    "teardown": "on_train_end",
    "on_fit_start": "on_train_begin",
    "on_fit_begin": "on_train_begin",
    "on_fit_end": "on_train_end",
    "on_train_start": "on_train_begin",
    "on_training_start": "on_train_begin",
    "on_training_begin": "on_train_begin",
    "on_training_end": "on_train_end",
    "on_epoch_start": "on_epoch_begin",
    "on_train_epoch_start": "on_epoch_begin",
    "on_train_epoch_begin": "on_epoch_begin",
    "on_train_epoch_end": "on_epoch_end",
    "on_training_epoch_end": "on_epoch_end",
    "training_epoch_end": "on_epoch_end",
    "on_batch_start": "on_batch_begin",
    "on_train_batch_start": "on_batch_begin",
    "on_train_batch_begin": "on_batch_begin",
    "on_train_batch_end": "on_batch_end",
    "on_before_batch_transfer": "transform_batch",
    "on_after_batch_transfer": "transform_batch",
    "transfer_batch_to_device": "it is the argument transfer= of train",
    "on_before_backward": "transform_loss",
    "on_backward": "on_after_backward",
    "on_before_optimizer_step": _GRADIENTS,
    "configure_gradient_clipping": "transform_gradients",
    "optimizer_step": "on_after_optimizer_step",
    "on_before_zero_grad": "on_after_optimizer_step",
    "lr_scheduler_step": "write trainhooks.hooks.lr_schedule(...) or torch_scheduler(...)",
    "configure_optimizers": "give the optimizer to train(model, data, step, optimizer, ...)",
    "configure_callbacks": "give hooks to train(..., hooks=[...])",
    "training_step": _STEP,
    "train_step": _STEP,
    "compute_loss": _STEP,
    "validation_step": _EVALUATION_STEP,
    "test_step": _EVALUATION_STEP,
    "predict_step": "it is given to predict(model, data, predict_step)",
    "on_validation_start": "on_evaluation_begin",
    "on_validation_begin": "on_evaluation_begin",
    "on_validation_end": "on_evaluation_end",
    "on_validation_epoch_start": "on_evaluation_begin",
    "on_validation_epoch_end": "on_evaluation_end",
    "validation_epoch_end": "on_evaluation_end",
    "on_validation_batch_start": "on_after_batch_prediction",
    "on_validation_batch_end": "on_after_batch_prediction",
    "on_val_start": "on_evaluation_begin",
    "on_val_begin": "on_evaluation_begin",
    "on_val_end": "on_evaluation_end",
    "on_test_start": "on_evaluation_begin",
    "on_test_begin": "on_evaluation_begin",
    "on_test_end": "on_evaluation_end",
    "on_test_epoch_start": "on_evaluation_begin",
    "on_test_epoch_end": "on_evaluation_end",
    "on_test_batch_start": "on_after_batch_prediction",
    "on_test_batch_end": "on_after_batch_prediction",
    "on_predict_start": "on_evaluation_begin",
    "on_predict_begin": "on_evaluation_begin",
    "on_predict_end": "on_evaluation_end",
    "on_predict_batch_end": "on_after_batch_prediction",
    "on_evaluation_start": "on_evaluation_begin",
    "on_eval_start": "on_evaluation_begin",
    "on_eval_begin": "on_evaluation_begin",
    "on_eval_end": "on_evaluation_end",
    "on_save_checkpoint": "on_checkpoint_saved",
    "on_load_checkpoint": "write 'on_train_begin', whose ctx.resumed is true in a run that goes on",
    "on_exception": "write 'on_train_end', whose ctx.end is Failed(error)",
    # Transformers and accelerate: a step is an update there
    "on_init_end": "on_train_loop_registration",
    "on_step_begin": "on_batch_begin",
    "on_step_start": "on_batch_begin",
    "on_step_end": _BATCH_OR_UPDATE,
    "on_substep_end": "on_batch_end",
    "on_pre_optimizer_step": _GRADIENTS,
    "on_optimizer_step": "on_after_optimizer_step",
    "on_evaluate": "on_evaluation_end",
    "on_predict": "on_evaluation_end",
    "on_prediction_step": "on_after_batch_prediction",
    "on_save": "on_checkpoint_saved",
    "on_checkpoint": "on_checkpoint_saved",
    "on_log": "on_record",
    # Ignite
    "started": "on_train_begin",
    "completed": "on_train_end",
    "epoch_started": "on_epoch_begin",
    "epoch_completed": "on_epoch_end",
    "iteration_started": "on_batch_begin",
    "iteration_completed": "on_batch_end",
    "on_iteration_start": "on_batch_begin",
    "on_iteration_end": "on_batch_end",
    "get_batch_completed": "on_batch_begin",
    "exception_raised": "write 'on_train_end', whose ctx.end is Failed(error)",
    # fastai
    "before_fit": "on_train_begin",
    "after_fit": "on_train_end",
    "before_epoch": "on_epoch_begin",
    "after_epoch": "on_epoch_end",
    "before_train": "on_epoch_begin",
    "before_batch": "on_batch_begin",
    "after_loss": "transform_loss",
    "before_backward": "transform_loss",
    "after_backward": "on_after_backward",
    "before_step": _GRADIENTS,
    "after_step": "on_after_optimizer_step",
    "after_batch": "on_batch_end",
    "before_validate": "on_evaluation_begin",
    "after_validate": "on_evaluation_end",
    # Composer
    "fit_start": "on_train_begin",
    "fit_end": "on_train_end",
    "epoch_start": "on_epoch_begin",
    "epoch_end": "on_epoch_end",
    "batch_start": "on_batch_begin",
    "batch_end": "on_batch_end",
    "before_loss": "transform_loss",
    "eval_start": "on_evaluation_begin",
    "eval_end": "on_evaluation_end",
    "eval_batch_end": "on_after_batch_prediction",
    # skorch
    "on_grad_computed": _GRADIENTS,
}
"""Other frameworks' names of events, in lower case: the name of ours, or, with a space in it, what to write."""

_FRAMEWORKS = {
    "pytorch_lightning": "Lightning",
    "lightning": "Lightning",
    "keras": "Keras",
    "tf_keras": "Keras",
    "tensorflow": "TensorFlow",
    "transformers": "Transformers",
    "ignite": "Ignite",
    "fastai": "fastai",
    "composer": "Composer",
    "skorch": "skorch",
    "catalyst": "Catalyst",
    "accelerate": "Accelerate",
}

_OURS = {
    "EarlyStopping": "early_stopping",
    "EarlyStoppingCallback": "early_stopping",
    "EarlyStopper": "early_stopping",
    "TerminateOnNaN": "stop_on_nonfinite",
    "TerminateOnNan": "stop_on_nonfinite",
    "Timer": "time_limit",
    "TimeLimit": "time_limit",
    "ModelCheckpoint": "checkpoint",
    "Checkpoint": "checkpoint",
    "CheckpointSaver": "checkpoint",
    "BackupAndRestore": "checkpoint",
    "SaveModelCallback": "checkpoint",
    "LearningRateMonitor": "lr_monitor",
    "LRMonitor": "lr_monitor",
    "LearningRateScheduler": "lr_schedule",
    "LRScheduler": "torch_scheduler",
    "ReduceLROnPlateau": "reduce_on_plateau",
    "StochasticWeightAveraging": "swa",
    "WeightAveraging": "ema",
    "EMAWeightAveraging": "ema",
    "EMA": "ema",
    "EMAHandler": "ema",
    "SWA": "swa",
    "GradientClip": "clip_grad_norm",
    "GradientClipping": "clip_grad_norm",
    "MixUp": "mixup",
    "CutMix": "cutmix",
    "BackboneFinetuning": "freeze",
    "BaseFinetuning": "freeze",
    "Freezer": "freeze",
    "ProgressBar": "progress",
    "ProgbarLogger": "progress",
    "RichProgressBar": "progress",
    "TQDMProgressBar": "progress",
    "ProgressBarLogger": "progress",
    "ProgressCallback": "progress",
    "CSVLogger": "csv",
    "History": "history",
    "DeviceStatsMonitor": "memory",
    "MemoryMonitor": "memory",
    "SpeedMonitor": "throughput",
    "ThroughputMonitor": "throughput",
    "Profiler": "profiler",
}
"""Callbacks of other frameworks by the name of their class, and the hook of ours for the same."""


def advice_on(event: str) -> str | None:
    """What to write instead of another framework's name of an event; None for a name that is not known."""
    meant = MEANT.get(event.rpartition(".")[2].lower())
    return meant if meant is None or " " in meant else f"here it is {meant!r}"


def advice_on_function(function: Callable[..., object], name: str) -> str:
    """What to write instead of a function alone: many make a hook set or a schedule, and were not called."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return f"say when: {{'on_batch_end': {name}}}"
    returned = signature.return_annotation
    if str(getattr(returned, "__name__", returned)).startswith("HookSet"):
        return f"call it: {name}(...)"
    if get_origin(returned) is Callable:
        return f"call it, and wrap it in a hook: lr_schedule({name}(...))"
    first = next(iter(signature.parameters.values()), None)
    if first is not None and first.annotation in (int, "int"):
        return f"wrap it in a hook: lr_schedule({name})"
    return f"say when: {{'on_batch_end': {name}}}"


def refuse_as_function(hook: object, event: str) -> None:
    """Refuse what stands in the place of one event's function and is, or makes, a whole hook set.

    Raises:
        HookDefinitionError: with where it goes.
    """
    what = shown(hook)
    if isinstance(hook, ComparedByEquality):
        raise HookDefinitionError(f"{event} got the hook set {what}, which has its own events; put it into hooks=.")
    if isinstance(getattr(hook, "settings", None), Settings):
        raise HookDefinitionError(f"{event} got the schedule {what}; put lr_schedule({what}) into hooks=.")
    if _returns_a_set(hook):
        name = str(getattr(hook, "__name__", what))
        raise HookDefinitionError(f"{event} got {name}, which makes a hook set; put {name}(...) into hooks=.")


def _returns_a_set(function: object) -> bool:
    annotations: object = getattr(function, "__annotations__", None)
    returned = cast("Mapping[str, object]", annotations).get("return") if isinstance(annotations, dict) else None
    return str(getattr(returned, "__name__", returned)).startswith("HookSet")


_KEYWORDS: Mapping[str, str] = {
    "Evaluation": "evaluations=[...]",
    "Experiment": "experiment=...",
    "Objective": "optimizer=[...]",
}
"""What of ours goes to another argument of `train`, and to which; named, since it is built on this storey."""


def refuse_callback(given: object) -> None:
    """Refuse an object of another framework, known by the module of its class; none of them is imported.

    Raises:
        HookDefinitionError: with the hook of ours that does the same, or with our names of its events.
    """
    kind = type(given)
    framework = next((_FRAMEWORKS[one] for one in _packages(kind) if one in _FRAMEWORKS), None)
    if framework is None or isinstance(given, nn.Module):
        return
    hook = next((_OURS[one.__name__] for one in kind.__mro__ if one.__name__ in _OURS), None)
    meant = [f"for {name}, {advice_on(name)}" for name in vars(kind) if name in MEANT]
    raise HookDefinitionError(
        f"hooks= got {kind.__qualname__}, which is written for {framework} and would be called in another way here; "
        + (f"write trainhooks.hooks.{hook}(...)." if hook else f"{'; '.join(meant) or 'write it for our events'}.")
    )


def advice_about(given: object) -> str | None:
    """What to write instead of an object that is no hook; None for what is not known."""
    name = type(given).__qualname__
    if callable(given) and isinstance(getattr(given, "settings", None), Settings):
        return f"{given!r} is a schedule; wrap it in a hook: lr_schedule({given!r})"
    if isinstance(given, LRScheduler):
        return f"{name} is made for one optimizer; write torch_scheduler(lambda optimizer: {name}(optimizer, ...))"
    if isinstance(given, Optimizer):
        return f"{name} is an optimizer; give it to train(model, data, step, optimizer, ...)"
    if isinstance(given, DataLoader | Dataset):
        return f"{name} is data; give it to train(model, data, ...), or to an Evaluation(name, data)"
    if isinstance(given, Trigger):
        return f"{given!r} is a trigger; say what is due then: when({given!r}, hook)"
    if isinstance(given, Answer):
        return f"{name} is an answer; return it from a hook: {{'on_epoch_end': lambda ctx: {name}(...)}}"
    if name in _KEYWORDS and type(given).__module__.startswith("trainhooks."):
        return f"{name} goes into train(..., {_KEYWORDS[name]})"
    if isinstance(given, Set | Iterator | ValuesView):
        return f"{name} is no sequence; give its hooks as a list"
    if "torchmetrics" in _packages(type(given)):
        return f"{name} is a metric; give it to an Evaluation(name, data, metrics={{'name': metric}})"
    if isinstance(given, nn.Module):
        return f"{name} is a module; give the model to train(model, data, ...)"
    if name in ("SummaryWriter", "Run") or name.endswith("Logger"):
        return f"{name} has no method of ours; write to it in a hook on 'on_record', from ctx.values and ctx.at"
    return None


def _packages(kind: type) -> list[str]:
    return [one.__module__.partition(".")[0] for one in kind.__mro__]
