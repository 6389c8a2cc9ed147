"""The front door: `train`, `evaluate`, `predict`, and what they take and give."""

from .evaluating import evaluate, predict
from .evaluations import Evaluation, Metric, MetricObject
from .rate_finding import RateSearch, lr_finder
from .result import EvaluationResult, Predictions, TrainResult
from .supervision import supervised
from .training import train
from .weights import load_weights

__all__ = [
    "Evaluation",
    "EvaluationResult",
    "Metric",
    "MetricObject",
    "Predictions",
    "RateSearch",
    "TrainResult",
    "evaluate",
    "load_weights",
    "lr_finder",
    "predict",
    "supervised",
    "train",
]
