"""The loop for one table: the loop that you read, without what nobody hears. Nothing is ever put in.

Every function of this folder with a parameter `heard` is parsed, and three forms are resolved in it:

    if heard.x is not None: ...                 (also several of these joined by `or`)
    A if heard.x is not None else B
    with nullcontext(): ...

The rest is compiled under the original file name and line numbers, so that breakpoints, coverage and tracebacks show
the source. What this buys is a loop without a trace of unused features, which can be shown.
"""

import ast
import inspect
import pickle
from collections.abc import Callable, Mapping
from functools import cache
from types import FunctionType
from typing import Any, Final, TypeAlias, final

from trainhooks.core import parsing

from . import boundary, delivery, evaluation, reference, running, saving, update

Functions: TypeAlias = Mapping[str, Callable[..., Any]]

FUNCTIONS: Final[Functions] = {
    one.__name__: one
    for one in (
        reference.train_loop,
        update.update,
        boundary.at_begin,
        boundary.at_boundary,
        boundary.at_epoch_end,
        delivery.deliver,
        evaluation.evaluate,
        evaluation.predict,
        saving.save,
        saving.tell,
        saving.finish_saving,
        running.run,
    )
}
"""Every function of the loop that asks what is heard, the reference first."""


@cache
def specialise(events: frozenset[str]) -> Functions:
    """The functions of the loop for a table that hears `events`; any thread may call it.

    Where their source is not at hand, or is not what was loaded (`.pyc` files alone, a file edited since), they are
    the functions themselves.
    """
    trees = _trees()
    if trees is None:
        return FUNCTIONS
    made: dict[str, FunctionType] = {}
    for function, tree in zip(FUNCTIONS.values(), trees, strict=True):
        made[function.__name__] = _compiled(_without_the_unheard(tree, events), function)
    for one in made.values():
        seen = one.__globals__
        seen.update({name: made[name] for name, original in FUNCTIONS.items() if seen.get(name) is original})
    return made


def source_for(events: frozenset[str]) -> str:
    """The source of `specialise(events)`, without docstrings."""
    trees = _trees()
    if trees is None:
        return "# The source of the loop is not at hand, so the reference loop runs as it was loaded."
    parts = [_without_docstring(_without_the_unheard(tree, events)) for tree in trees]
    return "\n\n\n".join(ast.unparse(ast.fix_missing_locations(part)) for part in parts)


def _trees() -> list[ast.FunctionDef] | None:
    """The syntax trees of all functions, the caller's to change; None if the source of one is not at hand."""
    pickled = parsing(_pickled_trees)
    return None if pickled is None else pickle.loads(pickled)


@cache
def _pickled_trees() -> bytes | None:
    """The syntax trees of all functions, parsed once in a process; a copy of them costs less than parsing."""
    trees = [_verified(one) for one in FUNCTIONS.values()]
    return None if None in trees else pickle.dumps(trees)


def _verified(function: Callable[..., Any]) -> ast.FunctionDef | None:
    """The syntax tree of a function of a module, if it is what was loaded."""
    try:
        text = inspect.getsource(inspect.getmodule(function) or function)
        module = parsing(lambda: ast.parse(text))
    except (OSError, TypeError, SyntaxError):
        return None
    for tree in module.body:
        if isinstance(tree, ast.FunctionDef) and tree.name == function.__name__:
            return tree if _compiled(tree, function).__code__ == function.__code__ else None
    return None


def _compiled(tree: ast.FunctionDef, function: Callable[..., Any]) -> FunctionType:
    """The function that `tree` defines, in a copy of the names that `function` sees."""
    names = dict(function.__globals__)
    code = compile(ast.Module([tree], []), function.__code__.co_filename, "exec", dont_inherit=True)
    exec(code, names)
    made: FunctionType = names[function.__name__]
    return made


def _without_the_unheard(tree: ast.FunctionDef, events: frozenset[str]) -> ast.FunctionDef:
    kept: ast.FunctionDef = _Subtraction(events).visit(tree)
    return kept


def _without_docstring(tree: ast.FunctionDef) -> ast.FunctionDef:
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:] or [ast.Pass()]
    return tree


@final
class _Subtraction(ast.NodeTransformer):
    """Resolves the three forms, given what is heard."""

    def __init__(self, events: frozenset[str]) -> None:
        self.events = events

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        match node:
            case ast.If(body=[]) | ast.For(body=[]) | ast.While(body=[]) | ast.With(body=[]) | ast.FunctionDef(body=[]):
                node.body.append(ast.copy_location(ast.Pass(), node))
            case _:
                pass
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        asked = events_asked_for(node.test)
        self.generic_visit(node)
        if not asked:
            return node
        return node.body if self.events & asked else node.orelse

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        asked = events_asked_for(node.test)
        self.generic_visit(node)
        if not asked:
            return node
        return node.body if self.events & asked else node.orelse

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        node.items = [one for one in node.items if not _is_null(one.context_expr)]
        return node if node.items else node.body


def events_asked_for(test: ast.expr) -> frozenset[str]:
    """The events of which `test` asks whether one is heard; empty if it asks something else."""
    match test:
        case ast.Compare(
            left=ast.Attribute(value=ast.Name(id="heard"), attr=event),
            ops=[ast.IsNot()],
            comparators=[ast.Constant(value=None)],
        ):
            return frozenset({event})
        case ast.BoolOp(op=ast.Or(), values=values):
            asked = [events_asked_for(value) for value in values]
            return frozenset(event for events in asked for event in events) if all(asked) else frozenset()
        case _:
            return frozenset()


def _is_null(manager: ast.expr) -> bool:
    match manager:
        case ast.Call(func=ast.Name(id="nullcontext"), args=[], keywords=[]):
            return True
        case _:
            return False
