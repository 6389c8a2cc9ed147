"""A stand-in for Hugging Face's `ModelOutput`, which torch's pytree knows and which refuses to be edited."""

from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import Any, cast

from torch.utils._pytree import register_pytree_node


def refuse(*_arguments: Any, **_options: Any) -> Any:
    """Stands in for a method that must not be called."""
    raise RuntimeError("You cannot use this on an output of a model.")


REFUSED: Any = refuse


def fill(output: Any) -> None:
    """Give the dict what its fields have."""
    for one in fields(output):
        if getattr(output, one.name) is not None:
            cast("Any", OrderedDict).__setitem__(output, one.name, getattr(output, one.name))


class ModelOutput(OrderedDict[str, Any]):
    """Its dict and its attributes are the same, and what would part them is refused."""

    __delitem__ = setdefault = pop = update = REFUSED

    def __init_subclass__(cls) -> None:
        register_pytree_node(
            cls,
            lambda output: (list(output.values()), list(output.keys())),
            lambda values, names: cls(**dict(zip(names, values, strict=True))),
        )

    def __post_init__(self) -> None:
        fill(self)

    def __getitem__(self, key: Any) -> Any:
        return dict(self.items())[key] if isinstance(key, str) else tuple(self.values())[key]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self and value is not None:
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


@dataclass
class Classified(ModelOutput):
    """What a model for classes returns."""

    loss: Any = None
    logits: Any = None
    hidden: Any = None
