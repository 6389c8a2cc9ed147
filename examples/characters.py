"""A second run: a character model on Python's own standard library, in one process or many, against a bigram baseline.

`.venv/bin/python examples/characters.py` trains a small convolutional network in about a minute on 2 cores: four
batches an update, a cosine schedule with a warm-up, a clipped norm, and an average of the weights, which is what
evaluations see. The text is on every machine that has Python. `--precision bf16-mixed` is for processors that compute
in bf16; others take ten times as long then.

`torchrun --standalone --nproc-per-node 2 examples/characters.py` trains the same network in two processes, and so does
`python examples/characters.py --launch 2`: each takes half of every batch, so the updates are the same.
`--parallel fsdp` gives each process a part of every parameter.
"""

import math
import sysconfig
from argparse import ArgumentParser
from pathlib import Path
from typing import Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from trainhooks import Evaluation, EvaluationEnd, Record, StepOutput, ddp, every, fsdp, launch, train
from trainhooks.data import seeded_loader
from trainhooks.distributed import rank_here
from trainhooks.hooks import clip_grad_norm, cosine, ema, lr_schedule, progress, warmup

Batch: TypeAlias = Tensor
"""Windows of characters, as numbers: (n, LENGTH + 1)."""

LENGTH = 96
BATCH_SIZE = 16
"""Windows of a batch, over all processes."""
ACCUMULATE = 4
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


def windows(characters: Tensor) -> list[Tensor]:
    """The text in pieces of LENGTH + 1 characters."""
    return list(characters.unfold(0, LENGTH + 1, LENGTH + 1))


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
    """Logits of the next character at each place of a window, (n, characters, length), from those before it alone."""

    def __init__(self, width: int = 96, kernel: int = 4, dilations: tuple[int, ...] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(ALPHABET), width)
        self.looks = nn.Sequential(*(Look(width, kernel, dilation) for dilation in dilations))
        self.head = nn.Conv1d(width, len(ALPHABET), 1)

    def forward(self, window: Tensor) -> Tensor:
        logits: Tensor = self.head(self.looks(self.characters(window).mT))
        return logits


def step(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    """The mean loss of the batch's characters, which are the items that it weighs."""
    logits: Tensor = model(batch[:, :-1])
    target = batch[:, 1:]
    return StepOutput(F.cross_entropy(logits, target), weight=float(target.numel()), output=logits, target=target)


def bigram_bits(training: Tensor, held_out: Tensor) -> float:
    """Bits per character of a table of pairs, counted on one text and judged on another."""
    size = len(ALPHABET)
    counts = torch.bincount(training[:-1] * size + training[1:], minlength=size * size).reshape(size, size) + 0.1
    table = (counts / counts.sum(1, keepdim=True)).log2()
    return -float(table[held_out[:-1], held_out[1:]].mean())


def bits(ctx: EvaluationEnd) -> Record:
    return Record({"bits": ctx.metrics["val/loss"] / math.log(2)})


@final
@frozen(kw_only=True)
class Options:
    parallel: Literal["ddp", "fsdp"] = "ddp"
    precision: Literal["float32", "bf16-mixed"] = "float32"
    updates: int = 150


def train_network(options: Options) -> None:
    """What each process does: one, those of torchrun, or those of `launch`."""
    here = rank_here()
    characters = text()
    training, held_out = characters[: -len(characters) // 10], characters[-len(characters) // 10 :]
    loader = seeded_loader(windows(training), batch_size=BATCH_SIZE // here.world, seed=0)
    held = seeded_loader(windows(held_out)[::8], batch_size=BATCH_SIZE, seed=0)
    torch.manual_seed(0)
    result = train(
        Network(), loader, step, lambda model: torch.optim.AdamW(model.parameters(), 3e-3),
        max_updates=options.updates, accumulate=ACCUMULATE, precision=options.precision, seed=0,
        parallel=ddp() if options.parallel == "ddp" else fsdp(layers=Look),
        evaluations=[Evaluation("val", held, when=every(max(1, options.updates // 6), "updates"))],
        hooks=[
            {"name": "bits", "on_evaluation_end": bits, "provides": frozenset({"bits"})},
            clip_grad_norm(1.0),
            lr_schedule(warmup(20, cosine(130))),
            ema(0.95),
            progress(),
        ],
    )  # fmt: skip
    if here.index == 0:
        print(f"A table of pairs: {bigram_bits(training, held_out):.5f} bits per character")
        print(f"The network: {result.metrics['bits']:.5f} bits per character")
        print(f"{result.at.updates} updates, {here.world} {'process' if here.world == 1 else 'processes'}")


def main() -> None:
    parser = ArgumentParser(description="Train a character model.")
    parser.add_argument("--parallel", choices=("ddp", "fsdp"), default="ddp", help="how several processes share it")
    parser.add_argument("--precision", choices=("float32", "bf16-mixed"), default="float32")
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--launch", type=int, metavar="N", help="start N processes, as torchrun would")
    given = parser.parse_args()
    options = Options(parallel=given.parallel, precision=given.precision, updates=given.updates)
    if given.launch:
        launch(train_network, options, processes=given.launch)
    else:
        train_network(options)


if __name__ == "__main__":
    main()
