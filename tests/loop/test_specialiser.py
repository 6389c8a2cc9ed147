"""The loop for a table: nothing of what nobody hears, and the real source under the real lines."""

import ast
import gc
import importlib.util
import linecache
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.loop.programs import batches, linear, listener, sgd, squares
from trainhooks import EVENTS, BatchEnd, HookSet, RunDefinitionError, compose, train
from trainhooks.loop import FUNCTIONS, reference, specialise, specialiser
from trainhooks.loop.specialiser import events_asked_for, source_for

ALL = frozenset(EVENTS)
NOTHING: set[str] = set()


def test_without_hooks_the_source_holds_no_dispatch_and_it_trains() -> None:
    """Keeps P09."""
    source = compose().source
    assert "heard." not in source
    assert "nullcontext" not in source
    assert not any(re.search(rf"\b{event}\b", source) for event in EVENTS)
    assert source.startswith("def train_loop(")
    model = linear()
    before = model.weight.clone()
    train(model, batches(2), squares, sgd(model), epochs=1)
    assert not before.equal(model.weight)


@pytest.mark.parametrize("event", EVENTS)
def test_the_source_names_an_event_exactly_if_somebody_hears_it(event: str) -> None:
    """Keeps P09."""
    source = compose(listener("l", [], event)).source
    assert re.search(rf"heard\.{event}\(", source) or event == "on_checkpoint_saved"
    assert set(re.findall(r"heard\.(\w+)", source)) <= {event}


def test_the_source_is_that_of_the_functions_that_run() -> None:
    events = frozenset({"on_batch_end", "around_epoch"})
    made = specialise(events)
    for text in ast.parse(source_for(events)).body:
        assert isinstance(text, ast.FunctionDef)
        assert made[text.name].__code__.co_names == compiled(text).__code__.co_names


def compiled(tree: ast.FunctionDef) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    tree.returns = None
    for argument in (*tree.args.args, *tree.args.kwonlyargs):
        argument.annotation = None
    exec(compile(ast.Module([tree], []), "x", "exec"), names)
    function: Callable[..., Any] = names[tree.name]
    return function


def test_a_table_that_hears_everything_runs_the_reference_as_it_is_read() -> None:
    for name, function in specialise(ALL).items():
        assert function.__code__.co_filename == FUNCTIONS[name].__code__.co_filename
        assert function.__code__.co_firstlineno == FUNCTIONS[name].__code__.co_firstlineno


def test_a_traceback_shows_the_lines_of_the_real_file() -> None:
    def fail(ctx: BatchEnd) -> None:
        raise ValueError("here")

    model = linear()
    with pytest.raises(ValueError, match="here") as caught:
        train(model, batches(1), squares, sgd(model), epochs=1, hooks={"on_batch_end": fail})
    frames = [one for one in traceback.extract_tb(caught.value.__traceback__) if one.name == "train_loop"]
    (frame,) = frames
    assert frame.filename == reference.__file__
    assert frame.line is not None
    assert frame.line.startswith("live.ask(heard.on_batch_end(BatchEnd(")


def test_every_function_of_the_loop_that_asks_what_is_heard_is_specialised() -> None:
    folder = Path(reference.__file__).parent
    asking = {
        node.name
        for file in folder.glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and any(one.arg == "heard" for one in node.args.args)
    }
    assert asking == set(FUNCTIONS)


def test_the_functions_of_one_table_call_one_another() -> None:
    made = specialise(frozenset({"on_record"}))
    assert made["run"].__globals__["train_loop"] is made["train_loop"]
    assert made["train_loop"].__globals__["update"] is made["update"]
    assert FUNCTIONS["run"].__globals__["train_loop"] is FUNCTIONS["train_loop"]
    assert specialise(frozenset({"on_record"})) is made


@pytest.mark.parametrize(
    ("test", "events"),
    [
        ("heard.a is not None", {"a"}),
        ("heard.a is not None or heard.b is not None", {"a", "b"}),
        ("heard.a is not None and heard.b is not None", NOTHING),
        ("heard.a is not None or live.leaving", NOTHING),
        ("heard.a is None", NOTHING),
        ("live.a is not None", NOTHING),
    ],
)
def test_a_question_is_known_by_its_form(test: str, events: set[str]) -> None:
    assert events_asked_for(ast.parse(test, mode="eval").body) == events


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Callable[[str], tuple[ModuleType, Path]]]:
    def load(text: str) -> tuple[ModuleType, Path]:
        path = tmp_path / "piece.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("piece", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["piece"] = module
        spec.loader.exec_module(module)
        return module, path

    yield load
    sys.modules.pop("piece", None)


PIECE = '''
from contextlib import nullcontext

def piece(heard):
    """Says what."""
    seen = []
    with (heard.around() if heard.around is not None else nullcontext()):
        if heard.a is not None or heard.b is not None:
            seen.append("either")
            if heard.a is not None:
                seen.append("a")
        if heard.b is not None:
            seen.append("b")
        else:
            seen.append("no b")
        for _ in range(2):
            if heard.c is not None:
                seen.append("c")
    return seen
'''


