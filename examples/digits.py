"""A first run: a small convolutional network on handwritten digits, with a hook of every form.

`make demo` runs it. The data are the 1,797 pictures of 8 x 8 pixels that ship inside scikit-learn. What it leaves is in
`runs/digits/cnn/`: `metrics.csv`, `curves.png`, and a folder of checkpoints for each run. Stop it with Ctrl-C and start
it again: it goes on where it was, and ends as if it had never stopped.
"""

import math
from collections import Counter
from pathlib import Path
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from attrs import frozen
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset, random_split

from trainhooks import (
    EVENTS,
    BatchEnd,
    BatchPrediction,
    DispatchTable,
    EpochEnd,
    Evaluation,
    Experiment,
    HookDict,
    HookSet,
    Record,
    TrainBegin,
    compose,
    evaluate,
    stateful,
    supervised,
    train,
)
from trainhooks.data import SeededLoader, seeded_loader
from trainhooks.hooks import History, checkpoint, clip_grad_norm, csv, early_stopping, history, lr_schedule, progress

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Pictures of shape (n, 1, 8, 8), from 0 to 1, and their digits, of shape (n,)."""

EPOCHS = 20
BATCH_SIZE = 32


def load() -> list[SeededLoader[Batch]]:
    """Batches of 1,197 pictures to train on, 300 to validate and 300 to test; the split is the same in every run."""
    pixels, digits = cast("tuple[object, object]", load_digits(return_X_y=True))
    pictures = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    data = TensorDataset(pictures, torch.as_tensor(digits))
    parts = random_split(data, [1197, 300, 300], generator=torch.Generator().manual_seed(0))
    return [seeded_loader(part, batch_size=BATCH_SIZE, seed=0, shuffle=part is parts[0]) for part in parts]


def network() -> nn.Module:
    """Two convolutions and a linear layer: logits of shape (n, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(512, 10),
    )


def accuracy(logits: Tensor, digits: Tensor) -> Tensor:
    """The share of pictures whose digit has the greatest logit."""
    return (logits.argmax(1) == digits).float().mean()


def warm_up_then_cosine(update: int, warm_up: int = 38, total: int = 38 * EPOCHS) -> float:
    """A factor for the learning rate: up in a line over the first epoch, then down to 0 along a cosine."""
    if update < warm_up:
        return (update + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (update - warm_up) / (total - warm_up)))


# A hook is a plain function of a context; what it wants of the run, it returns.
def generalisation_gap(ctx: EpochEnd) -> Record:
    return Record({"gap": ctx.metrics["val/loss"] - ctx.metrics["train/loss"]})


gap: HookDict[Batch, Tensor] = {
    "name": "gap",
    "on_epoch_end": generalisation_gap,
    "reads": frozenset({"train/loss", "val/loss"}),
    "provides": frozenset({"gap"}),
}


def say_where(ctx: TrainBegin) -> None:
    if ctx.resumed:
        print(f"Going on from the last checkpoint: {ctx.at}.")


# A hook that keeps a state takes it and returns it: the state lives in the run, under the set's name.
@frozen
class Smooth:
    loss: Tensor | None = None


def smooth(ctx: BatchEnd[Batch, Tensor], state: Smooth) -> tuple[Smooth, None]:
    return Smooth(ctx.loss if state.loss is None else torch.lerp(state.loss, ctx.loss, 0.1)), None


def record_smooth(ctx: EpochEnd, state: Smooth) -> tuple[Smooth, Record | None]:
    return state, None if state.loss is None else Record({"smooth": state.loss})


smoothed_loss: HookSet[Batch, Tensor] = stateful(
    "smoothed_loss", Smooth, on_batch_end=smooth, on_epoch_end=record_smooth, provides=frozenset({"smooth"})
)


# An object with a method named like an event is a hook, too.
class Mistakes:
    """Counts which digits the network takes for which."""

    def __init__(self) -> None:
        self.count: Counter[tuple[int, int]] = Counter()

    def on_after_batch_prediction(self, ctx: BatchPrediction[Batch, Tensor]) -> None:
        digits, guesses = cast("list[list[int]]", torch.stack([ctx.batch[1], ctx.y_pred.argmax(1)]).tolist())
        self.count.update(pair for pair in zip(digits, guesses, strict=True) if pair[0] != pair[1])


def show(table: DispatchTable) -> None:
    """Print which hooks are called on each event, in their order."""
    heard = [event for event in EVENTS if event in table.events]
    for event in heard:
        print(f"  {event:<{max(map(len, heard))}}  {', '.join(table.order(event))}")


def draw(records: History, path: Path) -> None:
    """Draw loss and accuracy over the updates."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, title, names in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), (("train/loss", "val/loss"), ("val/acc",)), strict=True
    ):
        for name in names:
            axes.plot(*zip(*records.series(name), strict=True), label=name)
        axes.set(title=title, xlabel="update")
        axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    experiment = Experiment(project="digits", name="cnn")
    folder = Path("runs/digits/cnn")
    picture = folder / "curves.png"  # drawn at the end, so a run that left none is to be gone on with
    resume: Literal["never", "auto"] = "never" if picture.exists() else "auto"
    picture.unlink(missing_ok=True)
    torch.set_num_threads(1)  # a network as small as this one gains nothing from more
    torch.manual_seed(0)
    train_data, val_data, test_data = load()
    model = network()
    step = supervised(F.cross_entropy)
    hooks = compose(
        gap,
        smoothed_loss,
        clip_grad_norm(1.0),
        lr_schedule(warm_up_then_cosine),
        early_stopping("val/loss", mode="min", patience=5, restore_best=True),
        checkpoint(keep_last=2, keep_best=("val/acc", "max")),
        history(),
        csv(folder / "metrics.csv"),
        progress(),
        {"on_train_begin": say_where},
    )
    print("The hooks, by event, in the order in which they are called:")
    show(hooks)

    result = train(
        model, train_data, step, torch.optim.AdamW(model.parameters(), 3e-3), epochs=EPOCHS, hooks=hooks,
        evaluations=[Evaluation("val", val_data, metrics={"acc": accuracy})], seed=0, experiment=experiment,
        resume=resume,
    )  # fmt: skip

    draw(cast("History", result.hook_states["history"]), picture)
    mistakes = Mistakes()
    test = evaluate(model, test_data, step, name="test", metrics={"acc": accuracy}, hooks=mistakes)
    often = ", ".join(f"{digit} for {guess}" for (digit, guess), _ in mistakes.count.most_common(3))
    print(f"{type(result.end).__name__} after {result.at.updates} updates; in {folder}/: metrics.csv, curves.png")
    print(f"Checkpoints of updates {', '.join(str(one.step) for one in result.checkpoints)} in {folder}/*/")
    print(f"Test accuracy: {test['test/acc']:.1%} of 300 pictures; taken wrongly: {often or 'none'}.")
    print("Next: trainhooks/loop/reference.py, the loop that just ran, reads from top to bottom in one sitting.")


if __name__ == "__main__":
    main()
