"""Every process of a run leaves a token, and supersedes what earlier ones saved past the step at which it begins."""

import threading

import pytest

from tests.checkpoint.test_retention import manifest
from trainhooks.checkpoint import begin_attempt, manifests_of
from trainhooks.checkpoint.attempts import Attempt, newest_attempt, superseded
from trainhooks.checkpoint.listing import Lister
from trainhooks.errors import CheckpointError
from trainhooks.store import open_store


def attempt(number: int, resumed_from: int | None) -> Attempt:
    return Attempt(number=number, resumed_from=resumed_from, token="t")


def test_attempts_are_counted_and_say_where_they_began() -> None:
    store = open_store("memory://")
    assert newest_attempt(store) == 0
    first = begin_attempt(store, resumed_from=None, facts={"host": "a"})
    second = begin_attempt(store, resumed_from=20)
    assert [one.key for one in store.list()] == ["attempts/000001.json", "attempts/000002.json"]
    assert Lister(store).list().attempts == (first, second)
    assert (first.number, first.resumed_from, first.facts) == (1, None, {"host": "a"})
    assert (second.number, second.resumed_from) == (2, 20)
    assert first.token != second.token
    assert newest_attempt(store) == 2


def test_processes_that_begin_together_are_different_attempts() -> None:
    """Keeps P69."""
    store = open_store("memory://")
    begun: list[int] = []
    barrier = threading.Barrier(8)

    def begin() -> None:
        barrier.wait(300)
        begun.append(begin_attempt(store, resumed_from=None).number)

    threads = [threading.Thread(target=begin, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert sorted(begun) == list(range(1, 9))


def test_what_an_earlier_attempt_saved_past_the_step_of_a_later_one_is_superseded() -> None:
    """Keeps P62."""
    manifests = [manifest(10, 1), manifest(20, 1), manifest(15, 2), manifest(25, 2), manifest(30, 3)]
    assert superseded(manifests, [attempt(1, None), attempt(2, 10)]) == {manifest(20, 1).key}
    assert superseded(manifests, [attempt(1, None), attempt(2, 10), attempt(3, 15)]) == {
        manifest(20, 1).key, manifest(25, 2).key,
    }  # fmt: skip


def test_an_attempt_that_began_from_nothing_supersedes_everything_before_it() -> None:
    manifests = [manifest(0, 1), manifest(10, 1), manifest(5, 2)]
    assert superseded(manifests, [attempt(1, None), attempt(2, None)]) == {manifest(0, 1).key, manifest(10, 1).key}


def test_a_token_that_cannot_be_read_is_told() -> None:
    store = open_store("memory://")
    store.put("attempts/000001.json", b'{"format":"trainhooks.attempt","version":1,"number":"1"}')
    with pytest.warns(
        RuntimeWarning, match=r"attempts/000001.json .* is passed over: it is not the token of an attempt"
    ):
        assert manifests_of(store) == []
    assert begin_attempt(store, resumed_from=None).number == 2
    with pytest.raises(CheckpointError, match="version 2"):
        Attempt.from_json(b'{"format":"trainhooks.attempt","version":2}')
