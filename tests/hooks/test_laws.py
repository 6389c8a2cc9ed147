"""One table of laws, and every hook that ships goes through it."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import trainhooks.hooks
from tests.hooks.cases import CASES, PLAIN_FUNCTIONS, Case, network, pictures, plain, run
from tests.hooks.reads import DeviceReads
from tests.loop.programs import equal, weights
from trainhooks import (
    BatchEnd,
    EpochEnd,
    Evaluation,
    HookDefinitionError,
    HookSet,
    Trigger,
    every,
    every_seconds,
    supervised,
    train,
    when,
)

CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_the_table_holds_every_hook_that_ships() -> None:
    factories = {name for name in trainhooks.hooks.__all__ if name.islower()}
    assert set(CASES) == factories - PLAIN_FUNCTIONS


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)
def test_it_knows_its_factory_and_arguments_and_is_a_value_of_them(name: str, case: Case, tmp_path: Path) -> None:
    """Keeps P92."""
    made = cast("HookSet", case.make(tmp_path))
    assert made.settings is not None
    assert made.settings.factory is vars(trainhooks.hooks)[name]
    again = cast("HookSet", made.settings.made_again())
    assert again == made
    assert hash(again) == hash(made)
    assert "0x" not in repr(made)
    assert [event for event, _ in again.slots] == [event for event, _ in made.slots]
    if "<locals>" in repr(made) or "<lambda>" in repr(made):  # the table of cases gives some
        with pytest.raises(HookDefinitionError, match="does not pickle, because its argument "):
            pickle.dumps(made)
    else:
        assert pickle.loads(pickle.dumps(made)) == made


@CASE
def test_it_does_to_tensors_and_streams_what_it_declares_and_no_more(case: Case, tmp_path: Path) -> None:
    """Keeps P68."""
    looked_at, free = network(), network()
    experiment = case.experiment(tmp_path)
    run(case.make(tmp_path / "guarded"), looked_at, guard=True, experiment=experiment)
    run(case.make(tmp_path / "free"), free, experiment=experiment)
    assert equal(weights(looked_at), weights(free))


@CASE
def test_an_observer_changes_no_trained_parameter(case: Case, tmp_path: Path) -> None:
    """Keeps P08. An observer is a set without `writes` that transforms nothing and asks for nothing in this run."""
    hooks = cast("HookSet", case.make(tmp_path))
    if hooks.writes or any(event.startswith("transform_") for event, _ in hooks.slots):
        pytest.skip("changes something, and says so")
    with_it, without = network(), network()
    run(hooks, with_it, experiment=case.experiment(tmp_path))
    run((), without)
    assert equal(weights(with_it), weights(without))


@CASE
def test_two_runs_of_one_set_are_equal(case: Case, tmp_path: Path) -> None:
    """Keeps P12."""
    hooks = case.make(tmp_path)
    first, second = network(), network()
    results = [run(hooks, model, experiment=case.experiment(tmp_path)) for model in (first, second)]
    assert equal(weights(first), weights(second))
    if case.repeats:
        one, other = (plain((result.metrics, result.history, result.end)) for result in results)
        assert one == other
        assert plain(results[0].hook_states) == plain(results[1].hook_states)


@CASE
def test_it_reads_no_device_value_in_a_step_that_it_does_not_declare(case: Case, tmp_path: Path) -> None:
    """Keeps P57."""
    if not case.runs_on_meta:
        pytest.skip("calls what the meta device does not have")
    short, long = (reads_of(case, tmp_path / str(count), count) for count in (20, 60))
    more = {reader: count - short[reader] for reader, count in long.items() if count > short[reader]}
    assert sum(more.values()) == 40 * case.reads, more


SAYS_ITSELF = {
    "freeze": "until=", "profiler": "wait=, warmup=, active=, repeat=", "save_at_end": "save_at_end(results)",
    "save_source": "save_source(folders)", "stop_on_nonfinite": "lag=", "throughput": "updates=", "timing": "updates=",
}  # fmt: skip
"""The sets that say themselves when they act, and by what."""
JUDGES = frozenset({"on_evaluation_end", "on_epoch_end"})
AVERAGES = frozenset({"on_after_optimizer_step"})
GOVERNS: dict[str, frozenset[str]] = {
    "early_stopping": JUDGES, "threshold_stopping": JUDGES, "reduce_on_plateau": JUDGES, "ema": AVERAGES,
    "swa": AVERAGES, "grad_histogram": frozenset({"on_epoch_end"}), **dict.fromkeys(SAYS_ITSELF, frozenset[str]()),
}  # fmt: skip


@CASE
@pytest.mark.parametrize("trigger", [every(4, "updates"), every(2, "epochs"), every_seconds(0.001)])
def test_under_a_trigger_it_is_a_set_or_says_what_to_write(trigger: Trigger, case: Case, tmp_path: Path) -> None:
    """Keeps P85."""
    hooks = cast("HookSet", case.make(tmp_path))
    name = hooks.name
    assert hooks.governs == GOVERNS.get(name)
    if name in SAYS_ITSELF:
        with pytest.raises(HookDefinitionError) as caught:
            when(trigger, hooks)
        assert str(caught.value).startswith(f"when({trigger}, {name!r}) decides nothing: ")
        assert SAYS_ITSELF[name] in str(caught.value)
        return
    (gated,) = when(trigger, hooks)
    run(gated, network(), epochs=3, experiment=case.experiment(tmp_path))


def test_a_hook_that_reads_in_each_step_would_be_noticed(tmp_path: Path) -> None:
    def read(ctx: BatchEnd) -> None:
        assert float(ctx.loss) == 1.0

    short, long = (reads_of(Case(make=lambda folder: {"on_batch_end": read}), tmp_path, count) for count in (20, 60))
    assert long.total() - short.total() == 40


def reads_of(case: Case, folder: Path, count: int) -> Counter[str]:
    """Who read the device how often, in a run of one epoch of so many updates."""
    with torch.device("meta"):
        model = network()
    with DeviceReads() as reads:
        run(case.make(folder), model, count, epochs=1, experiment=case.experiment(folder))
    return Counter(reads.found)


@CASE
def test_a_failure_elsewhere_is_the_one_that_is_raised_and_everything_is_put_back(case: Case, tmp_path: Path) -> None:
    """Keeps P05."""

    def fail(ctx: EpochEnd) -> None:
        raise ValueError("broken")

    def fail_in_evaluation(output: Tensor, target: Tensor) -> float:
        raise ValueError("broken")

    for hooks, metrics in (([{"on_epoch_end": fail}], {}), ([], {"broken": fail_in_evaluation})):
        model, reference = network(), network()
        evaluations = [Evaluation("late", pictures(1), metrics=cast("Any", metrics))]
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with pytest.raises(ValueError, match="broken") as caught:
            train(
                model, pictures(3), supervised(F.cross_entropy), optimizer, epochs=2, seed=7,
                evaluations=[Evaluation("val", pictures(1)), *evaluations],
                hooks=cast("Any", [case.make(tmp_path), *hooks]), experiment=case.experiment(tmp_path),
            )  # fmt: skip
        assert not any("While the run ended" in note for note in caught.value.__notes__)
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert [module.training for module in model.modules()] == [module.training for module in reference.modules()]
