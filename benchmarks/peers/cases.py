"""What is trained for a measurement; without torch, so that whoever counts imports can read it first."""

from typing import Final, NamedTuple


class Case(NamedTuple):
    """A model, with a count of hooks or the realistic set."""

    size: str
    """One of `tasks.SIZES`."""
    hooks: int = 0
    """On the begin of each batch, and as many on its end."""
    realistic: bool = False

    @property
    def name(self) -> str:
        return f"{self.size}, realistic" if self.realistic else f"{self.size}, {self.hooks}"


CASES: Final = (
    *(Case("tiny", hooks) for hooks in (0, 1, 10, 100)),
    Case("tiny", realistic=True),
    Case("mlp", 0),
    Case("mlp", realistic=True),
    Case("convolution", 0),
    Case("convolution", realistic=True),
)
