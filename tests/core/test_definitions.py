"""What is handed over as a hook is checked when it is given: what can never work is refused, the rest is left alone."""

import functools
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.core.callables import hook_set, line_of, passing_on
from trainhooks import EVENTS, BatchBegin, BatchEnd, EpochEnd, EvaluationEnd, HookDefinitionError, Stop, stateful
from trainhooks.core import definition_of, name_of

HERE = Path(__file__).name


def nothing() -> None: ...


def two(ctx: BatchEnd, extra: object) -> None: ...


def value_alone(gradients: Sequence[Tensor]) -> Sequence[Tensor]:
    return gradients


def keyword_alone(*, ctx: BatchEnd) -> None: ...


@contextmanager
def around_nothing() -> Generator[None]:
    yield


@pytest.mark.parametrize(
    ("event", "hook", "form", "definition", "reason"),
    [
        ("on_batch_end", nothing, "(ctx)", "nothing() -> None", "too many positional arguments"),
        (
            "on_batch_end", two, "(ctx)", "two(ctx: trainhooks.core.batches.BatchEnd, extra: object) -> None",
            "missing a required argument: 'extra'",
        ),
        ("on_batch_end", lambda: None, "(ctx)", "lambda@{here}:{line}()", "too many positional arguments"),
        (
            "transform_gradients", value_alone, "(ctx, value)",
            "value_alone(gradients: collections.abc.Sequence[torch.Tensor]) -> collections.abc.Sequence[torch.Tensor]",
            "too many positional arguments",
        ),
        (
            "on_batch_end", keyword_alone, "(ctx)", "keyword_alone(*, ctx: trainhooks.core.batches.BatchEnd) -> None",
            "too many positional arguments",
        ),
        (
            "around_epoch", around_nothing, "(ctx)", "around_nothing() -> collections.abc.Generator[None]",
            "too many positional arguments",
        ),
    ],
)  # fmt: skip
def test_a_wrong_arity_is_refused_and_quotes_the_definition(
    event: str, hook: Callable[..., object], form: str, definition: str, reason: str
) -> None:
    """Keeps P06."""
    inner: Callable[..., object] = getattr(hook, "__wrapped__", hook)
    line = line_of(inner)
    quoted = f"`{definition.format(here=HERE, line=line)}` at {HERE}:{line}"
    with pytest.raises(TypeError) as caught:
        hook_set(**{event: hook})
    assert type(caught.value) is HookDefinitionError
    assert str(caught.value) == f"{event} is called as {form}, but {quoted} cannot be called so: {reason}."


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_says_how_it_is_called(event: str) -> None:
    """Keeps P06."""
    form = {"on": "(ctx)", "transform": "(ctx, value)", "around": "(ctx)"}[EVENTS[event].kind]
    state = form.replace(")", ", state)")
    with pytest.raises(HookDefinitionError) as caught:
        hook_set(**{event: nothing})
    assert str(caught.value).startswith(f"{event} is called as {form}, but `nothing() -> None` at {HERE}:")
    with pytest.raises(HookDefinitionError) as caught:
        stateful("s", int, **cast("Any", {event: nothing}))
    assert str(caught.value).startswith(f"{event} is called as {state}, but `nothing() -> None` at {HERE}:")


def test_a_hook_without_a_state_in_a_stateful_set_is_a_wrong_arity() -> None:
    """Keeps P06."""

    def stateless(ctx: BatchEnd) -> None: ...

    with pytest.raises(HookDefinitionError, match=r"on_batch_end is called as \(ctx, state\), but `.*stateless\(ctx: "):
        stateful("s", int, on_batch_end=cast("Any", stateless))


def for_an_epoch(ctx: EpochEnd) -> None: ...


def for_two(ctx: EpochEnd | EvaluationEnd) -> None: ...


def for_any_batch(ctx: BatchEnd[int, int] | EpochEnd) -> None: ...


@pytest.mark.parametrize(
    ("event", "hook", "asks", "others"),
    [
        ("on_batch_end", for_an_epoch, "EpochEnd", "on_epoch_end"),
        ("on_batch_end", for_two, "EpochEnd | EvaluationEnd", "transform_metrics, on_evaluation_end, on_epoch_end"),
        ("on_batch_begin", for_any_batch, "BatchEnd | EpochEnd", "on_batch_end, on_epoch_end"),
        ("transform_batch", two, "BatchEnd", "on_batch_end"),
    ],
)
def test_an_annotation_of_another_events_context_is_refused(
    event: str, hook: Callable[..., object], asks: str, others: str
) -> None:
    """Keeps P06."""
    with pytest.raises(TypeError) as caught:
        hook_set(**{event: hook})
    sentence = str(caught.value)
    assert sentence.startswith(f"{event} hands out {EVENTS[event].context.__name__}, but `{hook.__name__}(ctx: ")
    assert sentence.endswith(f" at {HERE}:{line_of(hook)} asks for {asks}, which is the context of {others}.")


