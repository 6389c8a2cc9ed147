"""The state of a hook set as a tree, and back: records by cattrs, objects by their state_dict, the rest as it is.

A tree keeps types, so only the records of a state have to be made again, where their annotations say they are.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from trainhooks.core import keeps_its_own_state
from trainhooks.errors import CheckpointError

from .tree import Tree


def saved_state(state: object) -> Tree:
    """The state of a hook set, as a tree.

    An object with `state_dict` and `load_state_dict` gives what the first of them gives; an attrs record or dataclass
    a dict of its fields, in which records that the annotations name are dicts as well; anything else is as it is.

    Raises:
        CheckpointError: if a record's annotations cannot be followed.
    """
    if keeps_its_own_state(state):
        return state.state_dict()
    if not _is_record(type(state)):
        return state
    try:
        return _CONVERTER.unstructure(state)
    except Exception as error:
        raise CheckpointError(
            f"A hook state of the class {type(state).__qualname__} cannot be saved: {error}"
        ) from error


def restored_state(template: object, saved: Tree) -> object:
    """The state of which `saved_state` made this.

    Args:
        template: A fresh state, of the same kind. One with `load_state_dict` is changed and returned.
        saved: The tree.

    Raises:
        CheckpointError: if it is the state of another record.
    """
    if keeps_its_own_state(template):
        template.load_state_dict(saved)
        return template
    if not _is_record(type(template)):
        return saved
    try:
        return _CONVERTER.structure(saved, type(template))
    except Exception as error:
        raise CheckpointError(
            f"What was saved is no state of the class {type(template).__qualname__}: {_reasons(error)}"
        ) from error


def _reasons(error: BaseException) -> str:
    """What went wrong, out of the groups in which cattrs reports it."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_reasons(one) for one in cast("BaseExceptionGroup[BaseException]", error).exceptions)
    return ", ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])


def _is_record(kind: object) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and (attrs.has(origin) or dataclasses.is_dataclass(origin))


def _has_records(kind: object) -> bool:
    return _is_record(kind) or any(_has_records(one) for one in get_args(kind))


def _has_no_records(kind: object) -> bool:
    return not _has_records(kind)


def _as_it_is(value: object, _: object = None) -> object:
    return value


def _is_sequence(kind: object) -> bool:
    return get_origin(kind) is Sequence


def _converter() -> Converter:
    """Records as dicts of their fields; what holds no record stays as it is, also its type."""
    converter = Converter()

    def unstructure_record(kind: type) -> Callable[[Any], Any]:
        return make_dict_unstructure_fn(kind, converter, _cattrs_include_init_false=True)

    def structure_record(kind: type) -> Callable[[Any, Any], Any]:
        make = cast("Callable[..., Callable[[Any, Any], Any]]", make_dict_structure_fn)
        return make(kind, converter, _cattrs_forbid_extra_keys=True, _cattrs_include_init_false=True)

    def unstructure_sequence(kind: Any) -> Callable[[Any], Any]:
        (inner,) = get_args(kind)
        return lambda value: type(value)(converter.unstructure(one, inner) for one in value)

    def structure_sequence(kind: Any) -> Callable[[Any, Any], Any]:
        (inner,) = get_args(kind)
        return lambda value, _: type(value)(converter.structure(one, inner) for one in value)

    converter.register_unstructure_hook_factory(_is_record, unstructure_record)
    converter.register_structure_hook_factory(_is_record, structure_record)
    converter.register_unstructure_hook_factory(_is_sequence, unstructure_sequence)
    converter.register_structure_hook_factory(_is_sequence, structure_sequence)
    converter.register_unstructure_hook_func(_has_no_records, _as_it_is)
    converter.register_structure_hook_func(_has_no_records, _as_it_is)
    return converter


_CONVERTER = _converter()