def test_the_three_forms_are_resolved(loaded: Callable[[str], tuple[ModuleType, Path]]) -> None:
    module, _ = loaded(PIECE)
    tree = specialiser._verified(module.piece)  # pyright: ignore[reportPrivateUsage]
    assert tree is not None
    left = specialiser._without_the_unheard(tree, frozenset({"a"}))  # pyright: ignore[reportPrivateUsage]
    assert ast.unparse(left) == "\n".join(
        [
            "def piece(heard):",
            '    """Says what."""',
            "    seen = []",
            "    seen.append('either')",
            "    seen.append('a')",
            "    seen.append('no b')",
            "    for _ in range(2):",
            "        pass",
            "    return seen",
        ]
    )
    made = specialiser._compiled(left, module.piece)  # pyright: ignore[reportPrivateUsage]
    assert made(object()) == ["either", "a", "no b"]


def test_a_file_edited_since_it_was_loaded_is_not_used(loaded: Callable[[str], tuple[ModuleType, Path]]) -> None:
    module, path = loaded(PIECE)
    path.write_text(PIECE.replace('"either"', '"neither"'))
    linecache.checkcache()
    assert specialiser._verified(module.piece) is None  # pyright: ignore[reportPrivateUsage]


def test_where_the_source_is_gone_the_reference_runs(
    loaded: Callable[[str], tuple[ModuleType, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, path = loaded(PIECE)
    path.unlink()
    linecache.clearcache()
    assert specialiser._verified(module.piece) is None  # pyright: ignore[reportPrivateUsage]

    def unverified(function: object) -> None: ...

    monkeypatch.setattr(specialiser, "_verified", unverified)
    events = frozenset({"on_batch_end", "on_train_end", "on_epoch_end"})
    forget()
    try:
        assert specialise(events) is FUNCTIONS
        assert source_for(events).startswith("# The source of the loop is not at hand")
    finally:
        forget()


def forget() -> None:
    """Let the next table parse the source again."""
    specialise.cache_clear()
    specialiser._pickled_trees.cache_clear()  # pyright: ignore[reportPrivateUsage]


def test_threads_that_start_at_once_are_each_given_the_loop() -> None:
    """CPython 3.11 raises SystemError where two threads build syntax trees at once, as the collector lets them."""
    raised, made, begin = list[BaseException](), list[Any](), threading.Barrier(4)

    def yield_to_others(phase: str, info: object) -> None:
        time.sleep(0)

    def start(event: str) -> None:
        begin.wait()
        try:
            source_for(frozenset({event}))
            made.append(specialise(frozenset({event})))
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=start, args=(event,)) for event in list(EVENTS)[:4]]
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    forget()
    gc.callbacks.append(yield_to_others)
    gc.set_threshold(50)
    sys.setswitchinterval(1e-6)
    try:
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(yield_to_others)
    assert raised == []
    assert len(made) == 4
    assert FUNCTIONS not in made


def test_a_thread_that_parses_without_us_costs_another_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch")] * 3

    def disturbed(text: str) -> ast.Module:
        if failures:
            raise failures.pop()
        return parse(text)

    forget()
    monkeypatch.setattr(ast, "parse", disturbed)
    assert specialise(frozenset({"on_batch_end"})) is not FUNCTIONS
    assert failures == []


def test_so_it_does_where_a_hook_and_an_optimizer_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature of a builtin is parsed, and the step of an optimizer that may insist on a closure."""
    parse, failures = ast.parse, list[SystemError]()

    def disturbed(*given: Any, **more: Any) -> Any:
        if failures:
            raise failures.pop()
        return parse(*given, **more)

    class Own(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            assert closure is not None

    monkeypatch.setattr(ast, "parse", disturbed)
    failures += [SystemError("AST constructor recursion depth mismatch")] * 3
    assert HookSet(on_batch_end=print).name == "print"
    assert failures == []
    failures += [SystemError("AST constructor recursion depth mismatch")] * 3
    model = linear()
    with pytest.raises(RunDefinitionError, match="Own evaluates the loss several times in a step"):
        train(model, batches(1), squares, Own(model.parameters(), 0.1), epochs=1)
    assert failures == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_is_forked_while_a_thread_parses_can_specialise(monkeypatch: pytest.MonkeyPatch) -> None:
    parsing, go_on, parse = threading.Event(), threading.Event(), ast.parse

    def slow(text: str) -> ast.Module:
        if threading.current_thread() is not threading.main_thread():
            parsing.set()
            go_on.wait()
        return parse(text)

    forget()
    monkeypatch.setattr(ast, "parse", slow)
    thread = threading.Thread(target=specialise, args=(frozenset({"on_batch_end"}),))
    thread.start()
    parsing.wait()
    os.register_at_fork(before=go_on.set)  # hooks before a fork run last in, first out: this one is before the lock's
    if (child := os.fork()) == 0:
        signal.alarm(20)
        os._exit(0 if specialise(frozenset({"on_epoch_end"})) is not FUNCTIONS else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
