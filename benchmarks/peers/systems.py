"""Which systems are compared, and the environment that each of them needs."""

from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent.parent
FOLDER: Final = ROOT / ".venv-bench"
"""Holds an environment for each entry of `ENVIRONMENTS`."""
CONSTRAINTS: Final = Path(__file__).with_name("constraints.txt")

ENVIRONMENTS: Final[dict[str, tuple[str, ...]]] = {
    "lightning": ("lightning",),
    "ignite": ("pytorch-ignite",),
    "transformers": ("transformers[torch]", "accelerate==1.15.0"),
    "torchtnt": ("torchtnt", "setuptools<81"),
    "skorch": ("skorch",),
    "fastai": ("fastai",),
    "keras": ("keras",),
    "ppe": ("pytorch-pfn-extras",),
    "aitoolbox": ("aitoolbox",),
    "catalyst": ("catalyst", "accelerate==0.26.1"),
}
"""What is installed into each, beside torch."""


class Peer(NamedTuple):
    """A system with a file of its own in this folder."""

    name: str
    """Its file is `by_<name>.py`."""
    title: str
    environment: str | None
    """None is the repository's own `.venv`."""
    imports: tuple[str, ...]
    """The modules that a program of this form imports, beside torch."""
    package: str
    """Whose version is reported."""
    remark: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether its weights must equal those of the hand-written loop bit for bit."""
        return self.name in ("hand", "trainhooks")

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        folder = ROOT / ".venv" if self.environment is None else FOLDER / self.environment
        return folder / "bin" / "python"


BY_HAND: Final = Peer("hand", "by hand", None, (), "torch", "the reference against itself: the noise")
PEERS: Final = (
    BY_HAND,
    Peer("trainhooks", "trainhooks", None, ("trainhooks", "trainhooks.hooks"), "trainhooks"),
    Peer("lightning", "Lightning", "lightning", ("lightning.pytorch",), "lightning"),
    Peer("fabric", "Fabric", "lightning", ("lightning.fabric",), "lightning"),
    Peer("ignite", "Ignite", "ignite", ("ignite.engine", "ignite.handlers", "ignite.metrics"), "pytorch-ignite"),
    Peer("hf", "HF Trainer", "transformers", ("transformers.trainer",), "transformers"),
    Peer(
        "accelerate", "Accelerate", "transformers", ("accelerate",), "accelerate",
        "no hooks of a loop: the loop calls functions",
    ),
    Peer("torchtnt", "TorchTNT", "torchtnt", ("torchtnt.framework",), "torchtnt"),
    Peer("skorch", "skorch", "skorch", ("skorch", "skorch.callbacks"), "skorch", "its default callbacks are off"),
    Peer("fastai", "fastai", "fastai", ("fastai.learner", "fastai.callback.all"), "fastai"),
    Peer("keras", "Keras", "keras", ("keras",), "keras", "layers, loss, optimizer and loss metric of its own"),
    Peer("catalyst", "Catalyst", "catalyst", ("catalyst.dl",), "catalyst", "clips by a callback: its own way fails"),
    Peer("aitoolbox", "AIToolbox", "aitoolbox", ("aitoolbox.torchtrain.train_loop",), "aitoolbox", "draws a bar"),
    Peer(
        "ppe", "pytorch-pfn-extras", "ppe", ("pytorch_pfn_extras",), "pytorch-pfn-extras",
        "hooks at the end of a batch alone: the loop calls those at its begin",
    ),
)  # fmt: skip

ABSENT: Final[dict[str, str]] = {
    "Composer": "mosaicml 0.32.1, its newest release, asks for torch<2.7.1 and torchvision<0.22.1",
}
"""What does not install beside this torch, and why."""
