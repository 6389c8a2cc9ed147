"""Callables of every kind, and ways to look at them."""

import functools
from collections.abc import Callable
from typing import Any, cast

from trainhooks import BatchEnd, HookDict, HookSet, Record


def hook_set(**given: Any) -> HookSet:
    """A hook set, its types left to the run."""
    return HookSet(**cast("HookDict", given))


def line_of(function: Callable[..., object]) -> int:
    return function.__code__.co_firstlineno


class Counter:
    """Counts what it is called with, in every way in which an instance can be called."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def bound(self, ctx: BatchEnd) -> None:
        self.seen.append(ctx)

    @staticmethod
    def static(ctx: BatchEnd) -> Record:
        return Record({"static": 1.0})

    @classmethod
    def of_class(cls, ctx: BatchEnd) -> Record:
        return Record({cls.__name__: 2.0})

    def __call__(self, ctx: BatchEnd) -> None:
        self.seen.append(ctx)


def counting(into: list[object], ctx: BatchEnd, *, times: int = 1) -> None:
    into.extend([ctx] * times)


def passing_on(function: Callable[..., object]) -> Callable[..., object]:
    """Decorate without a look at the arguments."""

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return call


def adding(function: Callable[..., object], extra: object) -> Callable[..., object]:
    """Decorate a function that takes one argument more than its caller gives."""

    @functools.wraps(function)
    def call(ctx: BatchEnd) -> object:
        return function(extra, ctx)

    return call
