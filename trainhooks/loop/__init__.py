"""The heart: `reference` (read this first), the parts that it calls, and the table that it is specialised to."""

from .bindings import Bindings, bind_table
from .explain import explain
from .feeding import length_of
from .forwarding import AUTOCAST, forward_in
from .heard import Heard, hear
from .interrupts import Interrupts
from .live import Live
from .provided import check_values, names_of_evaluation, names_of_training
from .records import Records
from .reference import train_loop
from .requests import DueEvaluation, Requests
from .scaling import scaling_of
from .specialiser import FUNCTIONS, Functions, specialise
from .steps import Objective, Worker
from .streams import same_modes
from .table import DispatchTable, compose
from .transfer import Transfer, move

__all__ = [
    "AUTOCAST",
    "Bindings",
    "DispatchTable",
    "DueEvaluation",
    "FUNCTIONS",
    "Functions",
    "Heard",
    "Interrupts",
    "Live",
    "Objective",
    "Records",
    "Requests",
    "Transfer",
    "Worker",
    "bind_table",
    "check_values",
    "compose",
    "explain",
    "forward_in",
    "hear",
    "length_of",
    "move",
    "names_of_evaluation",
    "names_of_training",
    "same_modes",
    "scaling_of",
    "specialise",
    "train_loop",
]
