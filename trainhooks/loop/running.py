"""A whole run: registration, training, and one end whatever happens."""

import signal
import traceback
from collections.abc import Callable, Sequence

from trainhooks.core import Completed, End, Failed, Interrupted, ProcessStart, Registration, TrainEnd

from .around import say_where
from .delivery import deliver
from .heard import Heard
from .live import Live
from .reference import train_loop
from .saving import finish_saving


def run(live: Live, heard: Heard) -> End:
    """Run from registration to the end hooks, which are called exactly once.

    Raises:
        BaseException: what ended the run, with a note for each end hook that raised too; or, if only end hooks raised,
            the one exception or a group of them.
    """
    error: BaseException | None = None
    raised: list[BaseException] = []
    try:
        if heard.on_train_loop_registration is not None:
            heard.on_train_loop_registration(Registration(run=live.run, at=live.at))
        live.prepare(live)
        if heard.on_multiprocess_start is not None:
            if live.run.rank.world > 1:
                rank = live.run.rank
                heard.on_multiprocess_start(ProcessStart(run=live.run, at=live.at, rank=rank, restart_count=0))
        train_loop(live, heard)
        deliver(live, heard)
        if live.saver is not None:
            finish_saving(live, heard, live.saver)
        end = live.end or Completed()
    except BaseException as caught:
        error = caught
        say_where(error, live.at)
        end = Interrupted(signal.SIGINT) if isinstance(error, KeyboardInterrupt) else Failed(error)
        raised += _raised_by(deliver, live, heard)
        if live.saver is not None:
            raised += _raised_by(finish_saving, live, heard, live.saver)
    if heard.on_train_end is not None:
        raised += heard.on_train_end(TrainEnd(run=live.run, at=live.at, end=end))
    raise_all(error, raised)
    return end


def _raised_by(part: Callable[..., None], *arguments: object) -> list[BaseException]:
    """What a part of the end raises: the rest of it is still to come."""
    try:
        part(*arguments)
    except BaseException as error:
        return [error]
    return []


def raise_all(error: BaseException | None, later: Sequence[BaseException]) -> None:
    """Raise `error` with what was raised after it attached, or what was raised later alone."""
    if error is not None:
        for one in (one for one in later if one is not error):
            error.add_note("While the run ended, this was raised too: " + "".join(traceback.format_exception(one)))
        raise error
    if len(later) == 1:
        raise later[0]
    if later:
        raise BaseExceptionGroup("Several hooks raised while the run ended", later)
