"""A step under `torch.compile`: one graph, the same results to the last bit, names and checkpoints of the plain one."""

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.loop.programs import Batch, batches, deep, equal, linear, mean_loss, sgd, squares, weights
from trainhooks import (
    Evaluation,
    Experiment,
    HookDefinitionError,
    Ratio,
    StepOutput,
    TrainResult,
    evaluate,
    load_weights,
    supervised,
    train,
)
from trainhooks.hooks import checkpoint

Step: TypeAlias = Callable[[nn.Module, Batch], Tensor | StepOutput[Tensor]]
BACKENDS: Final = ("eager", "aot_eager")
"""Those that need no compiler of C++ and compute with the kernels of the plain step."""


def measured(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    """A step that gives all that a step can give."""
    x, y = batch
    output = cast("Tensor", model(x))
    error = output - y
    values = {"mae": error.abs().mean()}
    return StepOutput(error.square().mean(), weight=float(len(y)), output=output, target=y, values=values)


def summed(model: nn.Module, batch: Batch) -> StepOutput[Tensor]:
    """A step with a sum over samples, and a value with its own count."""
    x, y = batch
    output = cast("Tensor", model(x))
    error = (output - y).square()
    over = error > 1.0
    values = {"large": Ratio((error * over).sum(), over.sum())}
    return StepOutput(error.mean(1).sum(), weight=len(y), output=output, target=y, values=values, reduction="sum")


STEPS: Final[dict[str, Step]] = {
    "bare loss": mean_loss,
    "supervised": cast("Step", supervised(F.mse_loss)),
    "with values": measured,
    "with sums": summed,
}


@pytest.fixture(autouse=True)
def nothing_compiled_yet() -> Generator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(step: Step, backend: str | Callable[..., Any] = "eager") -> Step:
    """The step as one graph; anything that does not fit into it is an error."""
    return torch.compile(step, backend=backend, fullgraph=True)


def uneven() -> list[Batch]:
    """Batches of different sizes, of which the graph is made anew."""
    return [*batches(2), *batches(1, size=2, seed=2), *batches(1, size=3, seed=3)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_compiled_step_is_one_graph_and_trains_the_same(step: Step, backend: str) -> None:
    """Keeps P71, for torch.compile."""
    ours, theirs = linear(), linear()
    found = train(ours, uneven(), compiled(step, backend), sgd(ours), epochs=2)
    expected = train(theirs, uneven(), step, sgd(theirs), epochs=2)
    assert equal(weights(ours), weights(theirs))
    assert found.metrics == expected.metrics


def test_hooks_see_what_the_plain_step_gives() -> None:
    def seen(step: Step) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []

        def see(ctx: Any) -> None:
            assert isinstance(ctx.weight, float)  # also where sizes are symbols of the graph
            rows.append((ctx.loss.item(), ctx.weight, ctx.output.tolist(), ctx.output.requires_grad))

        model = linear()
        train(model, uneven(), step, sgd(model), epochs=1, hooks={"on_batch_end": see})
        return rows

    assert seen(compiled(measured)) == seen(measured)


@pytest.mark.parametrize("given", [{"precision": "bf16-mixed"}, {"accumulate": 2}])
def test_modes_precision_windows_and_evaluations_are_those_of_the_plain_step(given: dict[str, Any]) -> None:
    def trained(step: Step) -> tuple[nn.Module, TrainResult]:
        model = deep()
        data, val = batches(5, size=8), Evaluation("val", batches(2, size=8, seed=2))
        return model, train(model, data, step, sgd(model), epochs=2, evaluations=[val], seed=0, **given)

    (ours, found), (theirs, expected) = trained(compiled(squares)), trained(squares)
    assert equal(weights(ours), weights(theirs))
    assert found.metrics == expected.metrics
    assert evaluate(ours, batches(3), compiled(squares)) == evaluate(theirs, batches(3), squares)


def test_a_step_is_compiled_once_for_training_and_once_for_evaluations() -> None:
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: Iterable[object]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    model = linear()
    train(
        model, batches(6), compiled(squares, backend), sgd(model), epochs=3, evaluations=[Evaluation("val", batches(2))]
    )
    assert len(graphs) == 2


def test_errors_have_the_name_that_the_step_has_without_being_compiled() -> None:
    def unreduced(model: nn.Module, batch: Batch) -> Tensor:
        return cast("Tensor", model(batch[0]))

    model = linear()
    with pytest.raises(HookDefinitionError, match=r"loss of the step '.*\.unreduced' has shape \(4, 2\)"):
        train(model, batches(1), compiled(unreduced), sgd(model), epochs=1)


def test_a_batch_that_is_no_pair_is_refused_in_the_words_of_the_plain_step() -> None:
    model = linear()
    step: Any = torch.compile(supervised(F.mse_loss), backend="eager")  # an error is no part of a graph
    with pytest.raises(HookDefinitionError, match=r"^supervised\(mse_loss\) is for batches of pairs \(x, y\)"):
        train(model, [3], step, sgd(model), epochs=1)


@pytest.mark.parametrize("after", ["compiled", "plain"])
def test_a_run_goes_on_with_a_compiled_step_or_without(tmp_path: Path, after: str) -> None:
    """Keeps P16 and P17, for a compiled step."""
    steps = {"compiled": compiled(squares), "plain": squares}
    kept = Experiment(project="steps", name="compiled", root=tmp_path)

    def run(updates: int, step: Step, resume: Any) -> nn.Module:
        model = linear()
        train(
            model, batches(4), step, sgd(model), max_updates=updates, hooks=checkpoint(), experiment=kept, resume=resume
        )
        return model

    run(4, steps["compiled"], "never")
    resumed = run(8, steps[after], "must")
    whole, bare = linear(), linear(seed=7)
    train(whole, batches(4), squares, sgd(whole), max_updates=8)
    assert equal(weights(resumed), weights(whole))
    load_weights(bare, kept)
    assert equal(weights(bare), weights(whole))


def test_model_and_step_may_both_be_compiled(tmp_path: Path) -> None:
    """Keeps P16, for torch.compile of both."""
    kept = Experiment(project="steps", name="both", root=tmp_path)
    model = cast("nn.Module", torch.compile(linear(), backend="eager"))
    train(model, batches(4), compiled(squares), sgd(model), max_updates=4, hooks=checkpoint(), experiment=kept)
    bare = linear(seed=7)
    load_weights(bare, kept)
    assert equal(weights(bare), weights(model))