def test_an_annotation_that_includes_the_context_or_cannot_be_read_is_left_alone() -> None:
    def in_a_string(ctx: "BatchEnd[int, int]") -> None: ...

    def for_a_checker(ctx: object) -> None: ...

    def of_anything(ctx: object) -> None: ...

    for_a_checker.__annotations__["ctx"] = "ImportedForCheckersAlone"
    hooks: list[Callable[..., object]] = [for_any_batch, in_a_string, for_a_checker, of_anything]
    for hook in hooks:
        assert hook_set(on_batch_end=hook).name == hook.__qualname__

    def in_a_wrong_string(ctx: "EpochEnd") -> None: ...

    with pytest.raises(HookDefinitionError, match="asks for EpochEnd, which is the context of on_epoch_end"):
        hook_set(on_batch_end=in_a_wrong_string)


async def coroutine(ctx: BatchEnd) -> None: ...


async def async_generator(ctx: BatchEnd) -> AsyncIterator[None]:
    yield


def generator(ctx: BatchEnd) -> Iterator[Stop]:
    yield Stop("never runs")


class Awaited:
    async def __call__(self, ctx: BatchEnd) -> None: ...


class Yielding:
    def __call__(self, ctx: BatchEnd) -> Iterator[Stop]:
        yield Stop("never runs")


@pytest.mark.parametrize(
    "hook", [coroutine, async_generator, functools.partial(coroutine), Awaited(), mock.AsyncMock()]
)
def test_what_would_never_be_awaited_is_refused(hook: object) -> None:
    """Keeps P06."""
    with pytest.raises(HookDefinitionError) as caught:
        hook_set(on_batch_end=hook)
    assert str(caught.value) == f"{definition_of(hook)} is async and would never be awaited; write a plain function."
    assert str(caught.value).startswith(f"`{name_of(hook)}(")


@pytest.mark.parametrize("hook", [generator, functools.partial(generator), Yielding()])
def test_a_generator_function_is_refused_with_what_to_write(hook: object) -> None:
    """Keeps P06."""
    for event, help_ in (
        ("on_batch_end", "its body would never run; return the answers as a list"),
        ("around_epoch", "decorate it with @contextlib.contextmanager"),
    ):
        with pytest.raises(HookDefinitionError) as caught:
            hook_set(**{event: hook})
        assert str(caught.value) == f"{definition_of(hook)} is a generator function on {event}: {help_}."


def test_a_class_in_place_of_an_instance_is_refused() -> None:
    """Keeps P06."""
    with pytest.raises(HookDefinitionError) as caught:
        hook_set(on_batch_end=Yielding)
    assert str(caught.value) == "on_batch_end got the class Yielding; give an instance, or a method."


def as_it_was(ctx: BatchBegin, batch: object) -> object:
    return batch


@pytest.mark.parametrize("given", [None, 5, "print", Stop("no")])
def test_what_cannot_be_called_is_refused(given: object) -> None:
    with pytest.raises(HookDefinitionError) as caught:
        hook_set(on_batch_end=given)
    assert str(caught.value) == f"on_batch_end wants a callable (ctx), got {given!r}."
    with pytest.raises(HookDefinitionError) as caught:
        hook_set(transform_batch=[as_it_was, given])
    assert str(caught.value) == f"transform_batch wants a callable (ctx, value), got {given!r}."


def test_a_decorator_that_passes_everything_on_is_looked_through() -> None:
    """Keeps P06."""
    with pytest.raises(HookDefinitionError, match=rf"but `nothing\(\) -> None` at {HERE}:{line_of(nothing)} cannot"):
        hook_set(on_batch_end=passing_on(nothing))
    with pytest.raises(HookDefinitionError, match="asks for EpochEnd, which is the context of on_epoch_end"):
        hook_set(on_batch_end=passing_on(for_an_epoch))


def test_a_definition_shows_what_a_default_is_and_not_all_of_it() -> None:
    def remember(ctx: BatchEnd, data: Sequence[Tensor] = [torch.zeros(999)] * 999, best: float = 0.5) -> None: ...

    shown = definition_of(remember)
    assert "= [<Tensor of shape (999,), torch.float32>, " in shown
    assert "best: float = 0.5) -> None`" in shown
    assert len(shown) < 500
