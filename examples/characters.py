"""A second run: a character model on Python's own standard library, against a bigram baseline.

`.venv/bin/python examples/characters.py` trains a small convolutional network in about a minute on 2 cores: bf16, four
batches an update, a cosine schedule with a warm-up, a clipped norm, and an average of the weights, which is what
evaluations see. The text is on every machine that has Python.
"""

import math
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias, final

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from trainhooks import Evaluation, EvaluationEnd, Record, StepOutput, every, train
from trainhooks.hooks import clip_grad_norm, cosine, ema, lr_schedule, progress, warmup

Batch: TypeAlias = Tensor
"""Windows of characters, as numbers: (n, LENGTH + 1)."""

LENGTH = 96
BATCH_SIZE = 16
ACCUMULATE = 4
UPDATES = 150
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))


def text(characters: int = 2_000_000) -> Tensor:
    """The first characters of the standard library's modules, by name, as numbers; others than ASCII are left out."""
    folder = Path(sysconfig.get_path("stdlib"))
    number = {character: place for place, character in enumerate(ALPHABET)}
    found: list[int] = []
    for file in sorted(folder.glob("*.py")):
        found += [number[one] for one in file.read_text(encoding="utf-8", errors="ignore") if one in number]
        if len(found) >= characters:
            break
    return torch.tensor(found[:characters])


@final
@frozen(eq=False)
class Windows:
    """Batches of windows at random places, the same in each run."""

    characters: Tensor
    batches: int
    seed: int

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.batches):
            starts = torch.randint(len(self.characters) - LENGTH, (BATCH_SIZE, 1), generator=generator)
            yield self.characters[starts + torch.arange(LENGTH + 1)]


class Look(nn.Module):
    """A gated convolution over each place and those before it, added to what it was given: (n, width, length)."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.look = nn.Conv1d(width, 2 * width, kernel, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        looked: Tensor = self.look(F.pad(features, (self.past, 0)))
        mixed: Tensor = self.mix(F.glu(looked, dim=1))
        return features + mixed


class Network(nn.Module):
    """Logits of the next character at each place of a window, (n, length, characters), from those before it alone."""

    def __init__(self, width: int = 96, kernel: int = 4, dilations: tuple[int, ...] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(ALPHABET), width)
        self.looks = nn.Sequential(*(Look(width, kernel, dilation) for dilation in dilations))
        self.head = nn.Linear(width, len(ALPHABET))

    def forward(self, window: Tensor) -> Tensor:
        logits: Tensor = self.head(self.looks(self.characters(window).mT).mT)
        return logits


def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    """The mean loss of the batch's characters, which are the items that it weighs."""
    logits: Tensor = model(batch[:, :-1])
    target = batch[:, 1:]
    return StepOutput(F.cross_entropy(logits.flatten(0, 1), target.flatten()), float(target.numel()), logits, target)


def bigram_bits(training: Tensor, held_out: Tensor) -> float:
    """Bits per character of a table of pairs, counted on one text and judged on another."""
    size = len(ALPHABET)
    counts = torch.bincount(training[:-1] * size + training[1:], minlength=size * size).reshape(size, size) + 0.1
    table = (counts / counts.sum(1, keepdim=True)).log2()
    return -float(table[held_out[:-1], held_out[1:]].mean())


def bits(ctx: EvaluationEnd) -> Record:
    return Record({"bits": ctx.metrics["val/loss"] / math.log(2)})


def main() -> None:
    torch.manual_seed(0)
    characters = text()
    training, held_out = characters[: -len(characters) // 10], characters[-len(characters) // 10 :]
    baseline = bigram_bits(training, held_out)
    print(
        f"{len(characters):,} characters of the standard library; a table of pairs: {baseline:.3f} bits per character"
    )

    model = Network()
    result = train(
        model, Windows(training, UPDATES * ACCUMULATE, seed=0), step, torch.optim.AdamW(model.parameters(), 3e-3),
        epochs=1, accumulate=ACCUMULATE, precision="bf16-mixed", seed=0,
        evaluations=[Evaluation("val", Windows(held_out, 16, seed=1), when=every(UPDATES // 6, "updates"))],
        hooks=[
            {"name": "bits", "on_evaluation_end": bits, "provides": frozenset({"bits"})},
            clip_grad_norm(1.0),
            lr_schedule(warmup(20, cosine(UPDATES - 20))),
            ema(0.95),
            progress(),
        ],
    )  # fmt: skip
    print(f"The network: {result.metrics['bits']:.3f} bits per character after {result.at.updates} updates")


if __name__ == "__main__":
    main()
