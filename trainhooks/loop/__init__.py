"""The heart: `reference` (read this first), the parts that it calls, and the table that it is specialised to."""

from .averages import MODEL, Averages
from .bindings import Bindings, bind_table
from .capture import (
    bare_state,
    begin_at,
    captured,
    load_bare_state,
    load_what_fits,
    restore,
    restore_streams,
    tensors_of,
)
from .explain import explain
from .feeding import batch_size_of, length_of, place_now, within_epoch
from .forwarding import AUTOCAST, Forward, forward_in
from .heard import Heard, hear
from .interrupts import Interrupts
from .live import Live
from .metrics import check_metrics, keeps_count
from .provided import Source, check_values, names_of_evaluation, names_of_training
from .quick import version_of
from .rates import check_first, on_bases, rates_of, stepping_on_bases, steps_on_bases
from .records import Records
from .reference import train_loop
from .requests import DueEvaluation, Requests
from .saver import Order, Position, Saved, Saver, State
from .scaling import scaling_of
from .specialiser import FUNCTIONS, Functions, specialise
from .steps import Objective, Worker
from .streams import Streams, begin_training, devices_of, named_modules, same_modes
from .table import DispatchTable, compose
from .together import Together
from .transfer import Transfer, move, transfer_of

__all__ = [
    "AUTOCAST",
    "Averages",
    "Bindings",
    "DispatchTable",
    "DueEvaluation",
    "FUNCTIONS",
    "Forward",
    "Functions",
    "Heard",
    "Interrupts",
    "Live",
    "MODEL",
    "Objective",
    "Order",
    "Position",
    "Records",
    "Requests",
    "Saved",
    "Saver",
    "Source",
    "State",
    "Streams",
    "Together",
    "Transfer",
    "Worker",
    "bare_state",
    "batch_size_of",
    "begin_at",
    "begin_training",
    "bind_table",
    "captured",
    "check_first",
    "check_metrics",
    "check_values",
    "compose",
    "devices_of",
    "explain",
    "forward_in",
    "hear",
    "keeps_count",
    "length_of",
    "load_bare_state",
    "load_what_fits",
    "move",
    "named_modules",
    "names_of_evaluation",
    "names_of_training",
    "on_bases",
    "place_now",
    "rates_of",
    "restore",
    "restore_streams",
    "same_modes",
    "scaling_of",
    "specialise",
    "stepping_on_bases",
    "steps_on_bases",
    "tensors_of",
    "train_loop",
    "transfer_of",
    "version_of",
    "within_epoch",
]
