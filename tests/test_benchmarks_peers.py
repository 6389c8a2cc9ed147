"""What is compared with other systems trains the same, calls its hooks as often as it should, and is reported whole."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import cast
from xml.etree import ElementTree

import pytest
import torch

from benchmarks.peers import by_hand
from benchmarks.peers.cases import CASES, Case
from benchmarks.peers.checking import STEPS, faults
from benchmarks.peers.driver import PATIENCE, Book, Job, Source, System
from benchmarks.peers.environments import failure, torch_version
from benchmarks.peers.measuring import calls_a_step, seconds_a_step
from benchmarks.peers.racing import Found, Worker, WorkerError, measure
from benchmarks.peers.report import BEHIND, ahead, drawn, in_order, section
from benchmarks.peers.systems import BY_HAND, CONSTRAINTS, ENVIRONMENTS, PEERS, Peer
from benchmarks.peers.tasks import job_of
from benchmarks.picture import Bar, picture
from benchmarks.report import write_core, write_peers

SVG = "{http://www.w3.org/2000/svg}"
TINY = Case("tiny", 3)
REALISTIC = Case("tiny", realistic=True)


def system(train: Callable[[Job], Sequence[float]]) -> System:
    """A module as those in `benchmarks/peers`, whose hooks are the functions `begin` and `end` of this file."""
    module = ModuleType("system", None)
    module.__file__ = __file__
    vars(module).update(train=train, HOOKS=("begin", "end"))
    return cast("System", module)


def begin() -> None: ...


def end() -> None: ...


def calling(job: Job) -> Sequence[float]:
    """Trains by hand, and calls the hooks of this file."""
    for _ in range(STEPS * job.epochs * job.hooks):
        begin()
        end()
    return by_hand.train(job)


@pytest.mark.parametrize("peer", PEERS, ids=[peer.name for peer in PEERS])
def test_a_system_trains_what_the_hand_written_loop_does(peer: Peer) -> None:
    for module in peer.imports:
        if find_spec(module.partition(".")[0]) is None:
            pytest.skip(f"{module} is not installed here: make bench-setup")
    driver = cast("System", import_module(f"benchmarks.peers.by_{peer.name}"))
    found = {case.name: faults(driver, case, tolerance=0.0 if peer.is_exact else 1e-5) for case in CASES}
    assert found == {case.name: [] for case in CASES}


def test_a_system_that_is_right_has_no_faults() -> None:
    assert (faults(system(calling), TINY), faults(system(calling), REALISTIC)) == ([], [])


def test_a_system_whose_weights_differ_is_found_out() -> None:
    def astray(job: Job) -> Sequence[float]:
        calling(job)
        with torch.no_grad():
            next(job.model.parameters()).add_(1e-4)
        return ()

    assert faults(system(astray), TINY) == ["the weights differ"]


def test_where_equality_is_exact_the_last_bit_counts() -> None:
    def astray(job: Job) -> Sequence[float]:
        calling(job)
        with torch.no_grad():
            next(job.model.parameters()).mul_(1.0 + 2.0**-23)
        return ()

    assert (faults(system(astray), TINY), faults(system(astray), TINY, tolerance=0.0)) == ([], ["the weights differ"])


def test_a_system_that_calls_a_hook_too_seldom_is_found_out() -> None:
    def forgetful(job: Job) -> Sequence[float]:
        for _ in range(STEPS * job.epochs * job.hooks - 1):
            begin()
            end()
        end()
        return by_hand.train(job)

    assert faults(system(forgetful), TINY) == ["begin was called 41 times instead of 42"]


def test_a_system_that_leaves_out_a_part_of_the_realistic_set_is_found_out() -> None:
    def unclipped(job: Job) -> Sequence[float]:
        assert job.realistic is not None
        job.realistic.path.write_text("epoch,loss\n0,1.0\n")
        return by_hand.train(job_of("tiny", steps=STEPS))

    assert faults(system(unclipped), REALISTIC) == [
        "the losses of the steps differ",
        "the CSV file lacks rows",
        "the weights differ",
    ]


def test_the_clip_and_the_schedule_of_the_realistic_set_change_what_is_trained(tmp_path: Path) -> None:
    plain, realistic = job_of("tiny", steps=STEPS), job_of("tiny", steps=STEPS, folder=tmp_path)
    by_hand.train(plain)
    by_hand.train(realistic)
    pairs = zip(plain.model.parameters(), realistic.model.parameters(), strict=True)
    assert [torch.allclose(one, other, atol=1e-3) for one, other in pairs] == [False, False]


def test_a_step_is_what_lies_between_two_requests() -> None:
    source = Source([(torch.zeros(1), torch.full((1,), float(index))) for index in range(6)])
    given: list[float] = []
    source.clock = lambda: float(len(given))
    for _ in range(2):
        for _, y in source:
            given.append(float(y))
    assert (source.readings, source.timed, given) == ([(2.0, 5.0), (8.0, 11.0)], 3, [0, 1, 2, 3, 4, 5] * 2)


def test_a_book_says_to_stop_when_the_mean_has_not_fallen_for_long_enough(tmp_path: Path) -> None:
    book = Book(tmp_path / "metrics.csv")
    said: list[bool] = []
    for loss in (4.0, 2.0, *[3.0] * PATIENCE):
        book.losses += [loss, loss + 1.0]
        said.append(book.close_epoch())
    assert (said.index(True), len(said) - 1) == (PATIENCE + 1, PATIENCE + 1)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[:2] == ["0,4.5", "2,2.5"]


def test_hooks_by_hand_cost_one_call_an_event_and_a_step_takes_time() -> None:
    assert calls_a_step(by_hand, Case("tiny", 5)) - calls_a_step(by_hand, Case("tiny", 1)) == 8.0
    assert seconds_a_step(by_hand, Case("tiny")) > 0.0


def test_a_worker_answers_and_goes_on_after_an_error() -> None:
    with Worker(BY_HAND) as worker:
        with pytest.raises(WorkerError, match="ValueError: unknown"):
            worker.ask("unknown", TINY)
        assert worker.ask("check", TINY) == []


def test_a_measurement_has_a_ratio_for_each_round() -> None:
    case = Case("tiny", 1)
    (found,) = measure([BY_HAND], rounds=2, starts=1, cases=[case])
    assert (found.faults, len(found.ratios[case]), found.calls[case]) == ([], 2, 84.0)
    assert found.start("import") < 0.01
    assert found.start("memory") > 50.0


def found(name: str, ratio: float, *faults: str) -> Found:
    peer = next(peer for peer in PEERS if peer.name == name)
    tiny = {Case("tiny", 0): [ratio, ratio + 1.0, ratio + 2.0], Case("tiny", 10): [ratio]}
    start = {"import": 0.5, "memory": 300.25, "version": "1.2", "torch": "2.13.0"}
    return Found(peer=peer, faults=list(faults), ratios={} if faults else tiny, starts=[start])


def test_the_report_puts_the_quickest_first_and_says_what_differs() -> None:
    everything = [
        found("keras", 5.0, "tiny, 0: the weights differ"), found("ignite", 1.5), found("trainhooks", 1.2),
        found("hand", 2.0),
    ]  # fmt: skip
    assert [one.peer.name for one in in_order(everything)] == ["hand", "trainhooks", "ignite", "keras"]
    lines = section(everything, {"Composer": "it asks for another torch"}).splitlines()
    assert "| Ignite     |     2.50 |        - |      1.50 |          - |         - |        same |" in lines
    assert "| Keras      |        - |        - |         - |          - |         - |     differs |" in lines
    assert "| Ignite     |        - |        - |         - |          - |         - |    50% |    300 |" in lines
    assert "- Ignite: pytorch-ignite 1.2." in lines
    assert lines[-2:] == [
        "- Keras: keras 1.2; layers, loss, optimizer and loss metric of its own; tiny, 0: the weights differ.",
        "- Composer is not here: it asks for another torch.",
    ]


def test_the_report_says_where_another_system_is_ahead() -> None:
    everything = [found("hand", 0.5), found("trainhooks", 1.2), found("ignite", 1.1), found("skorch", 1.2)]
    everything[3].starts[0]["memory"] = 299.5
    assert ahead(everything).splitlines() == [
        "- hooks: 0: Ignite 2.10, trainhooks 2.20",
        "- hooks: 10: Ignite 1.10, trainhooks 1.20",
        "",
        *BEHIND.splitlines(),
    ]
    everything[3].starts[0]["memory"] = 299.0
    assert "- memory: skorch 299, trainhooks 300" in ahead(everything)
    assert ahead([found("hand", 0.5), found("trainhooks", 1.0), found("ignite", 1.1)]) == "Nowhere."


def test_the_picture_shows_what_was_timed() -> None:
    texts = [text.text for text in ElementTree.fromstring(drawn([found("ignite", 1.5), found("hand", 2.0)])).iter()]
    assert [text for text in texts if text in ("Ignite", "by hand", "2.50", "1.50")] == ["Ignite", "2.50", "1.50"]


def test_bars_go_left_of_one_or_right_of_it_on_a_scale_of_powers_of_two() -> None:
    root = ElementTree.fromstring(picture("A <title>", ("first", "second"), [Bar("quick & slow", (0.5, 4.0))]))
    _, _, left, right = root.iter(f"{SVG}rect")
    assert (left.get("x"), left.get("width"), right.get("x"), right.get("width")) == (
        "150.0",
        "183.3",
        "333.3",
        "366.7",
    )
    ticks = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "tick"]
    assert ticks == ["0.5", "1", "2", "4"]
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")


def test_each_program_keeps_what_the_other_wrote(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    write_core("core 1", file)
    assert file.read_text() == "core 1\n"
    write_peers("peers 1\n", file)
    write_core("core 2\n", file)
    line = "<!-- From here on: written by make bench-peers. -->"
    assert file.read_text() == f"core 2\n\n{line}\n\npeers 1\n"
    write_peers("peers 2", file)
    assert file.read_text() == f"core 2\n\n{line}\n\npeers 2\n"


def test_every_system_has_an_environment_with_the_torch_that_is_tested_here() -> None:
    assert {peer.environment for peer in PEERS} - {None} == set(ENVIRONMENTS)
    assert torch_version() in CONSTRAINTS.read_text().splitlines()
    assert torch.__version__.partition("+")[0] == torch_version().removeprefix("torch==")


def test_what_was_never_made_says_how_to_make_it() -> None:
    assert failure("nothing of this name") == "its environment is missing: make bench-setup"
