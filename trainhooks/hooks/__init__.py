"""The hooks that ship: each a factory of a `HookSet`, standing exactly where a hook of yours does."""

from .augment import cutmix, mixup
from .ending import save_at_end
from .factors import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    linear,
    polynomial,
    warmup,
    warmup_stable_decay,
)
from .freezing import freeze
from .gradient_stats import grad_histogram, grad_stats
from .gradients import clip_grad_norm, clip_grad_value, grad_noise, skip_nonfinite_update
from .metrics import performance_report, rename_metrics
from .pace import throughput
from .predictions import collect_predictions, write_predictions
from .progress_bar import progress
from .records import Entry, History, Sheet, csv, history
from .safeguards import stop_on_nonfinite, time_limit
from .sameness import stop_on_constant_predictions
from .saving import checkpoint
from .schedules import lr_monitor, lr_schedule, reduce_on_plateau, torch_scheduler, value_schedule
from .segments import Segments, jsonl
from .sources import save_source
from .stopping import Best, Mode, early_stopping, threshold_stopping
from .tracing import profiler
from .uploads import upload
from .watching import memory, timing
from .weights import ema, swa

__all__ = [
    "Best",
    "Entry",
    "History",
    "Mode",
    "Schedule",
    "Segments",
    "Sheet",
    "checkpoint",
    "clip_grad_norm",
    "clip_grad_value",
    "collect_predictions",
    "constant",
    "cosine",
    "cosine_restarts",
    "csv",
    "cutmix",
    "early_stopping",
    "ema",
    "freeze",
    "grad_histogram",
    "grad_noise",
    "grad_stats",
    "history",
    "jsonl",
    "linear",
    "lr_monitor",
    "lr_schedule",
    "memory",
    "mixup",
    "performance_report",
    "polynomial",
    "profiler",
    "progress",
    "reduce_on_plateau",
    "rename_metrics",
    "save_at_end",
    "save_source",
    "skip_nonfinite_update",
    "stop_on_constant_predictions",
    "stop_on_nonfinite",
    "swa",
    "threshold_stopping",
    "throughput",
    "time_limit",
    "timing",
    "torch_scheduler",
    "upload",
    "value_schedule",
    "warmup",
    "warmup_stable_decay",
    "write_predictions",
]
