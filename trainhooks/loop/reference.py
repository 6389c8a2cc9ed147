"""Read this first: the heart of trainhooks, the definition of what every event means and when it fires.

`train_loop` is an ordinary function over two values: `live`, the counters and values of one run, and `heard`, one
callable per event. A context is built only where somebody listens. What runs is this function with the sites that
nobody hears taken out (`specialiser`); with `specialised=False` it runs as it stands, with equal results.

The parts that it calls read the same way: `update.update` (gradients to parameters), `boundary.at_boundary`
(evaluations, records, decisions), `evaluation.evaluate`.
"""

# A run has at least one worker, so what the last one leaves is bound:
# mypy: disable-error-code=possibly-undefined
# pyright: reportPossiblyUnboundVariable=false

from contextlib import nullcontext

from trainhooks.core import AfterBackward, BatchBegin, BatchEnd, EpochBegin, LossReady, RatesDue, TrainBegin

from .boundary import at_begin, at_boundary, at_epoch_end
from .heard import Heard
from .live import NO_LOSS, NO_OUTPUT, Live
from .transfer import detached
from .update import update


def train_loop(live: Live, heard: Heard) -> None:
    """Train until the run is complete, somebody stops it, or something raises."""
    run = live.run
    with heard.around_train(
        TrainBegin(run=run, at=live.at, resumed=live.resumed)
    ) if heard.around_train is not None else nullcontext():
        if heard.on_train_begin is not None:
            live.ask(heard.on_train_begin(TrainBegin(run=run, at=live.at, resumed=live.resumed)))
        at_begin(live, heard)

        while live.wants_epoch():
            live.begin_epoch()
            with heard.around_epoch(
                EpochBegin(run=run, at=live.at, batches=live.length)
            ) if heard.around_epoch is not None else nullcontext():
                if heard.on_epoch_begin is not None:
                    if live.opens_epoch:
                        live.ask(heard.on_epoch_begin(EpochBegin(run=run, at=live.at, batches=live.length)))
                        at_boundary(live, heard)

                for batch in live.feed():
                    if heard.on_batch_begin is not None:
                        if live.ask(heard.on_batch_begin(
                            BatchBegin(run=run, at=live.at, batch=batch, closes_window=live.closes)
                        )):  # fmt: skip
                            if live.open == 0:
                                at_boundary(live, heard)
                            continue  # a skipped batch has no later event
                        live.closes = live.closes or live.ends_epoch
                    if heard.transform_batch is not None:
                        batch = heard.transform_batch(  # noqa: PLW2901
                            BatchBegin(run=run, at=live.at, batch=batch, closes_window=live.closes), batch
                        )

                    if heard.transform_rates is not None:
                        if live.open == 0:  # this batch opens a window
                            for rates in live.rates:
                                rates.put(heard.transform_rates(
                                    RatesDue(run=run, at=live.at, optimizer_idx=rates.optimizer_idx), rates.bases()
                                ))  # fmt: skip

                    for worker in live.workers:
                        output, loss = NO_OUTPUT, NO_LOSS  # the objective before lets go of what it computed
                        output = live.forward(worker.objective.step, live.model, batch)
                        loss, weight = output.loss, output.weight
                        if heard.transform_loss is not None:
                            loss = heard.transform_loss(LossReady(
                                run=run, at=live.at_start, batch=batch, output=output.output, weight=weight,
                                optimizer_idx=worker.index, closes_window=live.closes,
                            ), loss)  # fmt: skip
                        worker.backward(loss, weight, live.closes)
                        worker.account(loss, output)
                        if heard.on_after_backward is not None:
                            live.ask(heard.on_after_backward(AfterBackward(
                                run=run, at=live.at_start, loss=loss.detach(), optimizer_idx=worker.index,
                                closes_window=live.closes,
                            )))  # fmt: skip
                        if live.closes:
                            update(live, heard, worker)

                    live.count_batch()
                    if heard.on_batch_end is not None:
                        losses = live.losses()
                        live.ask(heard.on_batch_end(BatchEnd(
                            run=run, at=live.at, batch=detached(batch), output=detached(output.output),
                            loss=losses[worker.objective.name], losses=losses, weight=weight,
                            updated=live.updated, closes_window=live.closes,
                        )))  # fmt: skip
                    output, loss, worker.newest = NO_OUTPUT, NO_LOSS, None  # let go before the next forward
                    if live.closes and not live.last and not live.ends_epoch:
                        at_boundary(live, heard)

                if live.open > 0:  # the data's last batch was skipped, or the epoch was ended within a window
                    live.close_short()
                    for worker in live.workers:
                        update(live, heard, worker)
                    live.end_window()
                at_epoch_end(live, heard)
