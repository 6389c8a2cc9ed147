"""What every kind of store does alike: one table of laws over disk, memory and the stand-ins for three clouds."""

import secrets
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from typing_extensions import Buffer

from trainhooks.errors import ObjectExistsError, ObjectMissingError, StorageError
from trainhooks.store import Store, probe

MIB = 1 << 20
ONE = b"one" * 1000


def test_what_is_put_is_got(store: Store) -> None:
    store.put("ckpt/a/model.safetensors", ONE)
    got = store.get("ckpt/a/model.safetensors")
    assert (bytes(got), got.readonly) == (ONE, True)
    assert b"".join(store.stream("ckpt/a/model.safetensors")) == ONE


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put("empty", b"")
    store.put("empty-too", iter(()))
    assert [(one.key, one.size) for one in store.list()] == [("empty", 0), ("empty-too", 0)]
    assert (bytes(store.get("empty")), b"".join(store.stream("empty-too"))) == (b"", b"")


def test_any_buffer_is_written_byte_for_byte(store: Store) -> None:
    numbers = array("f", range(6))
    table = memoryview(numbers).cast("B").cast("f", (2, 3))
    buffers: dict[str, Buffer] = {
        "bytes": b"ab",
        "bytearray": bytearray(b"ab"),
        "memoryview": memoryview(b"xaby")[1:3],
        "floats": numbers,
        "table": table,
        "every-other": memoryview(b"xaxb")[1::2],
        "nothing": array("f"),
    }
    for key, buffer in buffers.items():
        store.put(key, buffer)
    expected = {"bytes": b"ab", "bytearray": b"ab", "memoryview": b"ab", "floats": numbers.tobytes()}
    expected |= {"table": numbers.tobytes(), "every-other": b"ab", "nothing": b""}
    assert {one.key: bytes(store.get(one.key)) for one in store.list()} == expected


def test_a_large_object_in_pieces_is_whole(store: Store, url: str) -> None:
    pieces = [bytes([number]) * (7 * MIB) for number in range(6)]
    store.put("large", iter(pieces))
    assert store.head("large").size == 42 * MIB
    assert b"".join(store.stream("large")) == b"".join(pieces) == bytes(store.get("large"))
    if url != "memory://":
        assert max(len(chunk) for chunk in store.stream("large")) < 12 * MIB


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("size", [1000, 20 * MIB])
def test_a_buffer_may_be_reused_once_it_is_put(store: Store, size: int, create: bool) -> None:
    buffer = bytearray(b"A" * size)
    store.put("reused", memoryview(buffer), create=create)
    buffer[:] = b"B" * size
    assert bytes(store.get("reused")) == b"A" * size


@pytest.mark.parametrize("size", [1000, 9 * MIB])
def test_one_buffer_that_is_refilled_is_not_mixed_up(store: Store, size: int) -> None:
    """A buffer kept by reference would be uploaded with what was written into it later."""
    scratch = bytearray(size)

    def pieces() -> Iterator[bytearray]:
        for letter in b"ABCD":
            scratch[:] = bytes([letter]) * size
            yield scratch

    store.put("refilled", pieces())
    scratch[:] = bytes(size)
    assert bytes(store.get("refilled")) == b"".join(bytes([letter]) * size for letter in b"ABCD")


@pytest.mark.parametrize("error", [OSError(28, "mine"), ValueError("mine"), FileNotFoundError("mine")])
@pytest.mark.parametrize("size", [10, 9 * MIB])
def test_an_exception_of_the_pieces_passes_and_nothing_is_written(store: Store, error: Exception, size: int) -> None:
    def pieces() -> Iterator[bytes]:
        yield bytes(size)
        yield bytes(size)
        raise error

    with pytest.raises(type(error)) as raised:
        store.put("broken", pieces())
    assert raised.value is error
    assert store.list() == []


def test_an_object_may_be_replaced(store: Store) -> None:
    store.put("latest.json", b"first")
    store.put("latest.json", b"second")
    assert bytes(store.get("latest.json")) == b"second"


def test_an_object_is_created_once(store: Store) -> None:
    store.put("manifests/1.json", b"mine", create=True)
    with pytest.raises(ObjectExistsError, match=r"There is a manifests/1\.json in .* already") as raised:
        store.put("manifests/1.json", b"theirs", create=True)
    assert raised.value.kind == "exists"
    assert bytes(store.get("manifests/1.json")) == b"mine"


def test_equal_bytes_are_taken_for_ones_own_after_a_lost_reply(store: Store) -> None:
    store.put("attempts/1.json", b"token", create=True)
    store.put("attempts/1.json", b"token", create=True)
    assert bytes(store.get("attempts/1.json")) == b"token"


def test_of_threads_that_create_one_object_one_wins(store: Store) -> None:
    """Keeps P69, of threads."""

    def wins(number: int) -> bool:
        try:
            store.put("attempts/1.json", b"%d" % number, create=True)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(wins, range(8)))
    assert sum(won) == 1
    assert bytes(store.get("attempts/1.json")) == b"%d" % won.index(True)


