"""What a boundary decides: evaluations that are due, what everybody asked for, and whether the run goes on."""

from collections.abc import Iterator

from trainhooks.core import Decision, EndEpoch, Interrupted

from .live import Live
from .requests import DueEvaluation
from .saver import Order


def due(live: Live, *, begins: bool = False) -> Iterator[DueEvaluation]:
    """The evaluations due at this boundary, by their triggers or because somebody asked; over ranks, all agree.

    They agree here if somebody asked before, and at a boundary that stops them in any case: an evaluation or a
    checkpoint is due, the epoch is complete, nothing was trained since the last, or no update follows. Otherwise what
    is asked for waits for the next one.
    """
    moved = live.boundaries.has_moved(live.counts)
    waiting = live.requests.due(live) if moved else live.requests.due_at_begin(live.resumed) if begins else []
    if live.together is not None:
        if live.saver is not None:
            live.together.news += live.saver.news()
        stops_here = bool(waiting) or live.is_full() or (moved and live.together.is_saved_at(live))
        if stops_here or not moved or not live.in_epoch or live.together.somebody:
            agree(live)
        elif live.together.something and live.saver is not None:
            live.saver.hear(live.together.exchange_news())
    return _each(live, waiting)


def asked_for(live: Live) -> Iterator[DueEvaluation]:
    """The evaluations that somebody asked for; over ranks, all agree."""
    agree(live)
    return _each(live, [])


def _each(live: Live, waiting: list[DueEvaluation]) -> Iterator[DueEvaluation]:
    """Each of them, and then what the hooks of one of them ask for."""
    requests = live.requests
    while (evaluation := requests.next_of(waiting)) is not None:
        yield evaluation
        agree(live)


def agree(live: Live) -> None:
    """Over ranks, tell the others what this one asked for, and hear what they did; in one process nothing is new."""
    together = live.together
    if together is None:
        return
    asked, news = together.exchange()
    live.requests.take(asked)
    live.ends_epoch = live.ends_epoch or any(isinstance(one.answer, EndEpoch) for one in asked)
    if live.saver is not None:
        live.saver.hear(news)


def settle(live: Live) -> None:
    """Let the answers of this boundary take effect, and open the next interval."""
    requests = live.requests
    signal = live.interrupts.signal if live.together is None else live.together.signal
    if requests.asked or requests.here or signal is not None or live.end is not None:
        _decide(live, requests.settle(), signal)
    live.leaving = live.end is not None or live.is_full()
    live.boundaries.move_to(live.counts, live.seen)


def _decide(live: Live, decision: Decision, signal: int | None) -> None:
    live.end = decision.stop or live.end
    if live.end is None and signal is not None:
        live.end = Interrupted(signal)
    if decision.save is not None or (live.end and live.saver and live.saver.wants_end(live.at)):
        live.order = Order(tags=decision.save or (), by=decision.savers, at=live.at, since=live.since)
