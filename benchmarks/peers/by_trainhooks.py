"""trainhooks, the form of its README: `supervised`, `train`, and a dict of functions for each pair of hooks."""

from collections.abc import Sequence

from trainhooks import BatchBegin, BatchEnd, HookDict, Hooks, Record, every, supervised, when
from trainhooks import train as train_by_trainhooks
from trainhooks.hooks import History, clip_grad_norm, csv, early_stopping, history, lr_schedule

from .driver import MAX_NORM, PATIENCE, Job, Realistic

HOOKS: tuple[str, str] = ("begin", "end")


def train(job: Job) -> Sequence[float]:
    hooks = [pair() for _ in range(job.hooks)] if job.realistic is None else realistic_set(job.realistic)
    step = supervised(job.loss)
    result = train_by_trainhooks(job.model, job.data, step, job.optimizer, epochs=job.epochs, hooks=hooks)
    kept = result.hook_states.get("history")
    return [loss for _, loss in kept.series("batch/loss")] if isinstance(kept, History) else ()


def pair() -> HookDict:
    def begin(ctx: BatchBegin) -> None:
        pass

    def end(ctx: BatchEnd) -> None:
        pass

    return {"on_batch_begin": begin, "on_batch_end": end}


def realistic_set(realistic: Realistic) -> Hooks:
    return [
        {"on_batch_end": loss_of_each_batch},
        clip_grad_norm(MAX_NORM),
        lr_schedule(realistic.factor),
        early_stopping("train/loss", mode="min", patience=PATIENCE),
        when(every(realistic.updates_an_epoch, "updates"), csv(realistic.path)),
        history(),
    ]


def loss_of_each_batch(ctx: BatchEnd) -> Record:
    return Record({"batch/loss": ctx.loss})
