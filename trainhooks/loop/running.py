"""A whole run: registration, training, and one end whatever happens."""

import signal
import traceback
from collections.abc import Callable, Sequence

from trainhooks.core import Completed, End, Failed, Interrupted, ProcessStart, Registration, TrainEnd
from trainhooks.distributed import restart_count

from .delivery import deliver
from .failing import Alarm
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
    alarm = Alarm(live)
    error: BaseException | None = None
    raised: list[BaseException] = []
    try:
        if heard.on_train_loop_registration is not None:
            heard.on_train_loop_registration(Registration(run=live.run, at=live.at))
        if heard.on_multiprocess_start is not None:
            if live.together is not None:
                heard.on_multiprocess_start(ProcessStart(
                    run=live.run, at=live.at, rank=live.run.rank, restart_count=restart_count()
                ))  # fmt: skip
        live.prepare(live)
        train_loop(live, alarm.before_the_hooks(heard))
        deliver(live, heard)
        if live.saver is not None:
            finish_saving(live, heard, live.saver, together=True)
        end = live.end or Completed()
    except BaseException as caught:
        error = caught
        alarm.tell(error)
        end = _end_by(error, live.interrupts.signal)
        raised += _raised_by(deliver, live, heard)
        if live.saver is not None:
            raised += _raised_by(finish_saving, live, heard, live.saver, together=False)
    if heard.on_train_end is not None:
        raised += heard.on_train_end(TrainEnd(run=live.run, at=live.at, end=end))
    raise_all(error, raised)
    return end


def _end_by(error: BaseException, came: int | None) -> End:
    """How a run ended that was left by an exception; `came`: its first signal, which an inner run may have raised."""
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(signal.SIGINT)
    if isinstance(error, SystemExit) and came == signal.SIGTERM:
        return Interrupted(came)
    return Failed(error)


def _raised_by(part: Callable[..., None], *arguments: object, **further: object) -> list[BaseException]:
    """What a part of the end raises: the rest of it is still to come."""
    try:
        part(*arguments, **further)
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
