"""A boundary: the end of an update, where everything that hooks asked for takes effect."""

from trainhooks.core import EpochEnd

from .deciding import asked_for, due, settle
from .delivery import deliver
from .evaluation import evaluate
from .heard import Heard
from .live import Live
from .records import LOOP
from .saving import save


def at_begin(live: Live, heard: Heard) -> None:
    """Before the first epoch of this process: what `on_train_begin` asked for, and what is due at 0."""
    if heard.on_train_begin is not None:  # noqa: SIM114 - apart, so that the specialiser can take it out
        at_boundary(live, heard, begins=True)
    elif live.requests.due_at_begin(live.resumed):
        at_boundary(live, heard, begins=True)


def at_boundary(live: Live, heard: Heard, *, begins: bool = False) -> None:
    """Between two windows: evaluations that are due, records, and the decision whether to go on."""
    if live.requests.within_epochs or live.requests.asked or live.together is not None or begins:
        for evaluation in due(live, begins=begins):
            evaluate(live, heard, evaluation)
    if heard.on_record is not None:
        if live.records.ripe():
            deliver(live, heard)
    settle(live)
    if live.saver is not None:
        save(live, heard, live.saver)


def at_epoch_end(live: Live, heard: Heard) -> None:
    """The boundary that ends an epoch, or nothing if the epoch was cut short."""
    if not live.complete_epoch():
        return
    for evaluation in due(live):
        evaluate(live, heard, evaluation)
    if heard.on_epoch_end is not None:
        metrics = live.records.values(live.records.of_epoch(LOOP))
        live.ask(heard.on_epoch_end(EpochEnd(run=live.run, at=live.at, since=live.epoch_began, metrics=metrics)))
        for evaluation in asked_for(live):
            evaluate(live, heard, evaluation)
    live.add_history_row()
    if heard.on_record is not None:
        deliver(live, heard)
    settle(live)
    if live.saver is not None:
        save(live, heard, live.saver)
