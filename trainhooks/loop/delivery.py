"""Records on their way to who hears them."""

from trainhooks.core import Recorded

from .heard import Heard
from .live import Live


def deliver(live: Live, heard: Heard) -> None:
    """Hand every waiting record to who hears them; the device is read once."""
    if heard.on_record is not None:
        for one in live.records.drain():
            heard.on_record(Recorded(
                run=live.run, at=one.at, since=one.since, by=one.by, values=one.numbers(), until=one.until
            ))  # fmt: skip
