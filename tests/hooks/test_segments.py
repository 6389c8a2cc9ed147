"""Records in the run's folder: every one, once, in order, with what a dead process wrote past its checkpoint gone."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.run.saved import experiment, run
from trainhooks import BatchEnd, HookDefinitionError, HookSet, NoExperimentError, Record, at_points, train
from trainhooks.hooks import checkpoint, jsonl
from trainhooks.store import Store, open_store


def count(ctx: BatchEnd) -> Record:
    return Record({"n": float(ctx.at.updates)})


COUNT = HookSet(name="count", on_batch_end=count, provides=frozenset({"n"}))


def folder_of(root: Any) -> Store:
    store = open_store(experiment(root))
    ids = {one.key.partition("/")[0] for one in store.list()}
    return store.at(ids.pop())


def lines(folder: Store) -> list[dict[str, Any]]:
    text = "".join(bytes(folder.get(one.key)).decode() for one in folder.list("records"))
    return [json.loads(line) for line in text.splitlines()]


def counted(folder: Store) -> list[float]:
    return [line["values"]["n"] for line in lines(folder) if line["by"] == "count"]


@pytest.mark.parametrize("segment", [1, 150, 100_000])
def test_every_record_is_there_once_and_in_order(tmp_path: Path, segment: int) -> None:
    result = run(tmp_path, [COUNT, jsonl(segment=segment)], epochs=2)
    folder = folder_of(tmp_path)
    assert counted(folder) == [float(one) for one in range(1, 13)]
    assert [line["updates"] for line in lines(folder) if line["by"] == "loop"] == [6, 12]
    assert lines(folder)[-1] == {
        "epoch": 1, "updates": 12, "batches": 12, "by": "loop", "values": {"train/loss": result.metrics["train/loss"]},
    }  # fmt: skip
    assert len(folder.list("records")) == {1: 14, 150: 7, 100_000: 1}[segment]


def test_values_that_json_does_not_know_are_told_apart(tmp_path: Path) -> None:
    def odd(ctx: BatchEnd) -> Record:
        return Record({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1 + 0.2})

    run(tmp_path, [{"on_batch_end": odd, "provides": frozenset("abcd")}, jsonl()], updates=1)
    assert lines(folder_of(tmp_path))[0]["values"] == {"a": None, "b": "Infinity", "c": "-Infinity", "d": 0.1 + 0.2}


@pytest.mark.parametrize("segment", [1, 150, 100_000])
@pytest.mark.parametrize("stop", [4, 9])
def test_a_resumed_run_has_the_records_of_the_uninterrupted_one(tmp_path: Path, segment: int, stop: int) -> None:
    """Keeps P62."""
    hooks: Any = [COUNT, jsonl(segment=segment), checkpoint(when=at_points([stop], "updates"))]
    run(tmp_path / "whole", hooks, epochs=2, seed=1)

    def die(ctx: BatchEnd) -> None:
        if ctx.at.updates == stop + 2:
            raise KeyError("dead")

    with pytest.raises(KeyError):
        run(tmp_path / "parts", [*hooks, {"on_batch_end": die}], epochs=2, seed=1)
    dead = counted(folder_of(tmp_path / "parts"))
    assert dead[: stop + 1] == [float(one) for one in range(1, stop + 2)], "it wrote past its checkpoint"
    run(tmp_path / "parts", hooks, epochs=2, seed=1, resume="must")
    assert lines(folder_of(tmp_path / "parts")) == lines(folder_of(tmp_path / "whole"))


@pytest.mark.server
def test_nothing_is_sent_to_an_object_store_twice(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps P63."""
    root, sent = f"s3://{s3}/runs", list[int]()
    kind: Any = type(open_store(root))
    put = kind.put

    def counting(self: Any, key: str, data: Any, **more: Any) -> None:
        if "records/" in key:
            sent.append(len(data))
        put(self, key, data, **more)

    monkeypatch.setattr(kind, "put", counting)
    run(root, [COUNT, jsonl(segment=300)], epochs=3)
    folder = folder_of(root)
    produced = sum(len(json.dumps(line)) + 1 for line in lines(folder))
    assert len(sent) > 4
    assert sum(sent) == produced == sum(one.size for one in folder.list("records"))


def test_it_needs_an_experiment_and_a_size() -> None:
    from tests.loop.programs import batches, linear, sgd, squares

    model = linear()
    with pytest.raises(NoExperimentError, match="jsonl"):
        train(model, batches(1), squares, sgd(model), epochs=1, hooks=jsonl())
    with pytest.raises(HookDefinitionError, match="jsonl takes segment as a whole number from 1 on, got 0"):
        jsonl(segment=0)
