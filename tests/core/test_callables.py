"""Everything that can be called works as a hook, under the name that its user wrote."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import cast
from unittest import mock

import pytest
from torch import nn

from tests.core import callables
from tests.core.callables import Counter, adding, counting, hook_set, line_of, passing_on
from tests.loop.programs import batches, linear, sgd, squares
from trainhooks import BatchBegin, BatchEnd, HookDict, Record, TrainBegin, train
from trainhooks.core import definition_of, name_of, refusal_of_call

HERE, THERE = Path(__file__).name, Path(callables.__file__).name


def plain(ctx: BatchEnd) -> None: ...


def test_everything_that_can_be_called_works_as_a_hook(capsys: pytest.CaptureFixture[str]) -> None:
    """Keeps P06."""
    seen: list[object] = []
    counter = Counter()
    simple = mock.Mock(return_value=None)
    magic = mock.MagicMock(return_value=[Record({"magic": 3.0})])
    specified = mock.create_autospec(plain, return_value=None)

    def keep(ctx: BatchEnd) -> None:
        seen.append(ctx)

    short: Callable[[BatchEnd], object] = lambda ctx: seen.append(ctx)  # noqa: E731, PLW0108
    hooks: dict[str, Callable[..., object]] = {
        "a function": keep,
        "a partial": functools.partial(counting, seen),
        "a partial with a keyword": functools.partial(counting, seen, times=2),
        "a partial of a partial": functools.partial(functools.partial(counting, seen), times=3),
        "a lambda": short,
        "a bound method": counter.bound,
        "a static method": Counter.static,
        "a class method": Counter.of_class,
        "a callable object": counter,
        "a decorated function": passing_on(keep),
        "a function whose decorator adds an argument": adding(counting, seen),
        "a mock": simple,
        "a mock that answers": magic,
        "a mock with a specification": specified,
        "print": print,
        "list.append": seen.append,
    }
    model = linear()
    result = train(
        model, batches(2), squares, sgd(model), epochs=1,
        hooks=[cast("HookDict", {"name": name, "on_batch_end": hook}) for name, hook in hooks.items()],
    )  # fmt: skip
    assert len(seen) == 2 * (1 + 1 + 2 + 3 + 1 + 1 + 1 + 1)
    assert all(isinstance(ctx, BatchEnd) for ctx in seen)
    assert len(counter.seen) == 2 * 2
    assert [len(one.call_args_list) for one in (simple, magic, specified)] == [2, 2, 2]
    assert [result.metrics[name] for name in ("static", "Counter", "magic")] == [1.0, 2.0, 3.0]
    assert capsys.readouterr().out.count("BatchEnd(run=") == 2


def test_a_static_method_of_an_instance_works_as_a_hook() -> None:
    """Keeps P06."""
    model = linear()
    result = train(model, batches(1), squares, sgd(model), epochs=1, hooks={"on_batch_end": Counter().static})
    assert result.metrics["static"] == 1.0


@pytest.mark.parametrize(
    "builtin", [print, list[object]().append, dict[str, object]().update, max, functools.partial(print, "at")]
)
def test_builtins_are_not_asked_for_a_signature_that_they_do_not_have(builtin: Callable[..., object]) -> None:
    """Keeps P06."""
    assert hook_set(on_batch_end=builtin).hooks("on_batch_end") == (builtin,)


def test_names_are_those_that_the_user_wrote() -> None:
    anonymous: Callable[[object], None] = lambda ctx: None  # noqa: E731
    place = f"lambda@{HERE}:{line_of(anonymous)}"
    assert name_of(plain) == "plain"
    assert name_of(functools.partial(functools.partial(counting, []), times=1)) == "counting"
    assert name_of(Counter().bound) == "Counter.bound"
    assert name_of(Counter.static) == "Counter.static"
    assert name_of(Counter.of_class) == "Counter.of_class"
    assert name_of(Counter()) == "Counter"
    assert name_of(mock.Mock()) == "Mock"
    assert name_of(print) == "print"
    assert name_of(list[object]().append) == "list.append"
    assert name_of(passing_on(plain)) == "plain"
    assert name_of(anonymous) == place
    assert name_of(functools.partial(anonymous)) == place
    assert name_of(passing_on(anonymous)) == place


def test_of_a_module_its_forward_counts() -> None:
    class Step(nn.Module):
        def forward(self, model: nn.Module) -> None: ...

    assert definition_of(Step()) == (
        f"`{Step.__qualname__}(model: torch.nn.modules.module.Module) -> None` at {HERE}:{line_of(Step.forward)}"
    )
    assert refusal_of_call(Step(), 1) is None
    assert refusal_of_call(Step(), 2) == "too many positional arguments"
    assert refusal_of_call(nn.Module(), 5) is None


def test_a_definition_is_quoted_with_its_place() -> None:
    def begins(ctx: BatchBegin, *, often: int = 3) -> None: ...

    name = "test_a_definition_is_quoted_with_its_place.<locals>.begins"
    signature = "(ctx: trainhooks.core.batches.BatchBegin, *, often: int = {}) -> None"
    assert definition_of(begins) == f"`{name}{signature.format(3)}` at {HERE}:{line_of(begins)}"
    assert definition_of(functools.partial(begins, often=5)) == (
        f"`{name}{signature.format(5)}` at {HERE}:{line_of(begins)}"
    )
    assert definition_of(passing_on(begins)) == definition_of(begins)
    decorated = adding(counting, [])
    assert definition_of(decorated) == (
        f"`counting(ctx: trainhooks.core.batches.BatchEnd) -> None` at {THERE}:{line_of(decorated)}"
    )
    assert line_of(decorated) > line_of(counting)
    of_batch_end = "(ctx: trainhooks.core.batches.BatchEnd) -> None"
    assert definition_of(Counter().bound) == f"`Counter.bound{of_batch_end}` at {THERE}:{line_of(Counter.bound)}"
    assert definition_of(Counter()) == f"`Counter{of_batch_end}` at {THERE}:{line_of(Counter.__call__)}"
    assert definition_of(dict[str, object]().update) == "`dict.update(...)`"
    assert definition_of(TrainBegin).startswith("`TrainBegin(")
