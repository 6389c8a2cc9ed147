"""What batches are made of; refusing that of which none can be made, with a sentence that says what to write."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, cast

from torch import nn
from torch.utils.data import Dataset, IterableDataset
from typing_extensions import TypeVar

from trainhooks.core import Rank, whole_number
from trainhooks.errors import RunDefinitionError, shown

T_co = TypeVar("T_co", covariant=True)


class Samples(Protocol[T_co]):
    """Samples by their index; that they have a length is checked when a loader is made of them."""

    def __getitem__(self, index: int, /) -> T_co: ...


Collate: TypeAlias = Callable[[list[object]], object]
"""Makes a batch of a list of samples."""


def check_count(function: str, argument: str, value: object, least: int) -> int:
    """`value` as an int; what is no whole number from `least` on is refused."""
    count = whole_number(value, least)
    if count is None:
        raise RunDefinitionError(f"{function} takes {argument} as a whole number from {least} on, got {shown(value)}.")
    return count


def check_seed(seed: object) -> int:
    """The seed as an int; what is no whole number is refused."""
    number = whole_number(seed)
    if number is None:
        raise RunDefinitionError(f"seeded_loader takes seed as a whole number, such as seed=0, got {shown(seed)}.")
    return number


def check_collate_fn(collate_fn: object) -> None:
    """Refuse what is no function."""
    if collate_fn is not None and not callable(collate_fn):
        raise RunDefinitionError(
            "seeded_loader takes collate_fn as a function of the list of a batch's samples, or None, got "
            f"{shown(collate_fn)}."
        )


def checked_length(dataset: object) -> int:
    """How many samples a dataset has; one that cannot be read by index is refused."""
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        raise RunDefinitionError(
            f"seeded_loader reads samples by their index, and {kind} is an IterableDataset, which has none. Write a "
            "Dataset with __getitem__ and __len__, or give train a DataLoader of it, which resumes at the beginning "
            "of an epoch."
        )
    for method in ("__getitem__", "__len__"):
        if not hasattr(type(dataset), method):
            raise RunDefinitionError(
                f"seeded_loader takes a dataset with __getitem__ and __len__, and {kind} has no {method}; give it "
                "torch.utils.data.TensorDataset(x, y), a list of samples, or a Dataset of your own."
            )
    try:
        length = len(cast("list[object]", dataset))
    except (TypeError, NotImplementedError) as error:
        raise RunDefinitionError(f"seeded_loader needs len() of the dataset, and {kind} has none: {error}.") from error
    if length == 0:
        raise RunDefinitionError(f"seeded_loader got a dataset without a sample ({kind}); give it at least one.")
    return length


def check_batches(what: str, data: object) -> None:
    """Refuse what gives samples, keys or letters where it is iterated, rather than batches; it is not iterated.

    Args:
        what: Names the data, at the begin of a sentence.
        data: What was given.

    Raises:
        RunDefinitionError: if it is a dataset that is read by index, a tensor, an array or a table, a mapping, a text,
            a model, or a class.
    """
    kind = type(data).__name__
    if isinstance(data, type):
        raise RunDefinitionError(f"{what} is the class {data.__qualname__}; give an object: {data.__name__}(...).")
    if _is_map_style(data):
        raise RunDefinitionError(
            f"{what} is a dataset ({kind}), which gives samples and not batches; wrap it in a DataLoader: "
            "DataLoader(dataset, batch_size=32), or batch_size=None if its items are batches."
        )
    if hasattr(type(data), "__array__") or hasattr(type(data), "__dataframe__"):
        raise RunDefinitionError(
            f"{what} is a {kind}, which gives samples and not batches; wrap it in a DataLoader: "
            "DataLoader(TensorDataset(x, y), batch_size=32)."
        )
    if isinstance(data, Mapping):
        raise RunDefinitionError(
            f"{what} is a {kind}, which gives its keys and not batches; give one of its values, or wrap what is in it "
            "in a DataLoader. A single batch is [batch]."
        )
    if isinstance(data, str | bytes | bytearray | nn.Module):
        raise RunDefinitionError(f"{what} is a {kind}, which gives no batches; wrap a dataset in a DataLoader.")


def _is_map_style(data: object) -> bool:
    """Whether it is a dataset whose samples are read by index; other libraries' have torch's `__getitems__`."""
    kind: type[object] = type(data)
    if isinstance(data, Dataset):
        by_index: object = getattr(kind, "__getitem__", None)
        return not isinstance(data, IterableDataset) and by_index is not Dataset.__getitem__
    return hasattr(kind, "__getitems__")


def check_place(function: str, epoch: object, start: object, rank: Rank, length: int) -> None:
    """Refuse a place that an epoch of `length` batches does not have."""
    check_count(function, "epoch", epoch, 0)
    if check_count(function, "start", start, 0) > length:
        raise RunDefinitionError(
            f"{function} takes start up to the {length} batches of an epoch, got {start!r}: the place was taken with "
            "another dataset, batch_size or number of processes."
        )
    check_rank(function, rank)


def check_rank(function: str, rank: Rank) -> None:
    """Refuse a process that is none of its world."""
    if not 0 <= rank.index < rank.world:
        raise RunDefinitionError(f"{function} takes a rank with an index from 0 to below its world, got {shown(rank)}.")
