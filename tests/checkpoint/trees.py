"""Trees to save, and what it means that two are the same."""

import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import cast

import torch
from hypothesis import strategies as st
from torch import Tensor

DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32,
    torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex32, torch.complex64,
    torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
)  # fmt: skip


def same(left: object, right: object) -> bool:
    """Whether two trees have equal types, orders and bits all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, Tensor):
        return same_tensors(left, cast("Tensor", right))
    if isinstance(left, float):
        return same_floats(left, cast("float", right))
    if isinstance(left, complex):
        other = cast("complex", right)
        return same_floats(left.real, other.real) and same_floats(left.imag, other.imag)
    if isinstance(left, Mapping):
        one, two = cast("Mapping[object, object]", left), cast("Mapping[object, object]", right)
        return same(list(one), list(two)) and same(list(one.values()), list(two.values()))
    if isinstance(left, list | tuple):
        a, b = cast("list[object]", left), cast("list[object]", right)
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(left == right)


def same_tensors(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and bits(left) == bits(right)


def bits(tensor: Tensor) -> bytes:
    """The bytes of a tensor in the order of its elements."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def same_floats(left: float, right: float) -> bool:
    return (math.isnan(left) and math.isnan(right)) or (
        left == right and math.copysign(1, left) == math.copysign(1, right)
    )


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Dense tensors of any bits: of no, one and more dimensions, empty, and views that are not contiguous."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape)
    if dtype is torch.bool:
        made = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=dtype)
    else:
        size = count * dtype.itemsize
        made = torch.tensor(list(draw(st.binary(min_size=size, max_size=size))), dtype=torch.uint8).view(dtype)
    made = made.reshape(shape)
    return made.transpose(0, -1) if made.dim() > 1 and draw(st.booleans()) else made


KEYS = st.one_of(
    st.text(max_size=5), st.integers(), st.none(), st.booleans(), st.floats(allow_nan=False), st.binary(max_size=3)
)
HASHABLE = st.one_of(KEYS, st.tuples(KEYS, KEYS), st.frozensets(st.integers(), max_size=3))
LEAVES = st.one_of(
    HASHABLE,
    st.floats(),
    st.complex_numbers(allow_nan=True),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 9), max_size=3).map(torch.Size),
    st.sets(HASHABLE, max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3).map(Counter[str]),
    tensors(),
)
TREES: st.SearchStrategy[object] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(OrderedDict[str, object]),
    ),
    max_leaves=12,
)
"""Whatever a state may be made of."""