def test_threads_share_a_store(store: Store) -> None:
    def there_and_back(number: int) -> bool:
        content = secrets.token_bytes(1000)
        store.put(f"of/{number}", content)
        return bytes(store.get(f"of/{number}")) == content

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(there_and_back, range(24)))
    assert len(store.list("of")) == 24


def test_a_missing_object_is_named(store: Store) -> None:
    def stream(key: str) -> bytes:
        return next(store.stream(key))

    for read in (store.get, store.head, stream):
        with pytest.raises(ObjectMissingError, match=r"^There is no ckpt/none in ") as raised:
            read("ckpt/none")
        assert raised.value.kind == "missing"
    store.put("ckpt/other", b"")
    with pytest.raises(ObjectMissingError):
        store.get("ckpt/none")


def test_a_list_is_sorted_and_of_whole_folders(store: Store) -> None:
    assert store.list() == store.list("ckpt") == []
    for key in ("ckpt/b/2", "ckpt/b/1", "ckpt/a/1", "ckpt-old/1", "run.json"):
        store.put(key, key.encode())
    assert [one.key for one in store.list()] == ["ckpt-old/1", "ckpt/a/1", "ckpt/b/1", "ckpt/b/2", "run.json"]
    assert [one.key for one in store.list("ckpt")] == ["ckpt/a/1", "ckpt/b/1", "ckpt/b/2"]
    assert [one.key for one in store.list("ckpt/b/")] == ["ckpt/b/1", "ckpt/b/2"]
    assert store.list("ck") == store.list("none") == store.list("run.json") == []
    assert [one.size for one in store.list("ckpt-old")] == [len("ckpt-old/1")]


def test_head_says_what_a_list_says(store: Store) -> None:
    store.put("run.json", ONE)
    (listed,) = store.list()
    head = store.head("run.json")
    assert (head.key, head.size) == (listed.key, listed.size) == ("run.json", len(ONE))
    assert abs(head.modified - time.time()) < 60
    assert int(head.modified) == int(listed.modified)


def test_removing_is_of_the_named_alone_and_a_missing_one_is_fine(store: Store) -> None:
    store.delete(["none"])
    store.delete([])
    for number in range(5):
        store.put(f"ckpt/{number}/model", ONE)
    store.delete(f"ckpt/{number}/model" for number in (9, 1, 3, 8, 1))
    assert [one.key for one in store.list()] == ["ckpt/0/model", "ckpt/2/model", "ckpt/4/model"]


def test_many_objects_are_removed_though_the_first_is_missing(store: Store) -> None:
    for number in range(30):
        store.put(f"many/{number:02d}", b"")
    store.delete(["missing", *(one.key for one in store.list())])
    assert store.list() == []


def test_a_part_of_a_store_has_keys_of_its_own(store: Store) -> None:
    part = store.at("run-1").at("deeper/")
    part.put("manifests/1.json", ONE, create=True)
    store.at("run-10").put("other", b"")
    assert [one.key for one in part.list()] == [one.key for one in part.list("manifests")] == ["manifests/1.json"]
    assert bytes(store.get("run-1/deeper/manifests/1.json")) == ONE
    assert [one.key for one in store.at("run-1").list()] == ["deeper/manifests/1.json"]
    assert part.url == store.at("run-1/deeper").url
    assert part.url.startswith(store.url)
    assert part.url.endswith("/run-1/deeper")
    part.delete(["manifests/1.json"])
    assert [one.key for one in store.list()] == ["run-10/other"]


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("", "a part of it is empty"),
        ("/run.json", "a part of it is empty"),
        ("ckpt/", "a part of it is empty"),
        ("ckpt//model", "a part of it is empty"),
        ("../other-run/run.json", "'.' and '..' are no names"),
        ("ckpt/./model", "'.' and '..' are no names"),
        ("ckpt/model#1", "names that end in '#' and digits are those of unfinished files"),
    ],
)
def test_a_key_that_no_object_can_have_is_refused(store: Store, key: str, fault: str) -> None:
    with pytest.raises(StorageError) as raised:
        store.put(key, b"")
    assert raised.value.kind == "key"
    assert str(raised.value) == f"No object in {store.url} can have the key {key!r}: {fault}."
    assert store.list() == []


def test_text_and_paths_are_not_data(store: Store) -> None:
    """Obstore would read a file of that name."""
    for data in (__file__, "text"):
        with pytest.raises(TypeError, match=r"A store writes bytes, got str for a; encode it, or read the file\."):
            store.put("a", data)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what users may try
    with pytest.raises(TypeError, match="What is put with create=True is one buffer, got list for a"):
        store.put("a", [b"1", b"2"], create=True)
    assert store.list() == []


@pytest.mark.filterwarnings("error")
def test_a_probe_leaves_a_good_store_as_it_was(store: Store) -> None:
    store.put("run.json", ONE)
    probe(store)
    probe(store.at("a-new-run"))
    assert [one.key for one in store.list()] == ["run.json"]
