"""The hooks that ship: each a factory of a `HookSet`, standing exactly where a hook of yours does."""

from .gradients import clip_grad_norm, clip_grad_value
from .progress_bar import progress
from .records import Entry, History, Sheet, csv, history
from .schedules import lr_schedule, torch_scheduler
from .stopping import Best, Mode, early_stopping

__all__ = [
    "Best",
    "Entry",
    "History",
    "Mode",
    "Sheet",
    "clip_grad_norm",
    "clip_grad_value",
    "csv",
    "early_stopping",
    "history",
    "lr_schedule",
    "progress",
    "torch_scheduler",
]
