"""Giving each rank of a run that goes on its part of the tensors of a checkpoint, whoever held which part before."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor

from trainhooks.store import Store

from .manifest import Manifest
from .reading import tensors_in
from .shards import Absent, Sharded
from .tree import Tree

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Path: TypeAlias = tuple[str, ...]
Like: TypeAlias = "Callable[[Path, tuple[int, ...]], DTensor | None]"
"""A tensor of which each rank holds such a part as it is to hold of the one at a path; None if each holds the whole."""


def placed(tree: Tree, store: Store, manifest: Manifest, like: Like, device: torch.device) -> Tree:
    """The tree, with each sharded tensor in its place. All ranks call it, with trees that have the same `Absent`s.

    Args:
        tree: The state of a rank, as `read` gives it with `sharded=False`.
        store: The run's folder.
        manifest: The checkpoint.
        like: How each tensor lies in this run.
        device: Where the run trains.

    Raises:
        CheckpointError: if a part cannot be read; on all ranks.
    """
    targets: dict[str, Tensor] = {}
    absent: dict[str, Sharded] = {}

    def put(path: Path, leaf: object) -> object:
        if isinstance(leaf, Absent):
            absent[leaf.name] = leaf.sharded
            targets[leaf.name] = target = _empty(leaf, like(path, leaf.sharded.shape), device)
            return target
        if isinstance(leaf, Tensor) and (model := like(path, tuple(leaf.shape))) is not None:
            return _part_of(leaf, model)
        return leaf

    found = _mapped(tree, put, ())
    if targets:
        from .engine import load

        files = {one.name: one for one in manifest.files}
        load(targets, absent, lambda name: tensors_in(store, files[name]))
    return found


def _empty(absent: Absent, model: "DTensor | None", device: torch.device) -> Tensor:
    """Memory for a sharded tensor that is not read yet."""
    shape, dtype = absent.sharded.shape, absent.sharded.dtype
    if model is None:
        return torch.empty(shape, dtype=dtype, device=device if absent.on_device else None)
    import torch.distributed.tensor as tensors

    empty = cast("Callable[..., DTensor]", tensors.empty)
    return empty(shape, dtype=dtype, device_mesh=model.device_mesh, placements=model.placements)


def _part_of(tensor: Tensor, model: "DTensor") -> "DTensor":
    """This rank's part of a tensor that each rank has whole."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    mesh, placements = model.device_mesh, model.placements
    there = tensor.to(model.device)
    cut = distribute_tensor(there, mesh, placements, src_data_rank=None)
    local = cut.to_local().clone()  # else the whole would stay in memory under its part
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=cut.shape, stride=cut.stride())


def _mapped(tree: object, put: Callable[[Path, object], object], path: Path) -> object:
    kind, make = type(tree), cast("Callable[[Iterable[object]], object]", type(tree))
    if kind in (dict, OrderedDict):
        items = cast("Mapping[object, object]", tree).items()
        return make((key, _mapped(one, put, (*path, str(key)))) for key, one in items)
    if kind in (list, tuple):
        return make(_mapped(one, put, (*path, str(place))) for place, one in enumerate(cast("list[object]", tree)))
    return put(path, tree)
