"""Files of tensors are read by the safetensors package, and its files are read by us; a damaged one is refused."""

import json
import struct
from collections.abc import Mapping
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.checkpoint.trees import same_tensors, tensors
from trainhooks.checkpoint.tensors import NAMES, layout_of, read_tensors, write_tensors
from trainhooks.errors import CheckpointError

NAMED = st.dictionaries(st.text(min_size=1, max_size=6), tensors().filter(lambda one: one.dtype in NAMES), max_size=6)


def written(named: Mapping[str, Tensor]) -> bytes:
    layout = layout_of(named)
    memory = torch.zeros(layout.size, dtype=torch.uint8)
    write_tensors(memory, layout, named)
    return memory.numpy().tobytes()


def read(data: bytes, piece: int | None = None) -> dict[str, Tensor]:
    piece = piece or len(data)
    return read_tensors([data[begin : begin + piece] for begin in range(0, len(data), piece)], len(data))


@given(NAMED, st.integers(1, 64))
def test_tensors_come_back_whatever_the_pieces(named: dict[str, Tensor], piece: int) -> None:
    """Keeps P15."""
    data = written(named)
    for one in (read(data, piece), safetensors.torch.load(data)):
        assert one.keys() == named.keys()
        assert all(same_tensors(one[name], named[name]) for name in named)


@given(NAMED)
def test_files_of_the_package_are_read(named: dict[str, Tensor]) -> None:
    dense = {name: one.contiguous() for name, one in named.items()}
    restored = read(safetensors.torch.save(dense))
    assert all(same_tensors(restored[name], named[name]) for name in named)


@given(NAMED)
def test_every_tensor_lies_at_a_multiple_of_its_element(named: dict[str, Tensor]) -> None:
    layout = layout_of(named)
    assert len(layout.header) % 8 == 0
    assert all(place.begin % place.dtype.itemsize == 0 for place in layout.places)


def test_a_tensor_that_was_read_owns_its_memory() -> None:
    restored = read(written({"a": torch.ones(3), "b": torch.zeros(2)}))
    assert restored["a"].untyped_storage().nbytes() == 12
    restored["a"].fill_(5)
    assert restored["b"].tolist() == [0.0, 0.0]


def test_a_dtype_that_the_format_has_no_name_for_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"The tensor 'w' is of the dtype torch.complex128"):
        layout_of({"w": torch.ones(1, dtype=torch.complex128)})


def with_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changed: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changed}}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "shorter than it should be"),
        (with_header(entry(), bytes(7)), "does not account for all of its bytes"),
        (with_header(entry(), bytes(9)), "does not account for all of its bytes"),
        (struct.pack("<Q", 1 << 40), "header would be longer than the file"),
        (with_header(b"{"), "its header cannot be read"),
        (with_header([]), "its header cannot be read"),
        (with_header({"w": 1}), "its header cannot be read"),
        (with_header(entry(dtype="F31"), bytes(8)), "its header cannot be read"),
        (with_header(entry(shape=[3]), bytes(8)), "'w' does not lie where its header says"),
        (with_header(entry(shape=[-2]), bytes(8)), "its header cannot be read"),
        (with_header(entry(shape=[1 << 40]), bytes(8)), "'w' does not lie where its header says"),
        (with_header(entry(data_offsets=[8, 16]), bytes(16)), "'w' does not lie where its header says"),
    ],
)
def test_what_is_no_whole_file_of_tensors_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        read_tensors([data], len(data))


def test_a_stream_that_goes_on_after_the_file_is_refused() -> None:
    data = written({"w": torch.ones(2)})
    with pytest.raises(CheckpointError, match="longer than it should be"):
        read_tensors([data, b"x"], len(data))
    with pytest.raises(CheckpointError, match="shorter than it should be"):
        read_tensors([data[:-1]], len(data))
