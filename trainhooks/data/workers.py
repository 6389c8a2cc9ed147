"""The processes that read ahead, and the signals that a run gets: it still needs them while it ends."""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast, final

from attrs import frozen
from torch.utils.data import DataLoader

from .subset import FirstBatches


def stand_firm(_worker: int) -> None:
    """A signal to all processes of a run is answered by the main one, which still needs its workers.

    The second SIGTERM ends a worker, so that one that hangs can be ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))


@final
@frozen
class FirmStart:
    """What a worker does first: stand firm, then what the loader's user wants of it."""

    then: Callable[[int], None] | None

    def __call__(self, worker: int) -> None:
        stand_firm(worker)
        if self.then is not None:
            self.then(worker)


@contextmanager
def shielded(*data: object) -> Generator[None]:
    """Within it, workers that torch's `DataLoader`s start answer no signal: a run that is told to stop needs them.

    Workers that are there already stay as they are. The loaders' `worker_init_fn` is called as ever, in the worker, and
    may set handlers of its own.

    Args:
        *data: Whatever a run reads; those of it that are `DataLoader`s, also under `first`, are meant.

    Example:
        >>> loader = DataLoader([1, 2, 3])
        >>> with shielded(loader):
        ...     print(type(loader.worker_init_fn).__name__)
        FirmStart
        >>> print(loader.worker_init_fn)
        None
    """
    loaders: dict[int, DataLoader[Any]] = {}
    for loader in map(_whole, data):
        if loader is not None and not isinstance(loader.worker_init_fn, FirmStart):
            loaders[id(loader)] = loader
    own = [(one, one.worker_init_fn) for one in loaders.values()]
    for loader, then in own:
        loader.worker_init_fn = FirmStart(then)
    try:
        yield
    finally:
        for loader, then in own:
            loader.worker_init_fn = then


def _whole(data: object) -> DataLoader[Any] | None:
    """The loader that `data` is, or is the beginning of."""
    while isinstance(data, FirstBatches):
        data = cast("Any", data).data
    return cast("Any", data) if isinstance(data, DataLoader) else None
