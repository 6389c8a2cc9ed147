"""An update: from a window's gradients to changed parameters, written once."""

from trainhooks.core import Gradients, GradientsReady, OptimizerStepped, put_gradients

from .heard import Heard
from .live import Live
from .quick import QUICK_CLIP, marks_of
from .steps import Worker


def update(live: Live, heard: Heard, worker: Worker) -> None:
    """Close a window of one optimizer: normalise, hear, transform, step, count, hear, zero."""
    run = live.run
    steps = worker.normalise()
    if heard.on_after_gradient_update is not None or heard.transform_gradients is not None:
        parameters = tuple(worker.with_gradient())
        ready = GradientsReady(
            run=run, at=live.at_start, since=live.since, batches=live.window, optimizer_idx=worker.index,
            parameters=parameters, names=worker.names_of(parameters), gradients=worker.gradients(parameters),
            norms=worker.norms(parameters), quick=QUICK_CLIP,
        )  # fmt: skip
        gradients: Gradients = ready.gradients
        if heard.on_after_gradient_update is not None:
            before = marks_of(parameters)
            if live.ask(heard.on_after_gradient_update(ready)):
                steps = False
            if marks_of(parameters) != before:
                gradients = tuple([one.grad for one in parameters])  # a hook may have set one to None
                ready = worker.measured_anew(ready, gradients)
        if heard.transform_gradients is not None:
            if steps:
                put_gradients(parameters, heard.transform_gradients(ready, gradients))
    if steps:
        live.interrupts.wait_for(worker.quick.step)
        live.count_update()
    if heard.on_after_optimizer_step is not None:
        live.ask(heard.on_after_optimizer_step(OptimizerStepped(
            run=run, at=live.at, since=live.since, batches=live.window, optimizer_idx=worker.index, stepped=steps
        )))  # fmt: skip
    worker.quick.zero()
